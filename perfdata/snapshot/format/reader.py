"""Read and check a snapshot file: its manifest, then its tables one by one."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from operator import methodcaller
from typing import IO, TYPE_CHECKING, Any

from perfdata.errors import SnapshotDamagedError, SnapshotStaleError
from perfdata.snapshot.format.frames import (
    BLOCK_BYTES,
    HEAD_MAX_BYTES,
    STATISTICS_MAX_BYTES,
    is_too_large,
    listed_bytes,
    read_first_frame,
    read_second_frame,
    translating_damage,
)
from perfdata.snapshot.format.manifest import FORMAT, Manifest, fingerprint_schema

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path
    from typing import Self

    from perfdata.postgres.statistics import Statistics

# Used with map(): a loop variable would hold a block, of any size, while the next is read.
_COUNT_LINES = methodcaller("count", b"\n")
# The line after the last table: the document's end, or a comma before the statistics.
_TABLES_END = {b"}}\n", b"},\n"}

# One value of a row. PostgreSQL accepts no text with NUL or lone surrogates.
VALUE = (
    rb'(?:null|"(?:[^"\\\x00-\x1f]++|\\(?:["\\/bfnrt]|u(?!0000|[dD][89a-fA-F])[0-9a-fA-F]{4}'
    rb'|u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}))*+")'
)


def row_pattern(columns: int) -> re.Pattern[bytes]:
    r"""Return the pattern of a whole block of rows with this many columns.

    Each line is ``[…],\n``; only the block's last may lack the comma. In a matching block each
    line is one row, both as JSON and as CSV for COPY: no string holds a newline, and escapes only
    occur in strings. With possessive quantifiers a mismatch takes no longer than a match: 0.36 s
    for 320,000 rows.
    """
    row = VALUE + rb"(?:,%b){%d}+" % (VALUE, columns - 1) if columns else b""
    return re.compile(rb"(?:\[%b\](?:,\n|\n\Z))++" % row)


@dataclass
class SnapshotFile:
    """A snapshot file whose manifest was read; plain data, so that it can be sent to a worker.

    Attributes:
        path: the file.
        manifest: its first frame.
        body_at: the offset of its second frame, in bytes.
        statistics: the planner's statistics, or None; known once the last table was read.
        checked: whether check() has passed, so that tables() need not check the rows again.
    """

    path: Path
    manifest: Manifest
    body_at: int
    statistics: Statistics | None = None
    checked: bool = False

    @classmethod
    def open(cls, path: Path) -> Self:
        """Read only the first frame.

        Raises SnapshotDamagedError, SnapshotStaleError for another version of the format, and
        SnapshotError if the file can't be read.
        """
        with translating_damage(path), path.open("rb") as file:
            text, offset = read_first_frame(file)
            if is_too_large(text):
                raise ValueError("its manifest has more values than any that perfdata writes")
            document = json.loads(text.decode("ascii").rstrip(",\n") + "}")
            if document.get("format") != FORMAT:
                raise SnapshotStaleError(
                    f"{path.name} is of format {document.get('format')!r}; this perfdata reads "
                    f"{FORMAT}",
                    remedy="Build or create it again",
                )
            return cls(path, Manifest.from_document(document), offset)

    def check(self) -> Self:
        """Compare bytes, tables, columns, rows and their number with the manifest.

        Raises SnapshotDamagedError.
        """
        self.check_bytes()
        manifest = self.manifest
        counted = {table.key: sum(map(_COUNT_LINES, table.blocks)) for table in self.tables()}
        if counted != dict(manifest.stats) or counted.keys() != manifest.schema.keys():
            raise self._damaged(
                f"it holds {counted} rows, its manifest says {dict(manifest.stats)}"
            )
        if fingerprint_schema(manifest.schema) != manifest.schema_fingerprint:
            raise self._damaged("its schema fingerprint does not match its schema")
        self.checked = True
        return self

    def check_bytes(self) -> None:
        """Compare the body's length and checksum with the manifest's, without parsing rows.

        Raises SnapshotDamagedError.
        """
        body = self.manifest.body
        digest, size = hashlib.sha256(), 0
        with translating_damage(self.path), self.path.open("rb") as file:
            file.seek(self.body_at)
            while chunk := file.read(BLOCK_BYTES):
                digest.update(chunk)
                size += len(chunk)
        if size != body.compressed_bytes:
            raise self._damaged(
                f"its body has {size:,} bytes where the manifest says {body.compressed_bytes:,}"
            )
        if digest.hexdigest() != body.sha256:
            raise self._damaged("its checksum is not the manifest's")

    def tables(self) -> Iterator[TableBody]:
        """Yield the tables in the order of the file; read each before asking for the next.

        Blocks of rows are checked as they are read, unless check() has passed. Raises
        SnapshotDamagedError, at the end also if the file was replaced after the manifest was read.
        """
        path, body = self.path, self.manifest.body
        with translating_damage(path), path.open("rb") as file:
            file.seek(self.body_at)
            hashing = _HashingReader(file)
            lines = _Lines(read_second_frame(path, hashing, body.bytes))
            if lines.next() != b'"tables": {\n':
                raise ValueError("the body does not begin with its tables")
            keys: set[str] = set()
            while (line := lines.next()) not in _TABLES_END:
                table = self._table(line, lines)
                if table.key in keys:
                    raise ValueError(f"table {table.key} comes twice")
                keys.add(table.key)
                yield table
                if lines.next() not in {b"]},\n", b"]}\n"}:
                    raise ValueError(f"table {table.key} does not end")
            if line == b"},\n":
                self.statistics = _statistics(lines)
            lines.end()
            while hashing.read(BLOCK_BYTES):
                pass
            if hashing.digest.hexdigest() != body.sha256:
                raise ValueError("it was replaced while it was read")

    def _table(self, line: bytes, lines: _Lines) -> TableBody:
        """Parse a table's head, and check that its columns are the manifest's."""
        ((key, head),) = _head(line).items()
        columns = self.manifest.schema.get(key)
        if columns is None or list(head["columns"]) != list(columns):
            raise self._damaged(f"table {key} has other columns in its body than in its manifest")
        pattern = None if self.checked else row_pattern(len(columns))
        return TableBody(key, head["columns"], head["types"], self.path, lines, pattern)

    def _damaged(self, what: str) -> SnapshotDamagedError:
        reason = f"{self.path.name} is damaged: {what}"
        return SnapshotDamagedError(reason, remedy="Build or create it again")


@dataclass(frozen=True)
class TableBody:
    """One table of a file, whose rows are read once, by ``blocks`` or ``skip``."""

    key: str
    columns: Sequence[str]
    types: Sequence[str]
    _path: Path
    _lines: _Lines
    _pattern: re.Pattern[bytes] | None

    @property
    def blocks(self) -> Iterator[bytes]:
        """The rows, in blocks of whole lines; SnapshotDamagedError for anything that is no row."""
        ended = False
        with translating_damage(self._path):
            for block in self._lines.rows():
                if self._pattern and (ended or self._pattern.fullmatch(block) is None):
                    raise ValueError(
                        f"a row of {self.key} is not one line with an array of as many texts as "
                        "it has columns"
                    )
                ended = not block.endswith(b",\n")
                yield block
                del block  # a row may be of any size: free it before the next is read

    def skip(self) -> None:
        """Read past the rows without checking them."""
        with translating_damage(self._path):
            for _ in self._lines.rows():
                pass


def _head(line: bytes) -> dict[str, Any]:
    if len(line) > HEAD_MAX_BYTES:
        raise ValueError("the head of a table is too long")
    head: dict[str, Any] = json.loads(b"{" + line + b"]}}")
    return head


def _statistics(lines: _Lines) -> Statistics:
    from perfdata.postgres.statistics import Statistics  # with psycopg, which lists do without

    head = _head(lines.next())["statistics"]
    relations: list[bytes] = []
    size_bytes = 0
    for block in lines.rows():
        size_bytes += listed_bytes(block, block.count(b"\n"))
        if size_bytes > STATISTICS_MAX_BYTES:
            raise ValueError("its planner statistics are too long")
        relations += [line.rstrip(b",") for line in block.split(b"\n") if line]
    if lines.next() != b"]}}\n":
        raise ValueError("its planner statistics have no end")
    return Statistics(head["environment"], relations)


class _HashingReader:
    """A file that hashes what a decompressor reads from it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self.digest.update(data)
        return data


class _Lines:
    """Reads whole lines, one by one or in blocks; a row in JSON contains no newline."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self._block = b""

    def next(self) -> bytes:
        """Return one line."""
        self._fill()
        end = self._block.index(b"\n") + 1
        line, self._block = self._block[:end], self._block[end:]
        return line

    def rows(self) -> Iterator[bytes]:
        """Yield blocks up to the line that ends the table, which starts like no row."""
        while True:
            self._fill()
            if self._block.startswith(b"]}"):
                return
            # Finding one byte is ten times faster than finding three, and few rows contain it.
            end = self._block.find(b"\n]}") + 1 if b"}" in self._block else 0
            end = end or len(self._block)
            block, self._block = self._block[:end], self._block[end:]
            yield block
            del block  # a row may be of any size: free it before the next is read

    def end(self) -> None:
        """Raise ValueError if lines follow."""
        if self._block or next(self._blocks, b""):
            raise ValueError("something follows its end")

    def _fill(self) -> None:
        if not self._block:
            self._block = next(self._blocks, b"")
        if not self._block:
            raise EOFError("its body ends too early")

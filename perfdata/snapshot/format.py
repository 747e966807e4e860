"""The snapshot file: one JSON document in two zstd frames, one row a line. Pure: no database.

The first frame is the manifest, all that stands before ``"tables"``; the second is the body. Each
carries its checksum, and the manifest holds the body's length and digest.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, fields
from operator import methodcaller
from typing import IO, TYPE_CHECKING, Any

import zstandard

from perfdata.errors import SnapshotDamagedError, SnapshotError, SnapshotStaleError
from perfdata.project import Migration
from perfdata.snapshot.frames import (
    BLOCK_BYTES,
    HEAD_MAX_BYTES,
    MANIFEST_MAX_BYTES,
    MANIFEST_MAX_VALUES,
    STATISTICS_MAX_BYTES,
    WINDOW_LOG,
    damage,
    is_too_large,
    listed_bytes,
    read_first_frame,
    read_second_frame,
)
from perfdata.snapshot.shape import check_columns, check_shape, row_pattern

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from perfdata.postgres.statistics import Statistics

FORMAT = "perfdata/1"
# On 325 MB of rows (5000_offices) and 6.5 MB (100_offices), seconds of a processor behind them:
# level 1 with long-distance matching gives 76 and 1.50 MB (0.9 s): it takes any 4 digits of random
# uuids that are alike. Two hash tables that match 7 bytes and more: 74 and 1.16 MB (1.2 s). Long
# matches from 32 bytes on, so that a uuid that a later table references is one: 71 and 1.12 MB
# (2.6 s); tables for more of them: 69 and 1.09 MB (3.6 s). Windows of up to 2^26 find nothing more;
# 2^27 does (66 MB), and costs 174 MB of memory where this takes 11.
_COMPRESSION = {
    "window_log": WINDOW_LOG,
    "strategy": zstandard.STRATEGY_DFAST,
    "hash_log": 18,
    "chain_log": 15,
    "min_match": 7,
    "enable_ldm": True,
    "ldm_min_match": 32,
    "ldm_hash_log": 18,
    "ldm_hash_rate_log": 4,
    "ldm_bucket_size_log": 3,
}
# No loop variable, which would hold a block while the next is read: a row may be of any size.
_COUNT_LINES = methodcaller("count", b"\n")
# What ends the tables: the document itself, or a comma and the statistics.
_TABLES_END = {b"}}\n", b"},\n"}


@dataclass(frozen=True)
class Body:
    """What the second frame must be: its length before and after, and its sha256 as stored."""

    bytes: int
    compressed_bytes: int
    sha256: str


@dataclass(frozen=True)
class Requirement:
    """Rows outside the snapshot that its rows reference by one constraint.

    ``keys`` are the values of ``columns`` of ``table``, as text; ``complete`` is False where there
    are more than are listed.
    """

    constraint: str
    table: str
    columns: Sequence[str]
    keys: Sequence[Sequence[str]]
    complete: bool


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a snapshot says of itself.

    ``stats`` are rows by table; ``schema`` says for each column of each table what decides whether
    its values fit, ``generated`` names those whose values are not here, ``primary_keys`` what tells
    rows apart; ``dataset_fingerprint`` is None unless
    the rows are a dataset's own, and ``key_parts`` are then what its cache key was made of.
    ``left_out`` are tables that lack the flag, ``whole_tables`` those of which every row was taken
    beside flagged ones; ``sequences`` tell the last value and whether it was given out; ``notes``
    say what stood in the database and is not here.
    """

    format: str = FORMAT
    name: str
    description: str
    created_at: str
    stats: Mapping[str, int]
    as_of: str | None
    all_rows: bool
    flag_column: str | None
    server_version: str
    server_encoding: str
    schema_fingerprint: str
    migrations: tuple[Migration, ...]
    dataset_fingerprint: str | None
    key_parts: Mapping[str, str] = field(default_factory=dict, repr=False)
    requires: tuple[Requirement, ...]
    left_out: Sequence[str]
    whole_tables: Sequence[str] = field(default_factory=list)
    sequences: Mapping[str, tuple[int, bool]] = field(default_factory=dict)
    populated_views: Sequence[str] = field(default_factory=list)
    notes: Sequence[str] = field(default_factory=list)
    schema: Mapping[str, Mapping[str, str]] = field(repr=False)
    generated: Mapping[str, Sequence[str]] = field(default_factory=dict, repr=False)
    primary_keys: Mapping[str, Sequence[str]] = field(default_factory=dict, repr=False)
    body: Body

    @property
    def rows(self) -> int:
        """The number of rows in all tables."""
        return sum(self.stats.values())


def fingerprint_schema(schema: Mapping[str, Mapping[str, str]]) -> str:
    """Hash the columns of tables, whatever order the tables come in."""
    text = json.dumps([[name, list(schema[name].items())] for name in sorted(schema)])
    return hashlib.sha256(text.encode()).hexdigest()


def compressor() -> zstandard.ZstdCompressor:
    """Make a compressor; not to be shared between threads."""
    parameters = zstandard.ZstdCompressionParameters.from_level(
        1, write_checksum=True, **_COMPRESSION
    )
    return zstandard.ZstdCompressor(compression_params=parameters)


class BodyWriter:
    """Writes the second frame to a file, table by table."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._frame = compressor().compressobj()
        self._digest = hashlib.sha256()
        self._bytes = self._compressed = 0
        self._before = b'"tables": {\n'

    def table(self, key: str, columns: Sequence[str], types: Sequence[str]) -> None:
        """Begin a table; the one before it is ended."""
        head = json.dumps({key: {"columns": list(columns), "types": list(types)}})
        self._write(self._before + head[1:-2].encode() + b', "rows": [')
        self._before = b"\n]},\n"
        self._separator = b"\n"

    def rows(self, block: bytes) -> None:
        """Write whole lines, each one row as a JSON array."""
        self._write(self._separator)
        # A block of one row may be of any size: it is not copied.
        lone = block.find(b"\n") == len(block) - 1
        self._write(memoryview(block)[:-1] if lone else block[:-1].replace(b"]\n", b"],\n"))
        self._separator = b",\n"

    def finish(self, statistics: Statistics | None = None) -> Body:
        """End the document, where they are known with the planner's statistics, and the frame."""
        self._write(self._before.rstrip(b",\n") + b"\n}")
        if statistics is not None:
            head = json.dumps({"statistics": {"environment": statistics.environment}})
            self._write(b",\n" + head[1:-2].encode() + b', "relations": [\n')
            self._write(b",\n".join(statistics.relations) + b"\n]}")
        self._write(b"}\n")
        self._store(self._frame.flush())
        return Body(self._bytes, self._compressed, self._digest.hexdigest())

    def _write(self, data: bytes | memoryview) -> None:
        self._bytes += len(data)
        self._store(self._frame.compress(data))

    def _store(self, data: bytes) -> None:
        self._compressed += len(data)
        self._digest.update(data)
        self._file.write(data)


def manifest_frame(manifest: Manifest) -> bytes:
    """Make the first frame: the manifest's entries, one a line, and the comma before the body.

    Raises SnapshotError for a manifest that is larger than read_manifest takes.
    """
    lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in asdict(manifest).items()]
    text = ("{" + ",\n ".join(lines) + ",\n").encode()
    if is_too_large(text):
        raise SnapshotError(
            f"snapshot {manifest.name} can't be saved: what describes its {len(manifest.schema):,} "
            f"tables takes {len(text):,} bytes, and no more than {MANIFEST_MAX_BYTES:,} with "
            f"{MANIFEST_MAX_VALUES:,} values are read again"
        )
    return compressor().compress(text)


def read_manifest(path: Path) -> tuple[Manifest, int]:
    """Read the first frame alone; return the manifest and where the body begins.

    Raises SnapshotDamagedError, SnapshotStaleError for a format of another version, and
    SnapshotError where the file can't be read.
    """
    with damage(path), path.open("rb") as file:
        text, offset = read_first_frame(file)
        if is_too_large(text):
            raise ValueError("its manifest has more values than any that perfdata writes")
        document = json.loads(text.decode("ascii").rstrip(",\n") + "}")
        if document.get("format") != FORMAT:
            raise SnapshotStaleError(
                f"{path.name} is of format {document.get('format')!r}; this perfdata reads {FORMAT}"
            )
        return _manifest(document), offset


def _manifest(document: dict[str, Any]) -> Manifest:
    known = {one.name for one in fields(Manifest)}
    document = {key: value for key, value in document.items() if key in known}
    check_shape(document)
    document["migrations"] = tuple(Migration(**one) for one in document["migrations"])
    document["requires"] = tuple(Requirement(**one) for one in document["requires"])
    document["body"] = Body(**document["body"])
    return Manifest(**document)


def check_file(path: Path) -> tuple[Manifest, int]:
    """Check a whole file against its manifest: bytes, tables, columns, each row, their number.

    Returns the manifest and where the body begins. Raises SnapshotDamagedError.
    """
    manifest, offset = check_digest(path)
    counted: dict[str, int] = {}
    for table in read_tables(path, offset, manifest.body):
        check_columns(path, manifest, table)
        counted[table.key] = sum(map(_COUNT_LINES, table.blocks))
    if counted != dict(manifest.stats) or counted.keys() != manifest.schema.keys():
        raise SnapshotDamagedError(
            f"{path.name} is damaged: it holds {counted} rows, its manifest says "
            f"{dict(manifest.stats)}. Build or create it again"
        )
    if fingerprint_schema(manifest.schema) != manifest.schema_fingerprint:
        raise SnapshotDamagedError(
            f"{path.name} is damaged: its schema fingerprint is not that of its schema. "
            "Build or create it again"
        )
    return manifest, offset


def check_digest(path: Path) -> tuple[Manifest, int]:
    """Compare every byte with the manifest's checksum; return it and where the body begins.

    Raises SnapshotDamagedError for one byte too many, too few or changed. The rows are not read.
    """
    manifest, offset = read_manifest(path)
    digest, size = hashlib.sha256(), 0
    with damage(path), path.open("rb") as file:
        file.seek(offset)
        while chunk := file.read(BLOCK_BYTES):
            digest.update(chunk)
            size += len(chunk)
    if size != manifest.body.compressed_bytes:
        raise SnapshotDamagedError(
            f"{path.name} is damaged: its body has {size:,} bytes where the manifest says "
            f"{manifest.body.compressed_bytes:,}. Build or create it again"
        )
    if digest.hexdigest() != manifest.body.sha256:
        raise SnapshotDamagedError(
            f"{path.name} is damaged: its checksum is not the manifest's. Build or create it again"
        )
    return manifest, offset


@dataclass(frozen=True)
class TableBody:
    """One table of the body; ``blocks`` yields whole lines and is to be read before the next."""

    key: str
    columns: Sequence[str]
    types: Sequence[str]
    blocks: Iterator[bytes]


def read_tables(
    path: Path,
    offset: int,
    body: Body,
    tell_statistics: Callable[[Statistics], None] = lambda _found: None,
    *,
    checked: bool = False,
) -> Iterator[TableBody]:
    """Yield the tables of a body that begins at ``offset``, in their order in the file.

    ``tell_statistics`` is given the planner's statistics, where there are any, after the last one.
    Each block of rows is checked as it is read (see row_pattern), unless ``checked`` says that
    check_file has read this very body. Raises SnapshotDamagedError, at the end also where what was
    read is not ``body``: the file may have been replaced since it was checked.
    """
    with damage(path), path.open("rb") as file:
        file.seek(offset)
        digesting = _Digesting(file)
        lines = _Lines(read_second_frame(path, digesting, body.bytes))
        if lines.next() != b'"tables": {\n':
            raise ValueError("the body does not begin with its tables")
        keys: set[str] = set()
        while (line := lines.next()) not in _TABLES_END:
            ((key, head),) = _head(line).items()
            if key in keys:
                raise ValueError(f"table {key} comes twice")
            keys.add(key)
            columns = head["columns"]
            rows = _rows(path, key, len(columns), lines, checked=checked)
            yield TableBody(key, columns, head["types"], rows)
            if lines.next() not in {b"]},\n", b"]}\n"}:
                raise ValueError(f"table {key} does not end")
        if line == b"},\n":
            tell_statistics(_statistics(lines))
        lines.end()
        while digesting.read(BLOCK_BYTES):
            pass
        if digesting.digest.hexdigest() != body.sha256:
            raise ValueError("it was replaced while it was read")


def _rows(path: Path, key: str, columns: int, lines: _Lines, *, checked: bool) -> Iterator[bytes]:
    """Yield a table's blocks; raise SnapshotDamagedError for what is no row of so many columns."""
    pattern, ended = None if checked else row_pattern(columns), False
    with damage(path):
        for block in lines.rows():
            if pattern is not None and (ended or pattern.fullmatch(block) is None):
                raise ValueError(f"a row of {key} is not one line with an array of {columns} texts")
            ended = not block.endswith(b",\n")
            yield block
            del block  # a row may be of any size: it is not held while the next is read


def _head(line: bytes) -> dict[str, Any]:
    if len(line) > HEAD_MAX_BYTES:
        raise ValueError("the head of a table is too long")
    head: dict[str, Any] = json.loads(b"{" + line + b"]}}")
    return head


def _statistics(lines: _Lines) -> Statistics:
    from perfdata.postgres.statistics import Statistics

    head = _head(lines.next())["statistics"]
    relations: list[bytes] = []
    size_bytes = 0
    for block in lines.rows():
        size_bytes += listed_bytes(block, block.count(b"\n"))
        if size_bytes > STATISTICS_MAX_BYTES:
            raise ValueError("its planner statistics are too long")
        relations += [line.rstrip(b",") for line in block.split(b"\n") if line]
    if lines.next() != b"]}}\n":
        raise ValueError("the statistics do not end")
    return Statistics(head["environment"], relations)


class _Digesting:
    """A file, as far as a decompressor needs one, that hashes what is read from it."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__()
        self._file = file
        self.digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self.digest.update(data)
        return data


class _Lines:
    """Reads whole lines, singly or in blocks: a JSON row holds no newline of its own."""

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
        """Yield blocks up to the line that closes the table, which begins as no row does."""
        while True:
            self._fill()
            if self._block.startswith(b"]}"):
                return
            # One byte is found ten times faster than three, and few rows hold this one.
            end = self._block.find(b"\n]}") + 1 if b"}" in self._block else 0
            end = end or len(self._block)
            block, self._block = self._block[:end], self._block[end:]
            yield block
            del block  # a row may be of any size: not held while the next is read

    def end(self) -> None:
        """Raise ValueError where a line is left."""
        if self._block or next(self._blocks, b""):
            raise ValueError("something stands behind its end")

    def _fill(self) -> None:
        if not self._block:
            self._block = next(self._blocks, b"")
        if not self._block:
            raise EOFError("the body ends too early")

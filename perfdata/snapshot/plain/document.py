"""A plain JSON document with the rows of tables: what it says of itself, and the rows."""

from __future__ import annotations

import gzip
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import IO, TYPE_CHECKING, Any, cast

import zstandard

from perfdata.config import SNAPSHOT_SUFFIX
from perfdata.errors import SnapshotDamagedError, SnapshotError
from perfdata.progress import Event
from perfdata.snapshot.plain.stream import JsonStream
from perfdata.text import join_first

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from perfdata.progress import Report

_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_SHOWN_CHARACTERS = 500  # a name in the file may be of any length
_REPORTED_ROWS = 10_000
_OWN_FORMAT = "perfdata/"


@dataclass(frozen=True)
class PlainTable:
    """A table of a document: its columns, and the number of its rows."""

    columns: tuple[str, ...]
    rows: int


@dataclass(frozen=True)
class PlainDocument:
    """A document that was read to its end once: it is whole, and its ``stats`` are right.

    ``name``, ``description`` and ``created_at`` are empty where it has none.
    """

    path: Path
    name: str
    description: str
    created_at: str
    tables: Mapping[str, PlainTable]

    @classmethod
    def read(cls, path: Path, report: Report) -> PlainDocument:
        """Read the whole document, and keep no row.

        Raises SnapshotDamagedError for anything but such a document, and SnapshotError if the file
        can't be read.
        """
        facts: dict[str, Any] = {}
        tables: dict[str, PlainTable] = {}
        rows_read = 0
        for table in _tables(path, facts):
            rows = 0
            for _ in table.rows:
                rows += 1
                if not rows % _REPORTED_ROWS:
                    report(Event(f"reading {path.name}", rows_read + rows))
            tables[table.key] = PlainTable(table.columns, rows)
            rows_read += rows
        report(Event(f"reading {path.name}", rows_read, rows_read))
        with _explained(path):
            _check_stats(facts, tables)
            name, description, created_at = map(
                partial(_text, facts), ("name", "description", "created_at")
            )
        return cls(path, name, description, created_at, tables)

    def rows(self) -> Iterator[TableOfDocument]:
        """Yield the tables again; read the rows of each before the next."""
        return _tables(self.path, {})


class TableOfDocument:
    """A table while it is read; its columns are those of its first row, known after it."""

    def __init__(self, path: Path, stream: JsonStream, key: str) -> None:
        self.key = key
        self.columns: tuple[str, ...] = ()
        self._path = path
        self._stream = stream

    @property
    def rows(self) -> Iterator[list[Any]]:
        """The rows, once: their values in the order of the columns."""
        number = 1
        try:
            for row in self._stream.items():
                yield self._values(row)
                number += 1
        except ValueError as error:
            raise _damaged(self._path, f"{self.key}, row {number}: {error}") from error

    def _values(self, row: Any) -> list[Any]:
        if not isinstance(row, dict):
            raise ValueError("it is no object")  # noqa: TRY004  the document is wrong, not the code
        columns = tuple(row)
        if columns == self.columns:
            return list(row.values())
        if not self.columns:
            self.columns = columns
        if row.keys() != set(self.columns):
            differing = sorted(row.keys() ^ set(self.columns))
            raise ValueError(f"its columns are not those of the first row: {join_first(differing)}")
        return [row[column] for column in self.columns]


def _tables(path: Path, facts: dict[str, Any]) -> Iterator[TableOfDocument]:
    """Yield the tables of a document, and collect its other members in ``facts``."""
    with _explained(path), _opened(path) as file:
        stream = JsonStream(file.read)
        names = []
        for name in stream.members():
            names.append(name)
            if name != "tables":
                facts[name] = stream.value()
                continue
            if str(facts.get("format")).startswith(_OWN_FORMAT):
                raise SnapshotError(
                    f"{path} is a snapshot of perfdata already",
                    remedy=f"Copy it to .perfdata/snapshots/NAME{SNAPSHOT_SUFFIX}",
                )
            for key in stream.members():
                yield TableOfDocument(path, stream, key)
        stream.end()
        if "tables" not in names:
            raise ValueError("it has no tables")


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """Open a file that is plain, or compressed by gzip or zstd, as its first bytes say."""
    if not path.is_file():
        raise SnapshotError(f"{path} is no file" if path.exists() else f"{path} does not exist")
    with path.open("rb") as file:
        first = file.peek(4)[:4]
        if first.startswith(_GZIP):
            yield cast("IO[bytes]", gzip.GzipFile(fileobj=file))
        elif first == _ZSTD:
            reader = zstandard.ZstdDecompressor().stream_reader(
                file, read_across_frames=True, closefd=False
            )
            yield cast("IO[bytes]", reader)
        else:
            yield file


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except (ValueError, EOFError, gzip.BadGzipFile, zlib.error, zstandard.ZstdError) as error:
        raise _damaged(path, str(error)) from error
    except OSError as error:
        raise SnapshotError(f"{path} can't be read: {error.strerror or error}") from error


def _damaged(path: Path, what: str) -> SnapshotDamagedError:
    return SnapshotDamagedError(
        f"{path} can't be imported: {what[:_SHOWN_CHARACTERS]}",
        remedy="Expected one JSON object with name, stats and tables, each table a list of rows",
    )


def _text(facts: Mapping[str, Any], name: str) -> str:
    text = facts.get(name) or ""
    if type(text) is not str:
        raise ValueError(f"its {name} is no text")
    return text


def _check_stats(facts: Mapping[str, Any], tables: Mapping[str, PlainTable]) -> None:
    stats = facts.get("stats")
    if not isinstance(stats, dict):
        raise ValueError("it has no stats")  # noqa: TRY004  the document is wrong, not the code
    differing = [
        f"{key} has {tables[key].rows if key in tables else 0:,} rows, stats says {stats.get(key)}"
        for key in {**stats, **tables}
        if stats.get(key) != str(tables[key].rows if key in tables else 0)
    ]
    if differing:
        raise ValueError(join_first(differing))

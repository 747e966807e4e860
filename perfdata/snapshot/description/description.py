"""Describe a dataset: its rows are generated and counted; nothing is loaded or saved."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from perfdata.config import Settings
from perfdata.errors import ElsewhereError, RefusedError
from perfdata.load.disk_space import rows_bytes
from perfdata.load.selection import Selection
from perfdata.postgres.catalog import Catalog, Table
from perfdata.postgres.connection import explicit_conninfo, open_link
from perfdata.postgres.reflection import read_catalog
from perfdata.postgres.url import normalise_url
from perfdata.progress import Event, silent
from perfdata.project import load_project
from perfdata.snapshot.checks.state import SnapshotState, State, snapshot_state
from perfdata.snapshot.description.columns import TableCounter, binary_rows, text_rows
from perfdata.snapshot.format.writer import compressor
from perfdata.snapshot.rows import DatasetRows
from perfdata.target.target import open_target

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from zstandard import ZstdCompressionObj

    from perfdata.dataset import Dataset, TableRows
    from perfdata.load.plan import TableLoad
    from perfdata.progress import Report
    from perfdata.snapshot.description.columns import ColumnDescription


@dataclass(frozen=True)
class TableDescription:
    """A table: its rows, the size of their text, and its columns."""

    table: str
    rows: int
    text_bytes: int
    columns: tuple[ColumnDescription, ...]


@dataclass(frozen=True)
class DatasetDescription:
    """What a dataset generates.

    Attributes:
        fingerprint: of everything that decides the rows.
        snapshot: the state of the dataset's snapshot.
        snapshot_bytes: the size of its snapshot's file: measured if that is current, else
            estimated by compressing the rows.
    """

    dataset: Dataset
    fingerprint: str
    tables: tuple[TableDescription, ...]
    snapshot: SnapshotState
    snapshot_bytes: int

    @property
    def database_bytes(self) -> int:
        """What the rows take in a database at most, estimated: tables, indexes, the load's log."""
        return rows_bytes(sum(table.text_bytes for table in self.tables), self.rows)

    @property
    def rows(self) -> int:
        """The number of rows in all tables."""
        return sum(table.rows for table in self.tables)

    @property
    def measured(self) -> bool:
        """Whether ``snapshot_bytes`` is the size of a file."""
        return self.snapshot.state is State.CURRENT


def describe_dataset(
    name: str, *, settings: Settings | None = None, report: Report = silent
) -> DatasetDescription:
    """Generate a dataset's rows, and describe them.

    A database is used only where the rows need one: the settings' is opened if they come as Python
    values, or if the dataset's code reads it. Raises DatasetNotFoundError, ProjectCodeError for an
    exception of the dataset's code, and what open_target raises.
    """
    settings = settings or Settings.load()
    project = load_project(settings)
    dataset = project.dataset(name)
    try:
        with project.variables().applied():
            tables, packed_bytes = _count(_without_database(dataset, settings), report)
    except (_DatabaseNeededError, ElsewhereError):
        target = open_target(settings, report, park=False)
        conninfo = explicit_conninfo(target.conninfo)
        variables = project.variables(conninfo)
        with open_link(conninfo) as link, variables.applied():
            rows = _rows(dataset, conninfo, variables.loopback)
            tables, packed_bytes = _count(rows.tables(read_catalog(link)), report)
    state = snapshot_state(name, project, settings)
    if state.state is State.CURRENT and state.snapshot is not None:
        packed_bytes = state.snapshot.size_bytes
    return DatasetDescription(dataset, dataset.fingerprint(), tables, state, packed_bytes)


def _without_database(dataset: Dataset, settings: Settings) -> Iterator[TableLoad]:
    """Yield the tables; raise _DatabaseNeededError for rows that are not COPY text."""

    def generate(dataset: Dataset) -> Iterable[TableRows]:
        tables = given(dataset)
        return tables and map(_text_only, tables)  # None is an error that the rows name

    given = dataset.generate
    conninfo = None if settings.database_url is None else normalise_url(settings.database_url)
    return _rows(replace(dataset, generate=generate), conninfo).tables(_AnyTables((), (), (), ()))


def _text_only(rows: TableRows) -> TableRows:
    if getattr(rows, "rows", None) is not None or getattr(rows, "arrow", None) is not None:
        raise _DatabaseNeededError
    return rows


def _rows(dataset: Dataset, conninfo: str | None, loopback: str | None = None) -> DatasetRows:
    return DatasetRows(dataset, Selection(None), conninfo, adopt="", loopback=loopback)


class _DatabaseNeededError(RefusedError):
    """The rows can't be made without the tables' columns."""


class _AnyTable(Table):
    """A table of which only the name is known, as a dataset gives it."""

    @property
    def key(self) -> str:
        return self.name


class _AnyTables(Catalog):
    """A catalog that has any table."""

    def table(self, key: str) -> Table:
        return _AnyTable(
            "public", key, partitioned=False, oid=0, hidden=False, primary_key=(), columns=()
        )


def _count(loads: Iterator[TableLoad], report: Report) -> tuple[tuple[TableDescription, ...], int]:
    """Count the rows of all tables; return them, and the size of their text when compressed."""
    frame, packed_bytes = compressor().compressobj(), 0
    tables = []
    for load in loads:
        columns = load.columns or [column.name for column in load.table.stored]
        counter, event = TableCounter(columns, load.table.key), f"counting {load.table.key}"
        passing = _Compressed(load.blocks, frame)
        read_rows = text_rows if load.copy_format.name == "text" else binary_rows
        for rows in read_rows(passing):
            counter.add(rows)
            report(Event(event, counter.rows))
        report(Event(event, counter.rows, counter.rows))
        packed_bytes += passing.packed_bytes
        described = counter.described()
        tables.append(TableDescription(load.table.key, counter.rows, passing.bytes, described))
    return tuple(tables), packed_bytes + len(frame.flush())


class _Compressed:
    """Passes blocks on, and measures them and what they are when compressed."""

    def __init__(self, blocks: Iterable[bytes], frame: ZstdCompressionObj) -> None:
        self._blocks = blocks
        self._frame = frame
        self.bytes = self.packed_bytes = 0

    def __iter__(self) -> Iterator[bytes]:
        for block in self._blocks:
            self.bytes += len(block)
            self.packed_bytes += len(self._frame.compress(block))
            yield block

"""The plan of a load, the source of its rows, and its result."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Protocol

from perfdata.postgres.catalog import table_key
from perfdata.postgres.locks import LOCK_TIMEOUT_S

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from psycopg import sql

    from perfdata.generate.tables import GeneratedRows
    from perfdata.load.selection import Selection
    from perfdata.load.sequences import SequenceState
    from perfdata.postgres.catalog import Catalog, ForeignKey, Table
    from perfdata.postgres.copy import CopyFormat
    from perfdata.postgres.link import Check, Link
    from perfdata.postgres.statistics import Statistics
    from perfdata.progress import Report


class Existing(Enum):
    """What a load does with existing rows."""

    REPLACE = "selected rows are removed, all others stay"
    KEEP = "all rows stay"
    NONE = "a table with rows is refused"
    ALL = "all rows are removed"


class Strategy(Enum):
    """How rows were loaded; the values are shown in results and in the audit log."""

    WHOLE_TABLES = "whole tables"
    BESIDE = "beside other data"
    ADDED = "added to what was there"


@dataclass(frozen=True)
class TableLoad:
    """A table's rows for COPY: blocks of whole lines in ``copy_format``.

    ``origin`` names what made the rows, in errors; empty for a snapshot. ``rows_read`` returns how
    many rows the blocks had that were read; without it they are counted by their lines. ``parts``
    are the same rows where each of their blocks can be generated alone, in a distributed build.
    """

    table: Table
    columns: Sequence[str]
    blocks: Iterable[bytes]
    copy_format: CopyFormat
    origin: str = ""
    rows_read: Callable[[], int] | None = None
    parts: Sequence[GeneratedRows] = ()


class Distributor(Protocol):
    """What loads the rows of generated tables over several connections (see load.ranges)."""

    def copy(self, load: TableLoad, expected: int | None, report: Report) -> int:
        """Load a table's rows, each once, and return their number."""


class RowSource(Protocol):
    """The source of a load's rows.

    Implemented in snapshot/rows.py by SnapshotRows, which reads a snapshot file, and DatasetRows,
    which generates a dataset.
    """

    @property
    def statistics(self) -> Statistics | None:
        """The planner statistics of the rows, or None; available once all tables are read."""

    def check(self, link: Link, plan: Plan) -> None:
        """Raise RefusedError if the rows may not replace the existing ones.

        Called in the load's transaction, with its locks held, before its first change.
        """

    def tables(self, catalog: Catalog, keys: Collection[str] | None = None) -> Iterator[TableLoad]:
        """Yield all tables, or those in ``keys``; read the rows of each table before the next."""


@dataclass(frozen=True)
class Plan:
    """What a load does with which tables.

    Attributes:
        catalog: the tables when the load was planned; the load refuses to run if they changed.
        tables: the tables that may be filled, in foreign-key order.
        existing: what happens to existing rows.
        staying: the number of unflagged rows, by table key, that stay although all others are
            removed (``Existing.ALL``, in a private database).
        selection: the rows that are loaded and replaced.
        counts: expected number of rows by table key, if known; any other number is an error.
        checks: checks to make with the locks held, before the first change.
        sequences: the states of sequences in the snapshot, by key.
        populated: keys of the materialised views to be populated.
        lock_timeout_s: how long to wait for locks.
        notes: messages for users, returned with the result.
        owned: whether perfdata owns the database.
        rebuild_indexes: whether to drop and rebuild indexes even if others read the tables.
        sealed: whether perf tests will measure the rows: then all are frozen and analysed.
        application_name: the session's application_name during the load.
        columns: the columns that are loaded, by table key, if known.
        as_superuser: whether code written by other roles may run.
    """

    catalog: Catalog
    tables: Sequence[Table]
    existing: Existing
    selection: Selection
    counts: Mapping[str, int] | None = None
    staying: Mapping[str, int] = field(default_factory=dict)
    checks: Sequence[Check] = ()
    sequences: Mapping[str, SequenceState] = field(default_factory=dict)
    populated: Collection[str] = ()
    lock_timeout_s: float = LOCK_TIMEOUT_S
    notes: tuple[str, ...] = ()
    owned: bool = False
    rebuild_indexes: bool = False
    sealed: bool = False
    application_name: str = "perfdata"
    columns: Mapping[str, Collection[str]] | None = None
    as_superuser: bool = False

    @property
    def foreign_keys(self) -> list[ForeignKey]:
        """The foreign keys from or to the tables."""
        oids = {table.oid for table in self.tables}
        return [k for k in self.catalog.foreign_keys if k.child in oids or k.parent in oids]

    @property
    def whole_tables(self) -> list[Table]:
        """The tables that are replaced whole."""
        return [table for table in self.tables if self.selection.takes_whole(table)]

    @property
    def rows_without_flag(self) -> list[tuple[Table, sql.Composable]]:
        """The tables whose loaded rows no flag marks, and the condition for these rows.

        They are not known in covered tables if flagged rows stay there.
        """
        covered = () if self.existing is Existing.KEEP else self.selection.covered
        return [
            (table, self.selection.where(table))
            for table in self.tables
            if self.selection.takes_whole(table) or table.key in covered
        ]

    @property
    def tables_read(self) -> list[Table]:
        """The tables that the load reads: those touched, and those that share their sequences."""
        oids = {table.oid for table in self.tables}
        names = {
            (sequence.schema, sequence.name)
            for sequence in self.catalog.sequences
            if sequence.table in oids or table_key(sequence.schema, sequence.name) in self.sequences
        }
        fed = {
            sequence.table
            for sequence in self.catalog.sequences
            if (sequence.schema, sequence.name) in names
        }
        return [*self.touched, *(self.catalog.by_oid[oid] for oid in fed)]

    @property
    def touched(self) -> list[Table]:
        """The tables and those that foreign keys tie to them, in locking order."""
        oids = {table.oid for table in self.tables}
        for key in self.catalog.foreign_keys:
            if key.child in oids or key.parent in oids:
                oids = oids | {key.child, key.parent}
        return [self.catalog.by_oid[oid] for oid in sorted(oids)]


@dataclass(frozen=True)
class Loaded:
    """The result of a load.

    Attributes:
        rows: number of rows by table key.
        notes: messages for users.
        transactions: those that filled whole tables of an owned database (see Provenance).
    """

    rows: dict[str, int]
    strategy: Strategy
    notes: tuple[str, ...]
    transactions: Sequence[tuple[int, int]] = ()

"""What a load is asked to do, where its rows come from, and what it did."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Protocol

from perfdata.postgres.catalog import table_key
from perfdata.postgres.locks import LOCK_TIMEOUT_S

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from perfdata.load.selection import Selection
    from perfdata.load.sequences import SequenceState
    from perfdata.postgres.catalog import Catalog, Table
    from perfdata.postgres.copy import CopyFormat
    from perfdata.postgres.link import Check, Link
    from perfdata.postgres.statistics import Statistics


class Existing(Enum):
    """What a load does with the rows that a table has."""

    REPLACE = "selected rows are removed, all others stay"
    KEEP = "all rows stay"
    NONE = "a table with rows is refused"
    ALL = "all rows are removed"


class Strategy(Enum):
    """How the rows were loaded, as results and the server's log say it."""

    WHOLE_TABLES = "whole tables"
    BESIDE = "beside other data"
    ADDED = "added to what was there"


@dataclass(frozen=True)
class TableLoad:
    """One table's rows for COPY: blocks of whole lines in the format ``form``."""

    table: Table
    columns: Sequence[str]
    blocks: Iterable[bytes]
    form: CopyFormat


class RowSource(Protocol):
    """Where a load's rows come from."""

    @property
    def statistics(self) -> Statistics | None:
        """The planner's statistics of the rows, or None; known when every table was read."""

    def check(self, link: Link, plan: Plan) -> None:
        """Raise RefusedError where the rows may not replace those that are there.

        Called in the load's transaction, under its locks and before its first change.
        """

    def tables(self, catalog: Catalog, keys: Collection[str] | None = None) -> Iterator[TableLoad]:
        """Yield the tables, or those with these keys; each is read before the next is asked for."""


@dataclass(frozen=True)
class Plan:
    """What a load does with which tables.

    Attributes:
        catalog: the tables as they were when the load was planned; the load refuses others.
        tables: the tables that may be filled, in foreign-key order.
        existing: what becomes of the rows that these have.
        selection: the rows that are loaded, and that are replaced.
        counts: rows to come by table key, where known: the load fails where others come.
        checks: queries that are judged under the locks, before the first change.
        sequences: where sequences are to stand.
        populated: materialised views to be filled.
        lock_timeout_s: how long locks are waited for.
        notes: what a user should know, returned with the result.
        owned: whether the database is perfdata's own.
        rebuild_indexes: whether indexes are dropped and rebuilt also where others read the tables.
        sealed: whether the rows will be measured: all are frozen, and statistics are of every row.
        application_name: the session's while it loads.
        columns: the columns that come, by table key, where known.
        as_superuser: whether code that other roles wrote may run.
    """

    catalog: Catalog
    tables: Sequence[Table]
    existing: Existing
    selection: Selection
    counts: Mapping[str, int] | None = None
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
    def read(self) -> list[Table]:
        """The tables that queries read: those touched, and those that share their sequences."""
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
        """The tables and their neighbours by foreign key, in the order of locking."""
        oids = {table.oid for table in self.tables}
        for key in self.catalog.foreign_keys:
            if key.child in oids or key.parent in oids:
                oids = oids | {key.child, key.parent}
        return [self.catalog.by_oid[oid] for oid in sorted(oids)]


@dataclass(frozen=True)
class Loaded:
    """What a load did: rows by table key, how, and what a user should know."""

    rows: dict[str, int]
    strategy: Strategy
    notes: tuple[str, ...]

"""What a load is told, and what it tells: plans, streams of rows, results."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from perfdata.postgres.catalog import table_key
from perfdata.postgres.locks import LOCK_TIMEOUT_S

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from perfdata.database.sequences import SequenceState
    from perfdata.postgres.catalog import Catalog, Table
    from perfdata.postgres.copy import CopyFormat
    from perfdata.postgres.link import Check, Link
    from perfdata.postgres.statistics import Statistics


class Existing(Enum):
    """What a load does with the rows that are there before."""

    REPLACE = "flagged rows go, all others stay"
    KEEP = "all rows stay"
    NONE = "there may be none"
    ALL = "all rows go"


class Strategy(Enum):
    """How the rows came in."""

    WHOLE_TABLES = "whole tables"
    BESIDE = "beside other data"
    ADDED = "added to what was there"


@dataclass(frozen=True)
class TableLoad:
    """One table's rows for COPY: blocks of whole lines in the format of ``form``."""

    table: Table
    columns: Sequence[str]
    blocks: Iterable[bytes]
    form: CopyFormat


@dataclass(frozen=True)
class Plan:
    """What a load is to do with which tables.

    ``counts`` are the rows that come, by table key, where that is known beforehand: the load fails
    where others come. ``flagged`` tells that all of them carry the flag. ``checks`` are made under
    the locks, before the first change; ``last_check`` after them, where queries alone don't do. Of
    the tables ``whole`` (by oid) every row is replaced: a check has seen that none is lost.
    ``sequences`` and ``populated`` (materialised views) are as the rows were with where they come
    from; so are ``statistics``, the planner's, which are asked for when all rows are in. Locks are
    waited for ``lock_timeout_s`` at most. ``owned`` tells that the database is perfdata's own;
    ``rebuild_indexes`` drops indexes and builds them again also where others read the tables. What
    is ``sealed`` will be measured: all rows are frozen, and statistics that must be gathered are of
    every row. ``brought`` are the columns that come, by table key, where that is known;
    ``as_superuser`` lets code of other roles run. ``notes`` are told with the result.
    ``application_name`` is the session's while it loads.
    """

    catalog: Catalog
    tables: Sequence[Table]
    existing: Existing
    flag_column: str
    counts: Mapping[str, int] | None = None
    flagged: bool = True
    checks: Sequence[Check] = ()
    last_check: Callable[[Link], None] | None = None
    whole: Collection[int] = ()
    sequences: Mapping[str, SequenceState] = field(default_factory=dict)
    populated: Collection[str] = ()
    lock_timeout_s: float = LOCK_TIMEOUT_S
    notes: tuple[str, ...] = ()
    statistics: Callable[[], Statistics | None] = lambda: None
    owned: bool = False
    rebuild_indexes: bool = False
    sealed: bool = False
    application_name: str = "perfdata"
    brought: Mapping[str, Collection[str]] | None = None
    as_superuser: bool = False

    @property
    def read(self) -> list[Table]:
        """The tables that queries look at: those touched, and what shares a sequence with them."""
        oids = {table.oid for table in self.tables}
        names = {
            (one.schema, one.name)
            for one in self.catalog.sequences
            if one.table in oids or table_key(one.schema, one.name) in self.sequences
        }
        fed = {one.table for one in self.catalog.sequences if (one.schema, one.name) in names}
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

"""The loader: streams of COPY blocks into tables, atomically, with every constraint checked."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from psycopg import sql

from perfdata.database.catalog import read_catalog
from perfdata.database.connection import first
from perfdata.database.guard import check_boundary
from perfdata.database.sequences import advance_sequences
from perfdata.database.structure import taken_off
from perfdata.errors import BoundaryError, LoadError, RefusedError, SchemaError, ServerRefusedError
from perfdata.progress import Event

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from perfdata.database.catalog import Catalog, Table
    from perfdata.database.link import CopyFormat, Link
    from perfdata.progress import Report

LOCK_TIMEOUT_S = 10
# Every load takes it, and every create shares it: two loads would dead-lock, and TRUNCATE and
# FREEZE are seen by snapshots that are older than they.
ADVISORY_LOCK = 0x70657266
_LOCK_NOT_AVAILABLE = "55P03"
_KEY_TAKEN = {"23505", "23P01"}  # by a unique or an exclusion constraint

_HOLDERS = """
SELECT DISTINCT format('%%s holds %%s (pid %%s%%s)', l.mode, l.relation::regclass, l.pid,
  nullif(', ' || coalesce(a.application_name, ''), ', '))
FROM pg_locks l LEFT JOIN pg_stat_activity a USING (pid)
WHERE l.granted AND l.relation = ANY (%s) AND l.pid <> pg_backend_pid()"""


class Existing(Enum):
    """What a load does with the rows that are there before."""

    REPLACE = "flagged rows go, all others stay"
    KEEP = "all rows stay"
    NONE = "there may be none"


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
    where others come. ``flagged`` tells that all of them carry the flag. ``check`` runs under the
    locks, before the first change.
    """

    catalog: Catalog
    tables: Sequence[Table]
    existing: Existing
    flag_column: str
    counts: Mapping[str, int] | None = None
    flagged: bool = True
    check: Callable[[Link], None] = lambda _link: None


@dataclass(frozen=True)
class Loaded:
    """What a load did: rows by table key, how, and what a user should know."""

    rows: dict[str, int]
    strategy: Strategy
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Before:
    """How many rows of a table stay, how many go, and how they are made to."""

    table: Table
    staying: int
    going: int
    truncate: bool

    @property
    def aside(self) -> sql.Identifier | None:
        """The temporary table that keeps the staying rows while the table is emptied."""
        return sql.Identifier(f"perfdata_kept_{self.table.oid}") if self.staying else None


def load(link: Link, plan: Plan, loads: Iterable[TableLoad], report: Report) -> Loaded:
    """Bring in the rows of ``loads`` in one transaction, in a savepoint where one was joined.

    Each unflagged row is afterwards as it was, and nothing about a table but its rows differs.
    Raises BoundaryError, RefusedError, LoadError or SchemaError with everything as it was before.
    """
    _refuse_old_views(link)
    link.changed = True
    with _translated(link, plan), link.transaction({"lock_timeout": f"{LOCK_TIMEOUT_S}s"}):
        _lock(link, plan, report)
        if read_catalog(link) != plan.catalog:
            raise SchemaError("the tables changed while the load waited for them; run it again")
        plan.check(link)
        if plan.existing is Existing.REPLACE:
            check_boundary(link, plan.catalog, plan.flag_column, plan.tables)
        before = [_look(link, plan, table) for table in plan.tables]
        coming = sum(plan.counts.values()) if plan.counts is not None else None
        with taken_off(link, plan.catalog, plan.tables, coming) as told:
            _clear(link, plan, before)
            rows = _copy_all(link, plan, before, loads, report)
            _put_back(link, before)
            _check_flags(link, plan, before)
            advance_sequences(link, plan.catalog, plan.tables)
    notes = [*_bloat(before), *told]
    if not link.joined:
        notes += _vacuum(link, plan)
    return Loaded(rows, _strategy(plan, before), tuple(notes))


@contextmanager
def loads_held_off(link: Link, *, shared: bool) -> Iterator[None]:
    """Keep other loads out for a block: over transactions, or for the rest of a joined one.

    Raises LoadError where another has not ended within the lock timeout.
    """
    number = sql.Literal(ADVISORY_LOCK)
    way = sql.SQL("_shared" if shared else "")
    timeout = {"lock_timeout": f"{LOCK_TIMEOUT_S}s"}
    if link.joined:
        with _too_long(), link.transaction(timeout):
            link.rows(sql.SQL("SELECT pg_advisory_xact_lock{}({})").format(way, number))
        yield
        return
    before = link.value("SHOW lock_timeout")
    change = "SELECT set_config('lock_timeout', %s, false)"
    link.rows(change, (timeout["lock_timeout"],))
    try:
        with _too_long():
            link.rows(sql.SQL("SELECT pg_advisory_lock{}({})").format(way, number))
    finally:
        link.rows(change, (before,))
    try:
        yield
    finally:
        link.rows(sql.SQL("SELECT pg_advisory_unlock{}({})").format(way, number))


@contextmanager
def _too_long() -> Iterator[None]:
    try:
        yield
    except ServerRefusedError as error:
        if error.sqlstate != _LOCK_NOT_AVAILABLE:
            raise
        raise LoadError(
            f"another load or create in the same database has not ended within {LOCK_TIMEOUT_S} s"
        ) from error


def _strategy(plan: Plan, before: Iterable[_Before]) -> Strategy:
    if plan.existing is Existing.KEEP:
        return Strategy.ADDED
    return Strategy.BESIDE if any(one.staying for one in before) else Strategy.WHOLE_TABLES


def _touched(plan: Plan) -> list[Table]:
    """Return the tables and their neighbours by foreign key, in the order of locking."""
    oids = {table.oid for table in plan.tables}
    for key in plan.catalog.foreign_keys:
        if key.child in oids or key.parent in oids:
            oids = oids | {key.child, key.parent}
    return [plan.catalog.by_oid[oid] for oid in sorted(oids)]


def _refuse_old_views(link: Link) -> None:
    """Refuse a caller's transaction that does not see what others commit: it would remove it."""
    if link.joined and (level := link.value("SHOW transaction_isolation")) != "read committed":
        raise RefusedError(
            f"refused, nothing was touched: the transaction is {level}, so that rows which others "
            "commit meanwhile would be removed unseen. Use one that is read committed"
        )


def _lock(link: Link, plan: Plan, report: Report) -> None:
    number = sql.Literal(ADVISORY_LOCK)
    if not link.value(sql.SQL("SELECT pg_try_advisory_xact_lock({})").format(number)):
        report(Event("waiting for another load, or a create, in the same database"))
        link.execute(sql.SQL("SELECT pg_advisory_xact_lock({})").format(number))
    if touched := _touched(plan):
        names = sql.SQL(", ").join(table.identifier for table in touched)
        link.execute(sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(names))


def _look(link: Link, plan: Plan, table: Table) -> _Before:
    """Count what stays and what goes, and choose how: TRUNCATE wherever that costs less."""
    stays: sql.Composable = sql.SQL("true")
    if plan.existing is Existing.REPLACE or (plan.existing is Existing.KEEP and plan.flagged):
        stays = _staying(plan.flag_column)
    count = sql.SQL("SELECT count(*) FILTER (WHERE {}), count(*) FROM {}").format(stays, table.only)
    staying, total = link.rows(count)[0]
    if staying and plan.existing is Existing.NONE:
        raise RefusedError(
            f"refused, nothing was touched: a snapshot of all rows is restored into empty tables "
            f"only, and {table.key} has {staying:,} rows"
        )
    if plan.existing is Existing.KEEP:
        return _Before(table, staying, 0, truncate=False)
    coming = plan.counts.get(table.key, 0) if plan.counts is not None else total - staying
    # Rows that are deleted leave their room behind; fewer are quicker moved than deleted around.
    aside = staying < coming and _movable(link, table)
    return _Before(table, staying, total - staying, truncate=staying == 0 or aside)


def _movable(link: Link, table: Table) -> bool:
    """Tell whether rows that are taken out and put back are as they were."""
    if table.unchecked or any(column.generated for column in table.columns):
        return False
    return bool(link.value("SELECT has_database_privilege(current_database(), 'TEMP')"))


def _staying(flag_column: str) -> sql.Composed:
    return sql.SQL("{} IS NOT TRUE").format(sql.Identifier(flag_column))


def _clear(link: Link, plan: Plan, before: Iterable[_Before]) -> None:
    emptied = []
    for one in before:
        if one.truncate:
            emptied.append(one.table)
            if one.aside:
                link.execute(
                    sql.SQL("CREATE TEMP TABLE {} ON COMMIT DROP AS SELECT {} FROM {} WHERE {}")
                    .format(one.aside, _stored(one.table), one.table.only,
                            _staying(plan.flag_column))
                )  # fmt: skip
        elif one.going:
            link.execute(
                sql.SQL("DELETE FROM {} WHERE {}").format(
                    one.table.only, sql.Identifier(plan.flag_column)
                )
            )
    if emptied:
        names = sql.SQL(", ").join(table.only for table in emptied)
        link.execute(sql.SQL("TRUNCATE {}").format(names))


def _stored(table: Table) -> sql.Composed:
    return sql.SQL(", ").join(sql.Identifier(column.name) for column in table.stored)


def _copy_all(
    link: Link, plan: Plan, before: Iterable[_Before], loads: Iterable[TableLoad], report: Report
) -> dict[str, int]:
    # FREEZE needs a table emptied in this very transaction, and no older snapshot in it.
    freeze = {
        one.table.oid
        for one in before
        if one.truncate and not link.joined and not one.table.partitioned
    }
    allowed = {table.oid for table in plan.tables}
    rows: dict[str, int] = {}
    for one in loads:
        key = one.table.key
        if one.table.oid not in allowed or key in rows:
            again = " a second time" if key in rows else ""
            raise SchemaError(f"rows came for table {key}{again}, which this load may not fill")
        expected = plan.counts.get(key, 0) if plan.counts is not None else None
        report(Event(key, 0, expected))
        rows[key] = link.copy_in(
            one.table.identifier,
            one.columns,
            one.blocks,
            one.form,
            freeze=one.table.oid in freeze,
        )
        if expected is not None and rows[key] != expected:
            raise LoadError(f"{key}: {rows[key]:,} rows came where {expected:,} are promised")
        report(Event(key, rows[key], expected))
    if missing := {key for key, count in (plan.counts or {}).items() if count} - rows.keys():
        raise LoadError(f"no rows came for {first(sorted(missing))}")
    return rows


def _put_back(link: Link, before: Iterable[_Before]) -> None:
    for one in before:
        if one.truncate and one.aside:
            columns = _stored(one.table)
            link.execute(
                sql.SQL("INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM {}").format(
                    one.table.identifier, columns, columns, one.aside
                )
            )
            link.execute(sql.SQL("DROP TABLE pg_temp.{}").format(one.aside))


def _check_flags(link: Link, plan: Plan, before: Iterable[_Before]) -> None:
    """Raise LoadError where rows came in without the flag: nothing would ever remove them."""
    if not plan.flagged:
        return
    for one in before:
        count = sql.SQL("SELECT count(*) FROM {} WHERE {}").format(
            one.table.only, _staying(plan.flag_column)
        )
        if extra := link.value(count) - one.staying:
            raise LoadError(
                f"{extra:,} rows came for {one.table.key} whose {plan.flag_column} is not true; "
                "everything was rolled back. Every row of a dataset carries the flag"
            )


def _vacuum(link: Link, plan: Plan) -> list[str]:
    """Set the visibility map where COPY did not, and gather the planner's statistics.

    The rows are committed by now: what goes wrong is told as a note.
    """
    if not plan.tables:
        return []
    names = sql.SQL(", ").join(table.identifier for table in plan.tables)
    change = "SELECT set_config('statement_timeout', %s, false)"
    timeout = link.value("SHOW statement_timeout")
    try:
        link.rows(change, ("0",))
        link.execute(sql.SQL("VACUUM (ANALYZE, SKIP_LOCKED) {}").format(names))
    except ServerRefusedError as error:
        return [f"the rows are in, but VACUUM and statistics are not done: {error.__cause__}"]
    finally:
        link.rows(change, (timeout,))
    return []


def _bloat(before: Iterable[_Before]) -> Iterator[str]:
    for one in before:
        if one.going and not one.truncate:
            yield (
                f"{one.table.key}: {one.going:,} rows were deleted beside {one.staying:,} that "
                "stay; their room is used again by later rows, not given back"
            )


@contextmanager
def _translated(link: Link, plan: Plan) -> Iterator[None]:
    """Say what to do about the two refusals that a user can mend; all is rolled back by then."""
    try:
        yield
    except ServerRefusedError as error:
        if error.sqlstate == _LOCK_NOT_AVAILABLE:
            oids = [table.oid for table in _touched(plan)]
            holders = first([row[0] for row in link.rows(_HOLDERS, (oids,))])
            raise LoadError(
                f"the tables could not be locked within {LOCK_TIMEOUT_S} s; nothing was touched. "
                f"{holders or 'Another load or create is running.'}"
            ) from error
        if error.sqlstate in _KEY_TAKEN:
            remedy = "Give the staying row another key, or flag it if it is test data"
            if plan.existing is Existing.KEEP:
                remedy = "Flagged rows are replaced unless they are to be kept (--keep-existing)"
            raise BoundaryError(
                f"refused, everything was rolled back: a row that comes in has the key of one "
                f"that stays (constraint {error.constraint}: {error.detail}). {remedy}"
            ) from error
        raise

"""The loader in a private database: one that nobody else uses, such as a template being made.

Each table is filled by one COPY. A second connection builds its indexes meanwhile, and shares the
work at the end: ANALYZE, and the validation of foreign keys. There are several transactions: the
caller drops the database after an error.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from psycopg import sql

from perfdata.errors import ConnectError
from perfdata.load.constraints import add_key, without_constraints
from perfdata.load.loader import (
    check_complete,
    check_load,
    copy_table,
    expected_rows,
    explain_duplicate_key,
    explain_rollback,
)
from perfdata.load.maintenance import analyse_statements, vacuum_and_analyze
from perfdata.load.plan import Loaded, Strategy
from perfdata.load.privileges import check_privileges, privileges_query
from perfdata.load.provenance import UPCOMING
from perfdata.load.removals import check_flags, count_unflagged, truncate
from perfdata.load.sequences import advance_sequences
from perfdata.load.views import refresh_views, views_query
from perfdata.postgres.connection import open_link
from perfdata.postgres.statistics import planner_environment, restore_statistics
from perfdata.postgres.user_code import OTHER_ROLES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from concurrent.futures import Executor, Future

    from perfdata.load.constraints import DroppedConstraints
    from perfdata.load.plan import Distributor, Plan, RowSource
    from perfdata.postgres.catalog import ForeignKey, Relation, Table
    from perfdata.postgres.link import Link
    from perfdata.progress import Report

# The indexes of a table with so many rows are built over the second connection; those of a smaller
# one are built sooner than it opens.
_PARALLEL_ROWS = 10_000
# From this many rows on, both connections analyse tables and validate keys: the keys took 0.33 s
# instead of 0.64 s at 1,605,001 rows, but 23 ms instead of 14 ms at 32,101.
_PARALLEL_CHECK_ROWS = 200_000

_NO_EVENT_TRIGGERS = """
SELECT set_config(name, 'off', false) FROM pg_settings
WHERE name = 'event_triggers' AND current_setting('is_superuser') = 'on'"""


@dataclass(frozen=True)
class PrivateDatabase:
    """A database to be filled: a link to it, and what other connections need.

    ``conninfo`` may contain a password. User code runs with ``search_path``.
    """

    link: Link
    conninfo: str = field(repr=False)
    search_path: str


@contextmanager
def open_private(conninfo: str, search_path: str) -> Iterator[PrivateDatabase]:
    """Connect to a database that nobody uses yet.

    User code runs with ``search_path``, since a clone does not inherit settings. Event triggers
    are disabled if the role can do that (a superuser, from PostgreSQL 17). Raises ConnectError.
    """
    with open_link(conninfo) as link, explain_rollback():
        link.pin(search_path)
        link.rows(_NO_EVENT_TRIGGERS)
        yield PrivateDatabase(link, conninfo, search_path)


@dataclass(frozen=True)
class _Fill:
    """How a table is filled: whether it is emptied by TRUNCATE, and its indexes' DDL."""

    truncate: bool
    indexes: Sequence[str]


def load_private(
    database: PrivateDatabase,
    plan: Plan,
    source: RowSource,
    executor: Executor,
    report: Report,
    distributor: Distributor | None = None,
) -> Loaded:
    """Load a source's rows for a plan that removes all rows.

    Work of ``executor`` opens its own connections. If the server refuses these, all work is done
    over the link. ``distributor`` loads the tables whose rows the source gives in ``parts``.
    Raises what ``loader.load`` raises.
    """
    link = database.link
    privileges, roles = link.together([privileges_query(plan), OTHER_ROLES])
    check_privileges(privileges, plan)
    removals, _ = check_load(link, plan, source, privileges, roles)
    first = link.value(UPCOMING)
    with (
        explain_duplicate_key(link, plan, source),
        without_constraints(link, plan, removals) as dropped,
    ):
        fills = _fills(plan, dropped)
        rows = _fill_tables(database, plan, source, fills, executor, report, distributor)
        check_complete(plan, rows)
        with link.transaction():
            check_flags(plan, count_unflagged(link, plan, removals))
        notes = _set_statistics(database, plan, rows, source, executor)
        dropped.indexes = ()  # built when the tables were filled
        if sum(rows.values()) >= _PARALLEL_CHECK_ROWS:
            _add_keys(database, executor, dropped.keys)
            dropped.keys = ()
        with link.transaction():
            dropped.recreate(link)
            views = link.later(*views_query(plan.tables))
            advance_sequences(link, plan.catalog, plan.tables, plan.sequences, anew=True)
            view_notes = refresh_views(link, views, plan.populated)
    # Nobody else wrote into the database while it was filled.
    transactions = [(first, link.value(UPCOMING) - 1)] if plan.rows_without_flag else []
    notes = [*dropped.notes, *view_notes, *notes]
    return Loaded(rows, Strategy.WHOLE_TABLES, tuple(notes), transactions)


def _fills(plan: Plan, dropped: DroppedConstraints) -> dict[str, _Fill]:
    """Return how each table is filled, by key."""
    indexes: dict[tuple[str, str], list[str]] = {}
    for index in dropped.indexes:
        indexes.setdefault((index.schema, index.table), []).append(index.build().as_string(None))
    # A table that a foreign key references can't be truncated alone; these tables are empty.
    tied = {oid for key in dropped.kept for oid in (key.child, key.parent)}
    return {
        table.key: _Fill(
            truncate=table.oid not in tied and table.key not in plan.staying,
            indexes=indexes.get((table.schema, table.name), []),
        )
        for table in plan.tables
    }


def _fill_tables(
    database: PrivateDatabase,
    plan: Plan,
    source: RowSource,
    fills: dict[str, _Fill],
    executor: Executor,
    report: Report,
    distributor: Distributor | None,
) -> dict[str, int]:
    """Fill the tables; return row counts by key.

    While a table is copied, the executor builds the indexes of the one before.
    """
    link, rows = database.link, dict[str, int]()
    finishing: list[tuple[list[str], Future[None]]] = []
    for load in source.tables(plan.catalog):
        table, expected = load.table, expected_rows(plan, load, rows)
        fill = fills[table.key]
        with link.transaction():
            if fill.truncate:
                truncate(link, [table])
            if not (distributor and load.parts):
                with link.own_path():
                    freeze = fill.truncate and not table.partitioned
                    rows[table.key] = copy_table(link, load, expected, report, freeze=freeze)
        if distributor and load.parts:
            rows[table.key] = distributor.copy(load, expected, report)
        # VACUUM gives back unused pages, and freezes rows that COPY did not. How detailed sealed
        # statistics are depends on all tables.
        options = sql.SQL("FREEZE" if plan.sealed else "FREEZE, ANALYZE")
        vacuum = sql.SQL("VACUUM ({}) {}").format(options, table.identifier).as_string(None)
        statements = [*fill.indexes, vacuum]
        if rows[table.key] < _PARALLEL_ROWS:
            _execute(link, statements)
        else:
            finishing.append((statements, _submit(database, executor, statements)))
    unfilled = [table for table in plan.tables if table.key not in rows]
    truncate(link, [table for table in unfilled if fills[table.key].truncate])
    for table in unfilled:
        _execute(link, fills[table.key].indexes)
    for statements, future in finishing:
        _wait(database, statements, future)
    return rows


def _set_statistics(
    database: PrivateDatabase,
    plan: Plan,
    rows: Mapping[str, int],
    source: RowSource,
    executor: Executor,
) -> list[str]:
    """Set the tables' statistics before foreign keys are checked; return notes.

    VACUUM records tables whose rows COPY froze as empty: checking the keys of 100_offices with the
    plans for empty tables took 4.5 s.
    """
    link, restored = database.link, frozenset[int]()
    if source.statistics is not None:
        with link.transaction():
            restored = restore_statistics(
                link, source.statistics, plan.tables, planner_environment(link)
            )
    unknown = [table for table in plan.tables if table.oid not in restored]
    if not plan.sealed:  # those that were filled are analysed
        unknown = [table for table in unknown if table.key not in rows]
    if not unknown:
        return []
    plan = replace(plan, tables=unknown)
    if sum(rows.get(table.key, 0) for table in unknown) < _PARALLEL_CHECK_ROWS:
        return vacuum_and_analyze(link, plan, rows, None, ())
    halves: tuple[list[Table], list[Table]] = ([], [])
    for table in sorted(unknown, key=lambda table: -rows.get(table.key, 0)):
        min(halves, key=lambda half: sum(rows.get(table.key, 0) for table in half)).append(table)
    _execute_both(database, executor, [analyse_statements(half, rows) for half in halves])
    return []


def _add_keys(database: PrivateDatabase, executor: Executor, keys: Sequence[ForeignKey]) -> None:
    """Add the foreign keys, and validate them over two connections at once."""
    # Before 18, keys of partitioned tables can't be added NOT VALID.
    validated = [
        key
        for key in keys
        if not (key.referencing.partitioned or key.referenced.partitioned or key.unchecked)
    ]
    for key in keys:
        add_key(database.link, key, unchecked=key in validated)
    database.link.flush()
    # Two validations of one table would wait for each other: one connection does both.
    tables: dict[Relation, list[str]] = {}
    for key in validated:
        statement = sql.SQL("ALTER TABLE {} VALIDATE CONSTRAINT {}").format(
            key.referencing.identifier, sql.Identifier(key.name)
        )
        tables.setdefault(key.referencing, []).append(statement.as_string(None))
    jobs: list[list[str]] = [[], []]
    for statements in tables.values():
        min(jobs, key=len).extend(statements)
    _execute_both(database, executor, jobs)


def _execute_both(
    database: PrivateDatabase, executor: Executor, jobs: Sequence[Sequence[str]]
) -> None:
    """Run two lists of statements at once."""
    here, elsewhere = jobs
    future = _submit(database, executor, elsewhere)
    _execute(database.link, here)
    _wait(database, elsewhere, future)


def _submit(
    database: PrivateDatabase, executor: Executor, statements: Sequence[str]
) -> Future[None]:
    """Have statements run over a connection of their own; what is passed on is plain data."""
    return executor.submit(
        _execute_in_worker, database.conninfo, database.search_path, list(statements)
    )


def _wait(database: PrivateDatabase, statements: Sequence[str], future: Future[None]) -> None:
    """Wait for statements; run them here if the server accepts no other connection."""
    try:
        future.result()
    except ConnectError:  # a connection limit of the role or the server
        _execute(database.link, statements)


def _execute_in_worker(conninfo: str, search_path: str, statements: Sequence[str]) -> None:
    with open_private(conninfo, search_path) as database:
        _execute(database.link, statements)


def _execute(link: Link, statements: Sequence[str]) -> None:
    for statement in statements:
        link.execute(sql.SQL(statement))

"""The loader in a private database: one that nobody else uses, such as a template being made.

Up to two connections share the tables. Each table is filled by one COPY, then its indexes are
built; foreign keys are validated in parallel at the end. There are several transactions: the caller
drops the database after an error.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar

from psycopg import sql

from perfdata.errors import ConnectError
from perfdata.load.constraints import add_key, without_constraints
from perfdata.load.loader import check_complete, check_load, copy_table, explain_rollback
from perfdata.load.maintenance import vacuum_and_analyze
from perfdata.load.privileges import check_privileges, privileges_query
from perfdata.load.removals import check_flags, count_unflagged, truncate
from perfdata.load.sequences import advance_sequences
from perfdata.load.views import refresh_views, views_query
from perfdata.postgres.connection import open_link
from perfdata.postgres.statistics import planner_environment, restore_statistics
from perfdata.postgres.user_code import OTHER_ROLES
from perfdata.progress import Event, silent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from concurrent.futures import Executor

    from perfdata.load.constraints import DroppedConstraints
    from perfdata.load.plan import Plan, RowSource
    from perfdata.postgres.catalog import Catalog, ForeignKey, Relation
    from perfdata.postgres.link import Link
    from perfdata.progress import Report

_Job = TypeVar("_Job")
_Result = TypeVar("_Result")

# From this many rows on, a second connection is faster. First restores with one and two, on 2 CPUs:
# 0.19 and 0.19 s at 411 rows, 0.34 and 0.30 s at 32,101, 1.41 and 1.21 s at 321,001, 6.3 and 5.6 s
# at 1,605,001. A process instead of a thread gained 5 % at 1,605,001 rows, and lost at fewer.
_PARALLEL_ROWS = 10_000
# From this many rows on, keys are validated over two connections: 0.33 s instead of 0.64 s at
# 1,605,001 rows, but 23 ms instead of 14 ms at 32,101.
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
    """How a table is filled: the rows expected, how it is emptied, and its indexes' DDL."""

    rows: int
    truncate: bool
    indexes: Sequence[str]


@dataclass(frozen=True)
class _FillJob:
    """The tables that one connection fills, by key; plain data, so that it can be pickled."""

    source: RowSource
    catalog: Catalog
    tables: Mapping[str, _Fill]


def load_private(
    database: PrivateDatabase, plan: Plan, source: RowSource, executor: Executor, report: Report
) -> tuple[str, ...]:
    """Load a source's rows for a plan that removes all rows; return notes for users.

    Jobs of ``executor`` open their own connections. If the server refuses these, all work runs
    over the link. Raises what ``loader.load`` raises.
    """
    link = database.link
    privileges, roles = link.together([privileges_query(plan), OTHER_ROLES])
    check_privileges(privileges, plan)
    removals, _ = check_load(link, plan, source, privileges, roles)
    with without_constraints(link, plan, removals) as dropped:
        fills = _fills(plan, dropped)
        # Tables with rows are truncated when they are filled: FREEZE needs the same transaction.
        empty = [table for table in plan.tables if not fills[table.key].rows]
        truncate(link, [table for table in empty if fills[table.key].truncate])
        link.flush()
        jobs = [_FillJob(source, plan.catalog, tables) for tables in _split(fills)]
        filled = _run_jobs(database, executor, _fill_tables, jobs, report)
        for elsewhere in filled[1:]:
            for key, count in elsewhere.items():
                report(Event(key, count, count))
        rows = {key: count for job in filled for key, count in job.items()}
        check_complete(plan, rows)
        with link.transaction():
            check_flags(plan, count_unflagged(link, plan, removals))
        notes = _set_statistics(link, plan, rows, source)
        dropped.indexes = ()  # built when the tables were filled
        if sum(rows.values()) >= _PARALLEL_CHECK_ROWS:
            _add_keys(database, executor, dropped.keys)
            dropped.keys = ()
        with link.transaction():
            dropped.recreate(link)
            views = link.later(*views_query(plan.tables))
            advance_sequences(link, plan.catalog, plan.tables, plan.sequences, anew=True)
            view_notes = refresh_views(link, views, plan.populated)
    return (*dropped.notes, *view_notes, *notes)


def _fills(plan: Plan, dropped: DroppedConstraints) -> dict[str, _Fill]:
    """Return how each table is filled, by key."""
    indexes: dict[tuple[str, str], list[str]] = {}
    for index in dropped.indexes:
        indexes.setdefault((index.schema, index.table), []).append(index.build().as_string(None))
    # A table that a foreign key references can't be truncated alone; these tables are empty.
    tied = {oid for key in dropped.kept for oid in (key.child, key.parent)}
    return {
        table.key: _Fill(
            rows=(plan.counts or {}).get(table.key, 0),
            truncate=table.oid not in tied and table.key not in plan.staying,
            indexes=indexes.get((table.schema, table.name), []),
        )
        for table in plan.tables
    }


def _split(fills: Mapping[str, _Fill]) -> list[dict[str, _Fill]]:
    """Divide the tables into one job, or two of about equal row counts."""
    jobs: list[dict[str, _Fill]] = [{}]
    if sum(fill.rows for fill in fills.values()) >= _PARALLEL_ROWS:
        jobs.append({})
    for key, fill in sorted(fills.items(), key=lambda item: -item[1].rows):
        smallest = min(jobs, key=lambda job: sum(other.rows for other in job.values()))
        smallest[key] = fill
    return jobs


def _fill_tables(link: Link, job: _FillJob, report: Report) -> dict[str, int]:
    """Fill the tables of a job, build their indexes and freeze them; return row counts by key."""
    rows: dict[str, int] = {}
    for table in job.source.tables(job.catalog, job.tables):
        key, fill = table.table.key, job.tables[table.table.key]
        freeze = fill.truncate and not table.table.partitioned
        with link.transaction():
            if fill.truncate:
                truncate(link, [table.table])
            with link.own_path():
                rows[key] = copy_table(link, table, fill.rows, report, freeze=freeze)
        for statement in fill.indexes:
            link.execute(sql.SQL(statement))
        # Gives back unused pages, and freezes rows that COPY did not.
        link.execute(sql.SQL("VACUUM (FREEZE) {}").format(table.table.identifier))
    return rows


def _set_statistics(
    link: Link, plan: Plan, rows: Mapping[str, int], source: RowSource
) -> list[str]:
    """Set the tables' statistics before foreign keys are checked.

    VACUUM records tables whose rows COPY froze as empty: checking the keys of 100_offices with the
    plans for empty tables took 4.5 s.
    """
    restored = frozenset[int]()
    if source.statistics is not None:
        with link.transaction():
            restored = restore_statistics(
                link, source.statistics, plan.tables, planner_environment(link)
            )
    unknown = [table for table in plan.tables if table.oid not in restored]
    if not unknown:
        return []
    return vacuum_and_analyze(link, replace(plan, tables=unknown), rows, None, ())


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
    _run_jobs(database, executor, _execute, jobs, silent)


def _execute(link: Link, statements: Sequence[str], _report: Report) -> None:
    for statement in statements:
        link.execute(sql.SQL(statement))


def _run_jobs(
    database: PrivateDatabase,
    executor: Executor,
    work: Callable[[Link, _Job, Report], _Result],
    jobs: Sequence[_Job],
    report: Report,
) -> list[_Result]:
    """Run the first job here and the others in the executor; return the results in order.

    Only the first job reports its progress.
    """
    futures = [
        executor.submit(_run_in_worker, database.conninfo, database.search_path, work, job)
        for job in jobs[1:]
    ]
    results = [work(database.link, jobs[0], report)]
    for job, future in zip(jobs[1:], futures, strict=True):
        try:
            results.append(future.result())
        except ConnectError:  # a connection limit of the role or the server
            results.append(work(database.link, job, silent))
    return results


def _run_in_worker(
    conninfo: str, search_path: str, work: Callable[[Link, _Job, Report], _Result], job: _Job
) -> _Result:
    with open_private(conninfo, search_path) as database:
        return work(database.link, job, silent)

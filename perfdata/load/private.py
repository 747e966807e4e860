"""The loader in a private database: one that accepts no other connections, such as a template.

Tables are spread over several connections, each filled by one COPY with its indexes built right
after, and foreign keys are checked in parallel. Nothing of it is one transaction: the caller throws
the database away after an error.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from psycopg import sql

from perfdata.errors import ConnectError
from perfdata.load.constraints import add_key, taken_off
from perfdata.load.existing import check_flags, count_unflagged, truncate
from perfdata.load.loader import check_complete, check_load, copy_table
from perfdata.load.maintenance import vacuum_and_analyze
from perfdata.load.privileges import check_privileges, privileges_query
from perfdata.load.sequences import advance_sequences
from perfdata.load.views import refresh_views, views_of
from perfdata.postgres.connection import open_link
from perfdata.postgres.statistics import planner_environment, restore_statistics
from perfdata.postgres.user_code import OTHER_ROLES
from perfdata.progress import silent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from concurrent.futures import Executor

    from perfdata.load.constraints import TakenOff
    from perfdata.load.plan import Plan, RowSource
    from perfdata.postgres.catalog import Catalog, ForeignKey, Relation
    from perfdata.postgres.link import Link
    from perfdata.progress import Report


Job = TypeVar("Job")
Result = TypeVar("Result")

# A second connection pays from so many rows on. First restores with one and two, on 2 CPUs: 0.19
# and 0.19 s at 411 rows, 0.34 and 0.30 s at 32,101, 1.41 and 1.21 s at 321,001, 6.3 and 5.6 s at
# 1,605,001. A second process instead of a thread gained 5 % at 1,605,001 rows and cost at fewer.
_PARALLEL_ROWS = 10_000
# Keys are checked over a second connection from so many rows on: at 32,101 rows that takes 23 ms,
# and 14 without; at 1,605,001 it takes 0.33 s, and the checks alone 0.64.
_PARALLEL_CHECK_ROWS = 200_000

_NO_EVENT_TRIGGERS = """
SELECT set_config(name, 'off', false) FROM pg_settings
WHERE name = 'event_triggers' AND current_setting('is_superuser') = 'on'"""


@dataclass(frozen=True)
class PrivateDatabase:
    """A database that is filled: a link to it, and what other connections need.

    ``conninfo`` may hold a password. Users' code runs on ``search_path``.
    """

    link: Link
    conninfo: str
    search_path: str


@contextmanager
def open_private(conninfo: str, search_path: str) -> Iterator[PrivateDatabase]:
    """Connect to a database that nobody uses yet, for work that is no one transaction.

    No setting of the role or the database applies, since a clone does not have them: users' code
    runs on ``search_path``. Event triggers are off where a superuser may turn them off, which is
    from PostgreSQL 17 on. Raises ConnectError.
    """
    with open_link(conninfo) as link:
        link.pin(search_path)
        link.changed = True  # what the server refuses from here on ends the load
        link.rows(_NO_EVENT_TRIGGERS)
        yield PrivateDatabase(link, conninfo, search_path)


@dataclass(frozen=True)
class _Fill:
    """How one table is filled: its rows, whether COPY may freeze them, and its indexes' DDL."""

    rows: int
    truncate: bool
    freeze: bool
    indexes: Sequence[str]


@dataclass(frozen=True)
class _FillJob:
    """The tables that one connection fills, by key; plain data, for a worker anywhere."""

    source: RowSource
    catalog: Catalog
    tables: Mapping[str, _Fill]


def load_private(
    database: PrivateDatabase, plan: Plan, source: RowSource, executor: Executor, report: Report
) -> tuple[str, ...]:
    """Fill the tables of a plan that removes all rows; return what a user should know.

    The jobs of ``executor`` open connections of their own; a role that may have no more than one
    does all work over that. Raises what load raises.
    """
    link = database.link
    privileges, roles = link.together([privileges_query(plan), OTHER_ROLES])
    check_privileges(privileges, plan)
    removals, _ = check_load(link, plan, source, privileges, roles)
    with taken_off(link, plan, removals) as off:
        fills = _fills(plan, off)
        # The others are emptied when they are filled: FREEZE needs that in the same transaction.
        truncate(link, [table for table in plan.tables if _stays_empty(fills[table.key])])
        link.flush()
        jobs = [_FillJob(source, plan.catalog, tables) for tables in _split(fills)]
        filled = _spread(database, executor, _fill_tables, jobs, report)
        rows = {key: count for job in filled for key, count in job.items()}
        check_complete(plan, rows)
        with link.transaction():
            check_flags(plan, count_unflagged(link, plan, removals))
        notes = _set_statistics(link, plan, rows, source)
        off.indexes = ()  # built when the tables were filled
        if sum(rows.values()) >= _PARALLEL_CHECK_ROWS:
            _add_keys(database, executor, off.keys)
            off.rebuilt = True
        with link.transaction():
            off.put_back(link)
            views = views_of(link, plan.tables)
            advance_sequences(link, plan.catalog, plan.tables, plan.sequences, anew=True)
            stale = refresh_views(link, views, plan.populated)
    return (*off.notes, *stale, *notes)


def _fills(plan: Plan, off: TakenOff) -> dict[str, _Fill]:
    """Say for each table how it is filled."""
    indexes: dict[tuple[str, str], list[str]] = {}
    for index in off.indexes:
        indexes.setdefault((index.schema, index.table), []).append(index.build().as_string(None))
    # Empty tables whose keys stay on them can't be emptied one by one.
    tied = {oid for key in off.resting for oid in (key.child, key.parent)}
    return {
        table.key: _Fill(
            rows=(plan.counts or {}).get(table.key, 0),
            truncate=table.oid not in tied,
            freeze=table.oid not in tied and not table.partitioned,
            indexes=indexes.get((table.schema, table.name), []),
        )
        for table in plan.tables
    }


def _stays_empty(fill: _Fill) -> bool:
    return fill.truncate and not fill.rows


def _split(fills: Mapping[str, _Fill]) -> list[dict[str, _Fill]]:
    """Divide the tables into one or two jobs of about as many rows each."""
    jobs: list[dict[str, _Fill]] = [{}]
    if sum(fill.rows for fill in fills.values()) >= _PARALLEL_ROWS:
        jobs.append({})
    for key, fill in sorted(fills.items(), key=lambda item: -item[1].rows):
        smallest = min(jobs, key=lambda job: sum(one.rows for one in job.values()))
        smallest[key] = fill
    return jobs


def _fill_tables(link: Link, job: _FillJob, report: Report) -> dict[str, int]:
    """Fill the tables of a job, build their indexes and freeze them; return the rows by table."""
    rows: dict[str, int] = {}
    for table in job.source.tables(job.catalog, job.tables):
        key, fill = table.table.key, job.tables[table.table.key]
        with link.transaction():
            if fill.truncate:
                truncate(link, [table.table])
            with link.own_path():
                rows[key] = copy_table(link, table, fill.rows, report, freeze=fill.freeze)
        for statement in fill.indexes:
            link.execute(sql.SQL(statement))
        # Gives back pages that COPY took and did not fill, and freezes what is not yet frozen.
        link.execute(sql.SQL("VACUUM (FREEZE) {}").format(table.table.identifier))
    return rows


def _set_statistics(
    link: Link, plan: Plan, rows: Mapping[str, int], source: RowSource
) -> list[str]:
    """Give the tables their statistics before a key is checked.

    VACUUM takes tables whose rows COPY froze to be empty: checking the keys of 100_offices with the
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
    """Add the foreign keys, and check their rows over two connections at once."""
    later = [key for key in keys if _can_be_validated(key)]
    for key in keys:
        add_key(database.link, key, unchecked=key in later)
    database.link.flush()
    # Two checks of one table would wait for each other: each connection takes tables whole.
    tables: dict[Relation, list[str]] = {}
    for key in later:
        statement = sql.SQL("ALTER TABLE {} VALIDATE CONSTRAINT {}").format(
            key.referencing.identifier, sql.Identifier(key.name)
        )
        tables.setdefault(key.referencing, []).append(statement.as_string(None))
    jobs: list[list[str]] = [[], []]
    for statements in tables.values():
        min(jobs, key=len).extend(statements)
    _spread(database, executor, _execute, jobs, silent)


def _can_be_validated(key: ForeignKey) -> bool:
    """Tell whether a key may be added unchecked: partitioned tables can't before 18."""
    return not (key.referencing.partitioned or key.referenced.partitioned or key.unchecked)


def _execute(link: Link, statements: Sequence[str], _report: Report) -> None:
    for statement in statements:
        link.execute(sql.SQL(statement))


def _spread(
    database: PrivateDatabase,
    executor: Executor,
    work: Callable[[Link, Job, Report], Result],
    jobs: Sequence[Job],
    report: Report,
) -> list[Result]:
    """Do the first job here and the others by the executor; return their results."""
    futures = [
        executor.submit(_do_elsewhere, database.conninfo, database.search_path, work, job)
        for job in jobs[1:]
    ]
    results = [work(database.link, jobs[0], report)]
    for job, future in zip(jobs[1:], futures, strict=True):
        try:
            results.append(future.result())
        except ConnectError:  # this role may have no more connections
            results.append(work(database.link, job, report))
    return results


def _do_elsewhere(
    conninfo: str, search_path: str, work: Callable[[Link, Job, Report], Result], job: Job
) -> Result:
    with open_private(conninfo, search_path) as database:
        return work(database.link, job, silent)

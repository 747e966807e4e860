"""Load a snapshot into a database that nobody uses yet, over two connections at once.

Nothing of it is one transaction: whoever asks for it throws the database away after an error.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from psycopg import sql

from perfdata.database.emptying import look
from perfdata.database.sequences import advance_sequences
from perfdata.database.structure import add_key, taken_off
from perfdata.database.unsaved import refuse_hidden
from perfdata.database.upkeep import tend
from perfdata.database.views import refresh_views, views_of
from perfdata.errors import ConnectError, LoadError
from perfdata.postgres.privileges import check_emptying, check_privileges, privileges_query
from perfdata.postgres.statistics import planner_environment, restore_statistics
from perfdata.postgres.user_code import OTHER_ROLES, refuse_user_code_in_load
from perfdata.progress import Event, silent
from perfdata.snapshot.filling import Job, fill_tables, open_room
from perfdata.snapshot.helper import helper
from perfdata.text import first

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from concurrent.futures import Future

    from perfdata.database.plan import Plan
    from perfdata.database.structure import TakenOff
    from perfdata.postgres.catalog import Catalog, ForeignKey, Relation
    from perfdata.postgres.link import Link
    from perfdata.postgres.statistics import Statistics
    from perfdata.progress import Report
    from perfdata.snapshot.store import Snapshot

# From so many rows on a thread of this process sends rows too, and from so many a process, which
# takes 0.2 s to start and shares no interpreter lock. First times alone, with a thread, and with a
# process, on 2 CPUs: 0.19, 0.19 and 0.34 s at 411 rows, 0.34, 0.30 and 0.36 s at 32,101,
# 1.41, 1.21 and 1.30 s at 321,001, 6.3, 5.6 and 5.3 s at 1,605,001.
THREAD_ROWS = 10_000
PROCESS_ROWS = 1_000_000
# From so many rows on keys are worth another connection to check them in: at 32,101 rows that takes
# 23 ms, and 14 without; at 1,605,001 it takes 0.33 s, and the checks alone 0.64.
_CHECK_TOGETHER_ROWS = 200_000


@dataclass(frozen=True)
class Room:
    """The database that is filled: a link to it, and for others its conninfo and search path."""

    link: Link
    conninfo: str
    search_path: str


class Filler(Protocol):
    """Somebody else who fills tables."""

    def give(self, job: Job) -> None:
        """Have it begin."""

    def result(self) -> dict[str, int]:
        """Wait for it, end it, and return the rows by table; raise what it ran into."""


class _Thread:
    """A thread of this process that fills tables, over a connection of its own."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._pool, self._connection = ThreadPoolExecutor(1), ExitStack()
        self._rows: Future[dict[str, int]] | None = None

    def give(self, job: Job) -> None:
        self._rows = self._pool.submit(self._fill, job)

    def result(self) -> dict[str, int]:
        rows = self._rows.result() if self._rows is not None else {}
        self.end()
        return rows

    def end(self) -> None:
        """Wait for it, which after an error ends with the database, and close its connection."""
        self._pool.shutdown()
        self._connection.close()

    def _fill(self, job: Job) -> dict[str, int]:
        try:
            link = self._connection.enter_context(open_room(job.conninfo, job.search_path))
        except ConnectError:  # this role may have no second connection: all is done by the first
            return {}
        return fill_tables(link, job, self._catalog, silent).rows


@contextmanager
def second_filler(rows: int, catalog: Catalog) -> Iterator[Filler | None]:
    """Have a second filler ready, where so many rows are worth one; it is gone after the block."""
    with ExitStack() as stack:
        if rows >= PROCESS_ROWS:
            yield stack.enter_context(helper())
        elif rows >= THREAD_ROWS:
            thread = _Thread(catalog)
            stack.callback(thread.end)
            yield thread
        else:
            yield None


def load_parallel(
    room: Room, plan: Plan, snapshot: Snapshot, other: Filler | None, report: Report
) -> tuple[str, ...]:
    """Fill the tables of a plan that takes all rows out; return what a user should know.

    Raises what the loader raises.
    """
    link = room.link
    privileges, others = link.together([privileges_query(plan), OTHER_ROLES])
    check_privileges(privileges, plan)
    refuse_user_code_in_load(link, others, plan)
    refuse_hidden(plan.tables)
    before = look(plan, [])
    check_emptying(privileges, before)
    with taken_off(link, plan, before) as off:
        job = _job(room, plan, snapshot, off)
        # The others are emptied when they are filled, which FREEZE asks for.
        left = [one for one in plan.tables if not job.counts[one.key] and one.key not in job.tied]
        if empty := [table.only for table in left]:
            link.later(sql.SQL("TRUNCATE {}").format(sql.SQL(", ").join(empty)))
        link.flush()
        if other is not None:
            other.give(job)
        filled = fill_tables(link, job, plan.catalog, report)
        theirs = other.result() if other is not None else {}
        for key, count in theirs.items():
            report(Event(key, count, job.counts[key]))
        rows = filled.rows | theirs
        if missing := {key for key, count in job.counts.items() if count} - rows.keys():
            raise LoadError(f"no rows came for {first(sorted(missing))}")
        tended = _tell_planner(link, plan, rows, filled.statistics)
        off.indexes = ()  # built by whoever filled the tables
        if sum(rows.values()) >= _CHECK_TOGETHER_ROWS:
            _put_keys_back(room, off.keys)
            off.rebuilt = True
        with link.transaction():
            off.put_back(link)
            views = views_of(link, plan.tables)
            advance_sequences(link, plan.catalog, plan.tables, plan.sequences, anew=True)
            stale = refresh_views(link, views, plan.populated)
    return (*off.notes, *stale, *tended)


def _tell_planner(
    link: Link, plan: Plan, rows: Mapping[str, int], statistics: Statistics | None
) -> list[str]:
    """Give the tables their statistics, before a key is checked.

    VACUUM takes tables whose rows COPY froze to be empty: checking the keys of 100_offices by the
    plans for that took 4.5 s.
    """
    known = frozenset[int]()
    if statistics is not None:
        with link.transaction():
            known = restore_statistics(link, statistics, plan.tables, planner_environment(link))
    unknown = [table for table in plan.tables if table.oid not in known]
    return tend(link, replace(plan, tables=unknown), rows, None, ()) if unknown else []


def _job(room: Room, plan: Plan, snapshot: Snapshot, off: TakenOff) -> Job:
    build: dict[str, list[str]] = {table.key: [] for table in plan.tables}
    keys = {(table.schema, table.name): table.key for table in plan.tables}
    tied = {oid for key in off.resting for oid in (key.child, key.parent)}
    for index in off.indexes:
        build[keys[index.schema, index.table]].append(index.build().as_string(None))
    return Job(
        conninfo=room.conninfo,
        search_path=room.search_path,
        path=str(snapshot.path.resolve()),
        sha256=snapshot.manifest.body.sha256,
        counts={table.key: (plan.counts or {}).get(table.key, 0) for table in plan.tables},
        build=build,
        flag=plan.flag_column,
        flagged=[
            table.key for table in plan.tables if plan.flagged and table.oid not in plan.whole
        ],
        tied=[table.key for table in plan.tables if table.oid in tied],
    )


def _put_keys_back(room: Room, keys: Sequence[ForeignKey]) -> None:
    """Add the foreign keys, and check their rows in two sessions at once."""
    later = [key for key in keys if _checked_later(key)]
    for key in keys:
        add_key(room.link, key, unchecked=key in later)
    room.link.flush()
    # Two checks of one table would wait for each other: each session takes tables whole.
    tables: dict[Relation, list[ForeignKey]] = {}
    for key in later:
        tables.setdefault(key.referencing, []).append(key)
    waiting = deque(tables.values())
    try:
        with (
            open_room(room.conninfo, room.search_path) as second,
            ThreadPoolExecutor(1) as pool,
        ):
            theirs = pool.submit(_validate, second, waiting)
            _validate(room.link, waiting)
            theirs.result()
    except ConnectError:  # this role may have no more connections
        _validate(room.link, waiting)


def _checked_later(key: ForeignKey) -> bool:
    """Tell whether a key may be added unchecked: partitioned tables can't before 18."""
    plain = not (key.referencing.partitioned or key.referenced.partitioned)
    return plain and not key.unchecked


def _validate(link: Link, waiting: deque[list[ForeignKey]]) -> None:
    while True:
        try:
            keys = waiting.popleft()
        except IndexError:  # the other session took the last
            return
        for key in keys:
            statement = sql.SQL("ALTER TABLE {} VALIDATE CONSTRAINT {}")
            link.execute(statement.format(key.referencing.identifier, sql.Identifier(key.name)))

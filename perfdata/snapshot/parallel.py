"""Load a snapshot into a database that nobody uses yet, with two processes.

Nothing of it is one transaction: whoever asks for it throws the database away after an error.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from psycopg import sql

from perfdata.database.connection import first, open_link
from perfdata.database.emptying import Before
from perfdata.database.privileges import check_emptying, check_privileges, privileges_of
from perfdata.database.rebuild import worth_rebuilding
from perfdata.database.sequences import advance_sequences
from perfdata.database.statistics import environment_of, restore_statistics
from perfdata.database.structure import add_key, taken_off
from perfdata.database.unsaved import refuse_hidden
from perfdata.database.upkeep import tend
from perfdata.database.views import refresh_views, views_of
from perfdata.errors import LoadError
from perfdata.snapshot.filling import Job, fill_tables

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from perfdata.database.catalog import ForeignKey, Relation
    from perfdata.database.link import Link
    from perfdata.database.plan import Plan
    from perfdata.database.structure import TakenOff
    from perfdata.progress import Report
    from perfdata.snapshot.helper import Helper
    from perfdata.snapshot.store import Snapshot

# Sessions at work at once: as many as there are processes that send rows.
_AT_ONCE = 2


@dataclass(frozen=True)
class Room:
    """The database that is filled: a link to it, and its conninfo for others."""

    link: Link
    conninfo: str


def load_parallel(
    room: Room, plan: Plan, snapshot: Snapshot, helper: Helper, report: Report
) -> tuple[str, ...]:
    """Fill the tables of a plan that takes all rows out; return what a user should know.

    Raises what the loader raises.
    """
    link = room.link
    (privileges,) = link.together([privileges_of(plan)])
    check_privileges(privileges, plan)
    refuse_hidden(plan.tables)
    before = [Before(table, 0, 0, truncate=True) for table in plan.tables]
    check_emptying(privileges, before)
    rebuilt = worth_rebuilding(plan, before)
    taken = taken_off(link, plan.catalog, plan.tables, rebuilt, old_rows=not plan.flagged)
    with taken as off:
        names = sql.SQL(", ").join(table.only for table in plan.tables)
        link.execute(sql.SQL("TRUNCATE {}").format(names))
        job = _job(room, plan, snapshot, off)
        helper.give(job)
        filled = fill_tables(link, job, report)
        rows = filled.rows | helper.result()
        if missing := {key for key, count in job.counts.items() if count} - rows.keys():
            raise LoadError(f"no rows came for {first(sorted(missing))}")
        _put_keys_back(room, off.keys)
        off.rebuilt = True
        views = views_of(link, plan.tables)
        advance_sequences(link, plan.catalog, plan.tables, plan.sequences, anew=True)
    stale = refresh_views(link, views, plan.populated)
    link.flush()
    known = frozenset[int]()
    if filled.statistics is not None:
        with link.transaction():
            known = restore_statistics(link, filled.statistics, plan.tables, environment_of(link))
    tended = tend(link, plan, rows, filled.statistics, known)
    return (*off.notes, *stale, *tended)


def _job(room: Room, plan: Plan, snapshot: Snapshot, off: TakenOff) -> Job:
    build: dict[str, list[str]] = {table.key: [] for table in plan.tables}
    keys = {(table.schema, table.name): table.key for table in plan.tables}
    for index in off.indexes:
        build[keys[index.schema, index.table]].append(index.build().as_string(None))
    return Job(
        conninfo=room.conninfo,
        path=str(snapshot.path.resolve()),
        sha256=snapshot.manifest.body.sha256,
        counts={table.key: (plan.counts or {}).get(table.key, 0) for table in plan.tables},
        build=build,
        flag=plan.flag_column,
        flagged=[
            table.key for table in plan.tables if plan.flagged and table.oid not in plan.whole
        ],
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
    if len(tables) < _AT_ONCE:
        _validate(room.link, later)
        return
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        list(pool.map(lambda some: _validate_alone(room.conninfo, some), tables.values()))


def _checked_later(key: ForeignKey) -> bool:
    """Tell whether a key may be added unchecked: partitioned tables can't before 18."""
    plain = not (key.referencing.partitioned or key.referenced.partitioned)
    return plain and not key.unchecked


def _validate_alone(conninfo: str, keys: Iterable[ForeignKey]) -> None:
    with open_link(conninfo) as link:
        _validate(link, keys)


def _validate(link: Link, keys: Iterable[ForeignKey]) -> None:
    for key in keys:
        statement = sql.SQL("ALTER TABLE {} VALIDATE CONSTRAINT {}")
        link.execute(statement.format(key.referencing.identifier, sql.Identifier(key.name)))

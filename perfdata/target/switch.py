"""The switch to the embedded database of the present migrations, or of the present metadata.

A database whose tables can't be brought to the project's present state is parked: it is renamed and
kept. The one that was parked at the present state takes its place, or else a new one does.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from perfdata.migrations.history import read_history
from perfdata.postgres.connection import database_name, open_link
from perfdata.progress import Event
from perfdata.project import flag_of
from perfdata.target.guard import check_guard
from perfdata.target.origin import origin_of
from perfdata.templates.databases import list_databases, lock_target, maintenance_link
from perfdata.templates.marks import Kind
from perfdata.templates.parking import free_name, park
from perfdata.text import join_first

if TYPE_CHECKING:
    from perfdata.config import Settings
    from perfdata.progress import Report
    from perfdata.project import Project
    from perfdata.target.origin import Origin
    from perfdata.templates.databases import Database


@dataclass(frozen=True)
class Switch:
    """Why a database has to be parked, and which one takes its place.

    Attributes:
        database: the name of the database.
        reason: why it can't stay, with the database as "it".
        state: a hash of what its tables were made from, or one that only resets have.
        kept: the name that it gets if it is parked now.
        wanted: the state of the parked database that takes its place; None for a new one.
        back: the name of that parked database, None if there is none and a new one is created.
    """

    database: str
    reason: str
    state: str
    kept: str
    wanted: str | None = None
    back: str | None = None

    @property
    def outcome(self) -> str:
        """What becomes of the database, and what takes its place."""
        instead = f"takes back {self.back}" if self.back else "creates a new one"
        return f"keeps {self.database} as {self.kept} and {instead}"


def needed_switch(conninfo: str, origin: Origin, project: Project) -> Switch | None:
    """Return the switch that the project's present state requires; None if there is none.

    A database that lacks migrations is switched only if one with all of them is parked, and some
    have run in it: a new one was made to be filled. ``origin`` is the database's. Nothing is
    changed.
    """
    reason = origin.difference(project)
    pending = read_history(project).pending(origin.heads) if origin.heads else []
    if not (reason or pending):
        return None
    name, wanted = database_name(conninfo), origin_of(project).state
    with open_link(conninfo) as link:
        back = _find_parked(list_databases(link), name, wanted)
        kept = free_name(link, name, origin.state)
    if not reason:
        if back is None:
            return None
        reason = f"it lacks migration {join_first(pending)}, which {back.name} has"
    return Switch(name, reason, origin.state, kept, wanted, back.name if back else None)


def reset_switch(conninfo: str, origin: Origin) -> Switch:
    """Return the switch to a new database, whatever the present one is.

    The present one is parked at a state that no project has, so it is never taken back.
    """
    name = database_name(conninfo)
    state = hashlib.sha256(f"reset {origin.state}".encode()).hexdigest()
    with open_link(conninfo) as link:
        kept = free_name(link, name, state)
    return Switch(name, "reset", state, kept)


def make_switch(
    conninfo: str, switch: Switch, project: Project | None, settings: Settings, report: Report
) -> None:
    """Park a database of a project, and rename the one that takes its place.

    If no parked one does, there is no database of that name afterwards. Raises RefusedError if
    sessions are open in either, or if perfdata.restore protects the one to be parked.
    """
    name = switch.database
    with open_link(conninfo) as link:
        check_guard(link, settings)
    with maintenance_link(conninfo) as (link, _):
        lock_target(link, name, report)
        databases = list_databases(link)
        database = next(each for each in databases if each.name == name)
        back = _find_parked(databases, name, switch.wanted)
        size = link.value("SELECT pg_size_pretty(pg_database_size(%s::oid))", (database.oid,))
        parked = park(link, database, switch.state, flag_of(project, settings), back)
    report(Event(f"parked the database {name} as {parked} ({size}): {switch.reason}"))
    report(Event(f"took back {back.name} as {name}" if back else f"creating a new database {name}"))


def _find_parked(databases: list[Database], target: str, state: str | None) -> Database | None:
    """Return the database that was last parked at a state; only that of a role's own."""
    found = [
        (mark.used, database)
        for database in databases
        if (mark := database.mark) is not None
        and (mark.kind, mark.target, mark.state) == (Kind.PARKED, target, state)
    ]
    return max(found, key=lambda pair: pair[0])[1] if found else None

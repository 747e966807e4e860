"""Parking: the embedded database of other migrations is renamed, and renamed back later."""

from __future__ import annotations

import time
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING

from perfdata.errors import RefusedError, ServerRefusedError
from perfdata.postgres.sessions import remaining_sessions
from perfdata.templates.databases import execute_with_identifiers, write_mark
from perfdata.templates.marks import Kind, Mark, parked_name, user_text
from perfdata.text import join_first

if TYPE_CHECKING:
    from perfdata.postgres.link import Link
    from perfdata.templates.databases import Database

_IN_USE = "55006"


def park(
    link: Link, database: Database, state: str, flag: str, back: Database | None = None
) -> str:
    """Rename a database so that it is kept, in one transaction; return its new name.

    ``state`` is a hash of what its tables were made from, ``flag`` the flag column. If ``back``, a
    parked database, is given, it gets the name; otherwise no database has it afterwards. Raises
    RefusedError, which names them, if sessions are open in either database.
    """
    involved = [database, *([back] if back else [])]
    _refuse_sessions(link, involved)
    name = free_name(link, database.name, state)
    try:
        with link.transaction():
            _rename(link, database, name, Kind.PARKED, state, flag)
            if back is not None:
                _rename(link, back, database.name, Kind.MADE)
    except ServerRefusedError as error:
        if error.sqlstate == _IN_USE:  # sessions that were opened since
            _refuse_sessions(link, involved)
        raise
    return name


def _rename(
    link: Link, database: Database, name: str, kind: Kind, state: str = "", flag: str = ""
) -> None:
    """Rename a database and adapt its mark, whose other fields stay."""
    mark = database.mark or Mark(Kind.MADE, database.oid, database.name)
    execute_with_identifiers(link, "ALTER DATABASE {} RENAME TO {}", database.name, name)
    used = time.time() if kind is Kind.PARKED else 0.0
    changed = replace(mark, kind=kind, state=state, flag=flag, used=used)
    write_mark(link, name, user_text(database.comment), changed)


def _refuse_sessions(link: Link, databases: list[Database]) -> None:
    for database in databases:
        if sessions := remaining_sessions(link, database.oid):
            raise RefusedError(
                "refused, nothing was touched: a database can be renamed only while no session is "
                f"connected to it, and {database.name} has: {join_first(sessions)}",
                remedy="End them, and run the command again",
            )


def parked_databases(found: list[Database], target: str) -> list[Database]:
    """Return the removable parked databases of a target."""
    return [
        database
        for database in found
        if database.removable
        and (mark := database.mark) is not None
        and (mark.kind, mark.target) == (Kind.PARKED, target)
    ]


def free_name(link: Link, target: str, state: str) -> str:
    """Return the name that a database gets if it is parked now."""
    taken = {name for (name,) in link.rows("SELECT datname::text FROM pg_database")}
    names = (parked_name(target, state, number) for number in count(1))
    return next(name for name in names if name not in taken)

"""Parking: the embedded database of other migrations is renamed, and renamed back later."""

from __future__ import annotations

import time
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING

from perfdata.errors import ServerRefusedError
from perfdata.postgres.sessions import IN_USE, refuse_sessions
from perfdata.templates.databases import execute_with_identifiers, write_mark
from perfdata.templates.marks import Kind, Mark, parked_name, user_text

if TYPE_CHECKING:
    from perfdata.postgres.link import Link
    from perfdata.templates.databases import Database


def park(
    link: Link, database: Database, state: str, flag: str, back: Database | None = None
) -> str:
    """Rename a database so that it is kept, in one transaction; return its new name.

    ``state`` is a hash of what its tables were made from, ``flag`` the flag column. If ``back``, a
    parked database, is given, it gets the name; otherwise no database has it afterwards. Raises
    RefusedError, which names them, if sessions are open in either database.
    """
    involved = [database, *([back] if back else [])]
    _check_unused(link, involved)
    name = free_name(link, database.name, state)
    try:
        with link.transaction():
            _rename(link, database, name, Kind.PARKED, state, flag)
            if back is not None:
                _rename(link, back, database.name, Kind.MADE)
    except ServerRefusedError as error:
        if error.sqlstate == IN_USE:  # sessions that were opened since
            _check_unused(link, involved)
        raise
    return name


def _check_unused(link: Link, databases: list[Database]) -> None:
    for database in databases:
        refuse_sessions(link, database.oid, database.name, "End them, and run the command again")


def _rename(
    link: Link, database: Database, name: str, kind: Kind, state: str = "", flag: str = ""
) -> None:
    """Rename a database and adapt its mark, whose other fields stay."""
    mark = database.mark or Mark(Kind.MADE, database.oid, database.name)
    execute_with_identifiers(link, "ALTER DATABASE {} RENAME TO {}", database.name, name)
    used = time.time() if kind is Kind.PARKED else 0.0
    changed = replace(mark, kind=kind, state=state, flag=flag, used=used)
    write_mark(link, name, user_text(database.comment), changed)


def free_name(link: Link, target: str, state: str) -> str:
    """Return the name that a database gets if it is parked now."""
    taken = {name for (name,) in link.rows("SELECT datname::text FROM pg_database")}
    names = (parked_name(target, state, number) for number in count(1))
    return next(name for name in names if name not in taken)

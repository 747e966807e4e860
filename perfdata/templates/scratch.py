"""A scratch database: empty, for work on data that no other database holds in that state."""

from __future__ import annotations

import secrets
from contextlib import contextmanager
from typing import TYPE_CHECKING

from psycopg import sql
from psycopg.conninfo import make_conninfo

from perfdata.errors import PrivilegesError
from perfdata.templates.databases import (
    Database,
    database_oid,
    drop_database,
    lock_number,
    work_prefix,
    write_mark,
)
from perfdata.templates.marks import UNMARKED_LIMIT, Kind, Mark
from perfdata.templates.template import open_work

if TYPE_CHECKING:
    from collections.abc import Iterator

    from perfdata.postgres.link import Link
    from perfdata.templates.databases import TargetDatabase

_MAY_CREATE = """
SELECT rolsuper OR rolcreatedb, quote_ident(rolname) FROM pg_roles WHERE rolname = current_user"""


def check_createdb(link: Link) -> None:
    """Raise PrivilegesError if the role may not create databases."""
    ((allowed, role),) = link.rows(_MAY_CREATE)
    if not allowed:
        raise PrivilegesError(
            f"refused, nothing was touched: role {role} may not create databases",
            [f"ALTER ROLE {role} CREATEDB;"],
        )


@contextmanager
def scratch_database(target: TargetDatabase) -> Iterator[str]:
    """Yield the conninfo of a new database on the target's server; drop the database at the end.

    The target's lock must be held (see lock_target): once it is free, the database counts as left
    by a process that was killed, and garbage collection removes it. Raises PrivilegesError.
    """
    link = target.link
    check_createdb(link)
    name = f"{work_prefix(lock_number(target.name))}{secrets.token_hex(6)}"
    create = sql.SQL("CREATE DATABASE {} ALLOW_CONNECTIONS false CONNECTION LIMIT {}")
    link.execute(create.format(sql.Identifier(name), sql.Literal(UNMARKED_LIMIT)))
    oid = database_oid(link, name)
    work = Database.new(link, oid, name, None)
    try:
        write_mark(link, name, "", Mark(Kind.WORK, oid, target.name))
        open_work(link, work)
        yield make_conninfo(target.conninfo, dbname=name)
    finally:
        drop_database(link, work, force=True)

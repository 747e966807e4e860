"""A new, empty database with a target's encoding, locale and settings."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from psycopg import sql
from psycopg.conninfo import make_conninfo

from perfdata.errors import PrivilegesError
from perfdata.templates.databases import drop_database
from perfdata.templates.marks import UNMARKED_LIMIT
from perfdata.templates.properties import apply_settings, read_properties
from perfdata.templates.template import mark_work, open_work, work_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from perfdata.postgres.link import Link
    from perfdata.templates.databases import Database, TargetDatabase

# The columns of ICU's and built-in locales were renamed, and added, in 16 and 17.
_LOCALE = """
SELECT pg_encoding_to_char(encoding), datcollate, datctype, j->>'datlocprovider',
  coalesce(j->>'datlocale', j->>'daticulocale'), j->>'daticurules'
FROM pg_database d, to_jsonb(d) j WHERE oid = %s"""
_PROVIDERS = {
    "c": sql.SQL("LOCALE_PROVIDER libc"),
    "i": sql.SQL("LOCALE_PROVIDER icu ICU_LOCALE {}"),
    "b": sql.SQL("LOCALE_PROVIDER builtin BUILTIN_LOCALE {}"),
}
_MAY_CREATE = """
SELECT rolsuper OR rolcreatedb, quote_ident(rolname) FROM pg_roles WHERE rolname = current_user"""
# perfdata's own settings describe the target: how its tables were made, what may be restored.
_OWN = "perfdata."


class Blueprint(NamedTuple):
    """What a new database takes from a target: all that decides how its rows are ordered and read.

    ``settings`` are pairs of a role, or None for all, and ``name=value``.
    """

    encoding: str
    collate: str
    ctype: str
    provider: str
    locale: str | None
    rules: str | None
    settings: tuple[tuple[str | None, str], ...]


def read_blueprint(target: TargetDatabase) -> Blueprint:
    """Read what a new database takes from a target."""
    encoding, collate, ctype, provider, locale, rules = target.link.rows(_LOCALE, (target.oid,))[0]
    settings = read_properties(target.link, target.oid).settings
    applied = tuple(pair for pair in settings if not pair[1].startswith(_OWN))
    return Blueprint(encoding, collate, ctype, provider, locale, rules, applied)


def create_database(target: TargetDatabase, blueprint: Blueprint) -> Database:
    """Create an empty database that accepts no connections, marked as unfinished work."""
    name = work_name(target)
    target.link.execute(sql.SQL(" ").join(_statement(name, blueprint)))
    return mark_work(target, name)


@contextmanager
def scratch_database(target: TargetDatabase) -> Iterator[str]:
    """Yield the conninfo of a new database like the target; drop the database at the end.

    The target's lock must be held (see lock_target): once it is free, the database counts as left
    by a process that was killed, and garbage collection removes it. Raises PrivilegesError.
    """
    check_createdb(target.link)
    blueprint = read_blueprint(target)
    work = create_database(target, blueprint)
    try:
        open_with_settings(target, work, blueprint)
        yield make_conninfo(target.conninfo, dbname=work.name)
    finally:
        drop_database(target.link, work, force=True)


def check_createdb(link: Link) -> None:
    """Raise PrivilegesError if the role may not create databases."""
    ((allowed, role),) = link.rows(_MAY_CREATE)
    if not allowed:
        raise PrivilegesError(
            f"refused, nothing was touched: role {role} may not create databases",
            [f"ALTER ROLE {role} CREATEDB;"],
        )


def open_with_settings(target: TargetDatabase, work: Database, blueprint: Blueprint) -> None:
    """Let only this role and superusers connect to an unfinished database, with the settings."""
    apply_settings(target.link, work.name, blueprint.settings)
    open_work(target.link, work)


def _statement(name: str, blueprint: Blueprint) -> Iterator[sql.Composable]:
    # template0: what somebody added to template1 is not the project's.
    yield sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING {}").format(
        sql.Identifier(name), sql.Literal(blueprint.encoding)
    )
    yield sql.SQL("LC_COLLATE {} LC_CTYPE {}").format(
        sql.Literal(blueprint.collate), sql.Literal(blueprint.ctype)
    )
    yield _PROVIDERS[blueprint.provider].format(sql.Literal(blueprint.locale))
    if blueprint.rules is not None:
        yield sql.SQL("ICU_RULES {}").format(sql.Literal(blueprint.rules))
    yield sql.SQL("ALLOW_CONNECTIONS false CONNECTION LIMIT {}").format(sql.Literal(UNMARKED_LIMIT))


def empty_bytes(link: Link) -> int:
    """Return the size of an empty database."""
    return int(link.value("SELECT pg_database_size('template0')"))

"""What a database has beside what is in it: owner, grants, settings, limit, comment.

CREATE DATABASE copies none of these (POSTGRES.md, Templates); whoever swaps a database for another
puts them on the new one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from psycopg import sql

from perfdata.errors import SchemaError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from perfdata.postgres.link import Link

_DATABASE = """
SELECT datname, pg_get_userbyid(datdba), datconnlimit, datistemplate,
  shobj_description(oid, 'pg_database'), datacl IS NULL
FROM pg_database WHERE oid = %s"""

# In the order of the list itself: a grant that hangs on another stands behind it.
_GRANTS = """
SELECT pg_get_userbyid(a.grantor), CASE WHEN a.grantee <> 0 THEN pg_get_userbyid(a.grantee) END,
  a.privilege_type, a.is_grantable
FROM pg_database d, aclexplode(d.datacl) WITH ORDINALITY a WHERE d.oid = %s ORDER BY a.ordinality"""

_SETTINGS = """
SELECT CASE WHEN s.setrole <> 0 THEN pg_get_userbyid(s.setrole) END, c.setting
FROM pg_db_role_setting s, unnest(s.setconfig) WITH ORDINALITY c (setting, n)
WHERE s.setdatabase = %s ORDER BY s.setrole, c.n"""

# Their values are lists of quoted names, which ALTER … SET takes only one by one (pg_dump's own
# list of them, variable_is_guc_list_quote).
_LISTS = {
    "local_preload_libraries", "search_path", "session_preload_libraries",
    "shared_preload_libraries", "temp_tablespaces", "unix_socket_directories",
}  # fmt: skip
_ELEMENT = re.compile(r'"((?:[^"]|"")*)"|([^\s,"]+)')


@dataclass(frozen=True)
class Grant:
    """One privilege; ``grantee`` None is PUBLIC."""

    grantor: str
    grantee: str | None
    privilege: str
    grantable: bool


@dataclass(frozen=True)
class Properties:
    """A database's properties; ``grants`` None are the default ones."""

    name: str
    owner: str
    connection_limit: int
    is_template: bool
    comment: str | None
    grants: tuple[Grant, ...] | None
    settings: tuple[tuple[str | None, str], ...]

    def differences(self, other: Properties) -> list[str]:
        """Name what of this the other has not, comment and name aside."""
        pairs = {
            "owner": (self.owner, other.owner),
            "connection limit": (self.connection_limit, other.connection_limit),
            "template": (self.is_template, other.is_template),
            "grants": (_unordered(self.grants), _unordered(other.grants)),
            "settings": (sorted(self.settings, key=str), sorted(other.settings, key=str)),
        }
        return [what for what, (one, two) in pairs.items() if one != two]


def _unordered(grants: tuple[Grant, ...] | None) -> frozenset[Grant] | None:
    return None if grants is None else frozenset(grants)


def read_properties(link: Link, oid: int) -> Properties:
    """Read the properties of a database by its oid."""
    found, grants, settings = link.together([(q, (oid,)) for q in (_DATABASE, _GRANTS, _SETTINGS)])
    name, owner, limit, is_template, comment, default = found[0]
    return Properties(
        name,
        owner,
        limit,
        is_template,
        comment,
        None if default else tuple(Grant(*row) for row in grants),
        tuple((role, setting) for role, setting in settings),
    )


def put_properties(link: Link, name: str, wanted: Properties, oid: int) -> None:
    """Give a database that has the default ones all properties but name and comment.

    To be used inside a transaction. Raises ServerRefusedError where the role may not, and
    SchemaError where it would not have what is wanted.
    """
    database = sql.Identifier(name)
    statements = [
        sql.SQL("ALTER DATABASE {} OWNER TO {}").format(database, sql.Identifier(wanted.owner)),
        *_granting(database, wanted),
        *(_setting(database, role, setting) for role, setting in wanted.settings),
        sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true CONNECTION LIMIT {} IS_TEMPLATE {}")
        .format(database, sql.Literal(wanted.connection_limit), sql.Literal(wanted.is_template)),
    ]  # fmt: skip
    link.together(statements)
    if missing := wanted.differences(read_properties(link, oid)):
        raise SchemaError(f"the {' and '.join(missing)} of {wanted.name} can't be given to another")


def _granting(database: sql.Identifier, wanted: Properties) -> Iterator[sql.Composed]:
    if wanted.grants is None:
        return
    everybody = sql.SQL("PUBLIC, {}").format(sql.Identifier(wanted.owner))
    yield sql.SQL("REVOKE ALL ON DATABASE {} FROM {}").format(database, everybody)
    # The owner's grants come from the owner whoever of its members writes them.
    for grant in sorted(wanted.grants, key=lambda one: one.grantor != wanted.owner):
        if grant.grantor != wanted.owner:
            yield sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(grant.grantor))
        yield sql.SQL("GRANT {} ON DATABASE {} TO {}{}").format(
            sql.SQL(_checked(grant.privilege)),
            database,
            sql.SQL("PUBLIC") if grant.grantee is None else sql.Identifier(grant.grantee),
            sql.SQL(" WITH GRANT OPTION" if grant.grantable else ""),
        )
        if grant.grantor != wanted.owner:
            yield sql.SQL("RESET ROLE").format()


def _checked(privilege: str) -> str:
    if privilege not in {"CREATE", "CONNECT", "TEMPORARY"}:
        raise SchemaError(
            f"a database has a privilege that this perfdata does not know: {privilege}"
        )
    return privilege


def _setting(database: sql.Identifier, role: str | None, setting: str) -> sql.Composed:
    name, _, value = setting.partition("=")
    whose = sql.SQL("DATABASE {}").format(database)
    if role is not None:
        whose = sql.SQL("ROLE {} IN DATABASE {}").format(sql.Identifier(role), database)
    values = _elements(value) if name.lower() in _LISTS else [value]
    return sql.SQL("ALTER {} SET {} TO {}").format(
        whose,
        sql.SQL(".").join(map(sql.Identifier, name.split("."))),
        sql.SQL(", ").join(map(sql.Literal, values)),
    )


def _elements(value: str) -> Sequence[str]:
    """Take a list of quoted names apart; an empty list is one empty name."""
    found = [plain or quoted.replace('""', '"') for quoted, plain in _ELEMENT.findall(value)]
    return found or [""]

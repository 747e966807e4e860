"""The properties of a database: owner, grants, settings, connection limit, comment.

CREATE DATABASE does not copy them, so a database that replaces another is given them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from psycopg import sql

from perfdata.errors import SchemaError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from perfdata.postgres.link import Link

_DATABASE = """
SELECT datname, pg_get_userbyid(datdba), datconnlimit, datistemplate,
  shobj_description(oid, 'pg_database'),
  datacl IS NULL OR ARRAY(SELECT a::text FROM unnest(datacl) a ORDER BY 1)
    = ARRAY(SELECT a::text FROM unnest(acldefault('d', datdba)) a ORDER BY 1)
FROM pg_database WHERE oid = %s"""

# In the order of the list: a grant comes after the grant option that it depends on.
_GRANTS = """
SELECT pg_get_userbyid(a.grantor), CASE WHEN a.grantee <> 0 THEN pg_get_userbyid(a.grantee) END,
  a.privilege_type, a.is_grantable
FROM pg_database d, aclexplode(d.datacl) WITH ORDINALITY a WHERE d.oid = %s ORDER BY a.ordinality"""

_SETTINGS = """
SELECT CASE WHEN s.setrole <> 0 THEN pg_get_userbyid(s.setrole) END, c.setting
FROM pg_db_role_setting s, unnest(s.setconfig) WITH ORDINALITY c (setting, n)
WHERE s.setdatabase = %s ORDER BY s.setrole, c.n"""

# Settings whose values are lists of quoted names, of which ALTER … SET takes each as a literal. The
# list is pg_dump's (variable_is_guc_list_quote).
_LISTS = {
    "local_preload_libraries", "search_path", "session_preload_libraries",
    "shared_preload_libraries", "temp_tablespaces", "unix_socket_directories",
}  # fmt: skip
_OWN = "perfdata."
_ELEMENT = re.compile(r'"((?:[^"]|"")*)"|([^\s,"]+)')


@dataclass(frozen=True)
class Grant:
    """A privilege on a database; ``grantee`` None is PUBLIC."""

    grantor: str
    grantee: str | None
    privilege: str
    grantable: bool


@dataclass(frozen=True)
class Properties:
    """A database's properties; ``grants`` None means the default ones.

    ``settings`` are pairs of a role, or None for all, and ``name=value``.
    """

    name: str
    owner: str
    connection_limit: int
    is_template: bool
    comment: str | None
    grants: tuple[Grant, ...] | None
    settings: tuple[tuple[str | None, str], ...]

    def differences(self, other: Properties) -> list[str]:
        """Return which properties differ, except comment and name."""
        pairs = {
            "owner": (self.owner, other.owner),
            "connection limit": (self.connection_limit, other.connection_limit),
            "template": (self.is_template, other.is_template),
            "grants": (_unordered(self.grants), _unordered(other.grants)),
            "settings": (sorted(self.settings, key=str), sorted(other.settings, key=str)),
        }
        return [name for name, (own, others) in pairs.items() if own != others]


def _unordered(grants: tuple[Grant, ...] | None) -> frozenset[Grant] | None:
    return None if grants is None else frozenset(grants)


def read_properties(link: Link, oid: int) -> Properties:
    """Read the properties of a database by its oid."""
    found, grants, settings = link.together([(q, (oid,)) for q in (_DATABASE, _GRANTS, _SETTINGS)])
    name, owner, limit, is_template, comment, default = found[0]
    own_grants = None if default else tuple(Grant(*row) for row in grants)
    pairs = tuple((role, setting) for role, setting in settings)
    return Properties(name, owner, limit, is_template, comment, own_grants, pairs)


def apply_properties(link: Link, name: str, wanted: Properties, oid: int) -> None:
    """Set all properties except name and comment of a database that has the default ones.

    Use this inside a transaction. Raises ServerRefusedError if the role may not set them, and
    SchemaError if the database's properties then differ from ``wanted``.
    """
    database = sql.Identifier(name)
    statements = [
        sql.SQL("ALTER DATABASE {} OWNER TO {}").format(database, sql.Identifier(wanted.owner)),
        *_grant_statements(database, wanted),
        *(_set_statement(database, role, setting) for role, setting in wanted.settings),
        sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true CONNECTION LIMIT {} IS_TEMPLATE {}")
        .format(database, sql.Literal(wanted.connection_limit), sql.Literal(wanted.is_template)),
    ]  # fmt: skip
    link.together(statements)
    if missing := wanted.differences(read_properties(link, oid)):
        raise SchemaError(
            f"the {' and '.join(missing)} of {wanted.name} can't be set on another database"
        )


def copy_own_settings(link: Link, source_oid: int, name: str) -> None:
    """Give a database those settings of another that perfdata records there (``perfdata.…``)."""
    settings = read_properties(link, source_oid).settings
    own = [pair for pair in settings if pair[0] is None and pair[1].startswith(_OWN)]
    link.together([_set_statement(sql.Identifier(name), *pair) for pair in own])


def apply_settings(link: Link, name: str, settings: Iterable[tuple[str | None, str]]) -> None:
    """Set a new database's settings, given like those of Properties."""
    database = sql.Identifier(name)
    link.together([_set_statement(database, role, setting) for role, setting in settings])


def _grant_statements(database: sql.Identifier, wanted: Properties) -> Iterator[sql.Composed]:
    if wanted.grants is None:
        return
    everybody = sql.SQL("PUBLIC, {}").format(sql.Identifier(wanted.owner))
    yield sql.SQL("REVOKE ALL ON DATABASE {} FROM {}").format(database, everybody)
    # Grants by a member of the owner are recorded as the owner's, so only others need SET ROLE.
    for grant in sorted(wanted.grants, key=lambda grant: grant.grantor != wanted.owner):
        if grant.grantor != wanted.owner:
            yield sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(grant.grantor))
        yield sql.SQL("GRANT {} ON DATABASE {} TO {}{}").format(
            sql.SQL(_known_privilege(grant.privilege)),
            database,
            sql.SQL("PUBLIC") if grant.grantee is None else sql.Identifier(grant.grantee),
            sql.SQL(" WITH GRANT OPTION" if grant.grantable else ""),
        )
        if grant.grantor != wanted.owner:
            yield sql.SQL("RESET ROLE").format()


def _known_privilege(privilege: str) -> str:
    if privilege not in {"CREATE", "CONNECT", "TEMPORARY"}:
        raise SchemaError(f"perfdata does not know this privilege on a database: {privilege}")
    return privilege


def _set_statement(database: sql.Identifier, role: str | None, setting: str) -> sql.Composed:
    name, _, value = setting.partition("=")
    scope = sql.SQL("DATABASE {}").format(database)
    if role is not None:
        scope = sql.SQL("ROLE {} IN DATABASE {}").format(sql.Identifier(role), database)
    values = _elements(value) if name.lower() in _LISTS else [value]
    return sql.SQL("ALTER {} SET {} TO {}").format(
        scope,
        sql.SQL(".").join(map(sql.Identifier, name.split("."))),
        sql.SQL(", ").join(map(sql.Literal, values)),
    )


def _elements(value: str) -> Sequence[str]:
    """Split a list of quoted names; an empty list is one empty name."""
    found = [plain or quoted.replace('""', '"') for quoted, plain in _ELEMENT.findall(value)]
    return found or [""]

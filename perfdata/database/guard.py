"""The guard: where perfdata may delete, and the boundary that its deletions may not cross."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING

from psycopg import sql

from perfdata.database.allowlist import Location
from perfdata.database.server import EmbeddedServer
from perfdata.errors import BoundaryError, GuardError
from perfdata.postgres.link import IDENTIFIER_GRANT
from perfdata.text import first

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from perfdata.config import Settings
    from perfdata.database.emptying import Before
    from perfdata.postgres.catalog import Catalog, ForeignKey, Table
    from perfdata.postgres.link import Link, Rows

_SAMPLE = 5

# What the DBA set for the database, for this role or for all; a session can hide it with SET. Any
# value counts, so that a misspelt one protects too. The session's own says what the server's
# configuration file does.
_FORBIDDEN = """
SELECT pg_catalog.current_database(), ARRAY(
  SELECT pg_catalog.split_part(c.setting, '=', 2)
  FROM pg_catalog.pg_db_role_setting s CROSS JOIN pg_catalog.unnest(s.setconfig) c (setting)
  WHERE s.setdatabase IN (0, d.oid)
    AND s.setrole IN (SELECT 0 UNION ALL SELECT r.oid FROM pg_catalog.pg_roles r
                      WHERE r.rolname IN (current_user, session_user))
    AND c.setting ILIKE 'perfdata.restore=_%'
  UNION ALL SELECT f.setting FROM pg_catalog.current_setting('perfdata.restore', true) f (setting)
  WHERE f.setting <> '')
FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()"""


def check_guard(link: Link, settings: Settings) -> None:
    """Raise GuardError unless rows of this database may be replaced (see refusal)."""
    if reason := refusal(link, settings):
        raise GuardError(reason)


def refusal(link: Link, settings: Settings) -> str | None:
    """Say why rows of this database may not be replaced; None: they may.

    They may on the embedded server, known by its cluster's own identifier, and in a database that
    PERFDATA_ALLOW or ``[tool.perfdata] allow`` lists (see allowlist); but nowhere where
    ``perfdata.restore`` is set.
    """
    database, forbidden = link.rows(_FORBIDDEN)[0]
    if forbidden:
        return (
            f"refused, whatever is allowed: perfdata.restore is set to {forbidden[0]}; no row of "
            f"{database} is replaced while it is. Who set it takes it back, as by "
            f"ALTER DATABASE {_quoted(database)} RESET perfdata.restore"
        )
    if EmbeddedServer(settings).owns(link):
        return None
    location = Location(link, link.address(), database)
    if location.listed(settings.allow):
        return None
    entry = location.entry
    return (
        f"refused: perfdata replaces rows only on its embedded server or in databases that are "
        f"listed, and {entry} is not. {_listed(location, settings)}. If its flagged rows may be "
        f"replaced, set PERFDATA_ALLOW={shlex.quote(entry)} or, in pyproject.toml, "
        f"[tool.perfdata] allow = [{json.dumps(entry, ensure_ascii=False)}]"
    )


def _listed(location: Location, settings: Settings) -> str:
    """Say what is listed, and where; and which entries of an earlier form miss it now."""
    pyproject = f"allow in {settings.root / 'pyproject.toml'}"
    if not settings.allow:
        return "The list is empty: nothing in PERFDATA_ALLOW" + (
            f", nor as {pyproject}" if settings.configured else ", and no [tool.perfdata] was found"
        )
    environ = settings.allow_environ
    entries = [
        f"{one!r} ({'PERFDATA_ALLOW' if one in environ else pyproject})" for one in settings.allow
    ]
    form = "host:port/database as they are dialled, port 5432 where none is written"
    wildcards = "with wildcards in the database's name only"
    said = [f"The list has {first(entries)}; entries are {form}, {wildcards}"]
    renewed = [(one, location.renewed(one)) for one in settings.allow]
    said += [f"{old!r} covers it no longer: write {new!r}" for old, new in renewed if new]
    if any("@" in one for one in settings.allow):
        identifier = location.link.server_identifier
        said.append(
            f"This server's identifier is {identifier}"
            if identifier
            else f"This role may not read the server's identifier: {IDENTIFIER_GRANT}"
        )
    return ". ".join(said)


def _quoted(name: str) -> str:
    return sql.Identifier(name).as_string(None)


def locate(link: Link) -> Location:
    """Return where a database is, by the address dialled and the server's own name for it."""
    return Location(link, link.address(), str(link.value("SELECT pg_catalog.current_database()")))


def allowed_by_name(link: Link, settings: Settings) -> bool:
    """Tell whether this very database is listed, by its full name with no wildcard."""
    return locate(link).listed_by_name(settings.allow)


def check_boundary(
    link: Link,
    catalog: Catalog,
    flag_column: str,
    before: Iterable[Before],
    whole: Collection[int] = (),
) -> None:
    """Raise BoundaryError where an unflagged row references a flagged one that is to go.

    Such a row would be cascaded away, nulled or left dangling. The rows of the tables ``whole`` (by
    oid) come back themselves, but for flagged ones: the snapshot may lack them.
    """
    counted = {one.table.oid: one for one in before}
    emptied = {
        oid
        for oid, one in counted.items()
        if one.going and (oid not in whole or one.table.has_flag(flag_column))
    }
    flagged = {oid for oid, one in counted.items() if not one.staying}
    keys = [k for k in catalog.foreign_keys if k.parent in emptied and k.child not in flagged]
    asked = [_crossing(catalog, flag_column, key) for key in keys]
    answers = zip(keys, link.together(asked), strict=True)
    crossing = [(key, rows) for key, rows in answers if rows]
    if crossing:
        found = [_described(catalog, key, rows) for key, rows in crossing]
        children = [catalog.by_oid[key.child] for key, _ in crossing]
        raise BoundaryError(
            "refused, nothing was touched: rows that are not test data reference test data that "
            f"would be replaced: {'; '.join(found)}. {_remedy(children, flag_column)}; "
            "then run it again"
        )


def _remedy(children: Collection[Table], flag_column: str) -> str:
    """Say what can be done with rows of these tables."""
    ways = ["Point those rows to rows that stay, or remove them"]
    if flagged := sorted({one.key for one in children if one.has_flag(flag_column)}):
        ways.append(f"set {flag_column} on those of {first(flagged)} if they are test data")
    if others := sorted({one.key for one in children if not one.has_flag(flag_column)}):
        has = "have" if len(others) > 1 else "has"
        ways.append(
            f"take {first(others)}, which {has} no column {flag_column}, whole ([tool.perfdata] "
            "whole_tables) and create the snapshot again"
        )
    return "; or ".join(ways)


def _crossing(catalog: Catalog, flag_column: str, key: ForeignKey) -> sql.Composed:
    """Make the query for the rows that reference what is to go."""
    child = catalog.by_oid[key.child]
    stays: sql.Composable = sql.SQL("true")
    if child.has_flag(flag_column):
        stays = sql.SQL("c.{} IS NOT TRUE").format(sql.Identifier(flag_column))
    return sql.SQL(
        "SELECT {keys}, count(*) OVER () FROM {child} c JOIN {parent} p ON {join} "
        "WHERE {stays} AND p.{flag} LIMIT {limit}"
    ).format(
        keys=row_key(child, "c"),
        child=key.referencing.only,
        parent=key.referenced.only,
        join=key.join(catalog, "c", "p"),
        stays=stays,
        flag=sql.Identifier(flag_column),
        limit=sql.Literal(_SAMPLE),
    )


def _described(catalog: Catalog, key: ForeignKey, rows: Rows) -> str:
    child, parent = catalog.by_oid[key.child], catalog.by_oid[key.parent]
    count = rows[0][1]
    keys = first([row[0] for row in rows] + [None] * (count - len(rows)), limit=len(rows))
    return f"{child.key} → {parent.key} ({key.name}): {count:,} of {child.key}, e.g. {keys}"


def row_key(table: Table, alias: str) -> sql.Composed:
    """Make an SQL expression that names a row for people: its first columns, as text."""
    names = table.primary_key or [column.name for column in table.columns[:1]]
    return sql.SQL("concat_ws(', ', {})").format(
        sql.SQL(", ").join(sql.Identifier(alias, name) for name in names)
    )

"""The swap: a finished clone replaces a database, in one transaction."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, LiteralString

from psycopg import sql

from perfdata.errors import GuardError, NoClonesError, PerfdataError, ServerRefusedError
from perfdata.load.provenance import latest
from perfdata.postgres.link import IDENTIFIER_GRANT
from perfdata.postgres.sessions import remaining_sessions, without_sessions
from perfdata.templates.databases import (
    MAINTENANCE,
    Database,
    closed_work,
    drop_database,
    execute_with_identifiers,
    list_databases,
    write_mark,
)
from perfdata.templates.marks import Kind, Mark, read_mark, replaced_name, user_text
from perfdata.templates.properties import apply_properties, read_properties
from perfdata.templates.template import clone, replaced_databases, unused_templates
from perfdata.text import join_first

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from perfdata.postgres.link import Link
    from perfdata.templates.databases import TargetDatabase

_SET_SINCE = 160000  # server_version_num
# Not certain where a role or a database switches track_counts off for its sessions.
_WRITTEN = """
SELECT CASE WHEN current_setting('server_version_num')::int >= 150000
  AND current_setting('track_counts')::bool AND NOT EXISTS (
    SELECT FROM pg_db_role_setting s, unnest(s.setconfig) c (setting)
    WHERE s.setdatabase IN (0, datid) AND c.setting LIKE 'track_counts=%%')
  THEN tup_inserted + tup_updated + tup_deleted END
FROM pg_stat_database WHERE datid = %s"""
_ROLE = """
SELECT r.rolsuper OR r.rolcreatedb, pg_has_role(d.datdba, 'USAGE'), pg_has_role(d.datdba, %s),
  r.rolname, pg_get_userbyid(d.datdba)
FROM pg_roles r, pg_database d WHERE r.rolname = current_user AND d.oid = %s"""

# Objects tied to a database by its oid or name, which a swap would leave with the replaced one.
_BOUND = """
SELECT format('subscription %%s', subname) FROM pg_subscription WHERE subdbid = %(oid)s
UNION ALL SELECT format('replication slot %%s', slot_name) FROM pg_replication_slots
WHERE datoid = %(oid)s
UNION ALL SELECT format('security label of %%s', provider) FROM pg_shseclabel
WHERE classoid = 'pg_database'::regclass AND objoid = %(oid)s
UNION ALL SELECT format('prepared transaction %%s', gid) FROM pg_prepared_xacts p
JOIN pg_database d ON d.datname = p.database WHERE d.oid = %(oid)s"""


class _RehearsedError(Exception):
    """Raised to roll back statements that succeeded."""


def obstacle(target: TargetDatabase) -> str | None:
    """Return why this role can't replace the target by another database, or None.

    Settings and grants are tried on the target itself and rolled back.
    """
    if target.name == MAINTENANCE:
        return f"{target.name} is the maintenance database, which can't be replaced"
    if not target.oid:
        return f"the server has no database {target.name}: a pooler gives that name to another"
    return _requirement(target) or _rehearse(target)


def _requirement(target: TargetDatabase) -> str | None:
    """Return a requirement that the role or the database does not meet."""
    link = target.link
    if link.server_identifier is None:
        return f"marks name the server, whose identifier this role can't read: {IDENTIFIER_GRANT}"
    version = link.value("SELECT current_setting('server_version_num')::int")
    way = "SET" if version >= _SET_SINCE else "MEMBER"
    may_create, holds, may_give, role, owner = link.rows(_ROLE, (way, target.oid))[0]
    if not may_create:
        return (
            f"role {role} may not create databases; a superuser can allow it with: "
            f"ALTER ROLE {sql.Identifier(role).as_string(None)} CREATEDB;"
        )
    if not holds:
        return f"database {target.name} is {owner}'s, and role {role} is not a member of {owner}"
    if not may_give:
        return f"role {role} may not make {owner}, who owns {target.name}, the owner of another"
    bound = [row[0] for row in link.rows(_BOUND, {"oid": target.oid})]
    return f"{bound[0]} is tied to database {target.name}" if bound else None


def _rehearse(target: TargetDatabase) -> str | None:
    try:
        with suppress(_RehearsedError), target.link.transaction():
            wanted = read_properties(target.link, target.oid)
            apply_properties(target.link, target.name, wanted, target.oid)
            raise _RehearsedError
    except ServerRefusedError as error:
        return (
            f"the properties of {target.name} can't be set on another database: "
            f"{error.server_message}"
        )
    except PerfdataError as error:
        return str(error)
    return None


def rows_written(link: Link, oid: int) -> int | None:
    """Return how many rows were ever written in a database, None if that is not certain.

    From PostgreSQL 15 on, a session's counts are flushed before the session ends.
    """
    link.rows("SELECT pg_stat_clear_snapshot()")
    rows = link.rows(_WRITTEN, (oid,))
    return rows[0][0] if rows else None


def swap(
    target: TargetDatabase,
    new: Database,
    template: Database,
    seen: int | None,
    *,
    lost: str = "",
    changes: bool = True,
) -> Database:
    """Replace the target by a clone of a template, or by the template itself, in one transaction.

    The clone gets the target's name, owner, grants, settings, connection limit and comment.
    Returns the replaced database under its new name. If it was not made by perfdata, may have been
    written to since rows_written was ``seen``, or has rows that are not in the clone (``lost``),
    its mark says so: it is ``first``.
    Raises RefusedError, naming them, if sessions are open in the target, and NoClonesError if
    without ``changes`` it may have been written to.
    """
    link, now = target.link, time.time()
    before = _free_name(link, target.name)
    with (
        without_sessions(
            link, target.conninfo, target.oid, target.name, terminate=target.terminate
        ),
        link.transaction(),
    ):
        # No new session can connect from here on, and none is open at the end.
        execute_with_identifiers(link, "ALTER DATABASE {} RENAME TO {}", target.name, before)
        # ANALYZE is counted too, so a difference is a reason to keep the copy, not to refuse.
        changed = seen is None or rows_written(link, target.oid) != seen
        if changed and not changes:
            raise NoClonesError(_written_to(target))
        wanted = read_properties(link, target.oid)
        if any(setting.lower().startswith("perfdata.restore=") for _, setting in wanted.settings):
            raise GuardError(
                f"perfdata.restore was set in {target.name} meanwhile: it is not replaced"
            )
        execute_with_identifiers(link, "ALTER DATABASE {} IS_TEMPLATE false", before)
        apply_properties(link, new.name, wanted, new.oid)
        execute_with_identifiers(link, "ALTER DATABASE {} RENAME TO {}", new.name, target.name)
        text = user_text(wanted.comment)
        mark = read_mark(wanted.comment, target.oid, link.server_identifier)
        made = mark is not None and mark.kind is Kind.MADE and mark.fits(target.name)
        first = bool(lost) or changed or not made
        own = Mark(Kind.MADE, new.oid, target.name, template.key)
        if template.mark is not None:
            own = replace(own, loads=template.mark.loads, filled=template.mark.filled)
        if made and mark is not None:  # the template has all rows of the other tables
            loads = latest([*mark.loads, *own.loads])
            own = replace(own, loads=loads, migrations=mark.migrations)
        write_mark(link, target.name, text, own)
        replaced = Mark(
            Kind.BEFORE, target.oid, target.name, used=now, first=first, lost=lost, changed=changed
        )
        comment = write_mark(link, before, text, replaced)
        if template.mark is not None and template.oid != new.oid:
            write_mark(link, template.name, "", replace(template.mark, used=now))
    return Database.new(link, target.oid, before, comment)


def refuse_users(target: TargetDatabase) -> None:
    """Raise NoClonesError if sessions are connected to the target."""
    if sessions := remaining_sessions(target.link, target.oid):
        raise NoClonesError(f"{target.name} is in use by {join_first(sessions)}")


def refuse_changes(target: TargetDatabase, seen: int) -> None:
    """Raise NoClonesError if the target is in use, or was written to since it was examined."""
    refuse_users(target)
    if rows_written(target.link, target.oid) != seen:
        raise NoClonesError(_written_to(target))


def _written_to(target: TargetDatabase) -> str:
    return f"{target.name} was written to, or may have been, after it was examined"


def swap_clone(
    target: TargetDatabase,
    template: Database,
    seen: int | None,
    *,
    lost: str = "",
    changes: bool = True,
) -> Database:
    """Replace the target by a new clone of a template (see swap)."""
    new = clone(target, template)
    try:
        return swap(target, new, template, seen, lost=lost, changes=changes)
    except BaseException:
        drop_database(target.link, new, force=True)
        raise


def close_work(
    target: TargetDatabase, work: Database, loads: Sequence[Sequence[int]], filled: Sequence[str]
) -> Database:
    """Let nobody connect to finished work that is to replace its target, in one transaction.

    ``loads`` and ``filled`` tell which rows were loaded (see Mark).
    """
    link = target.link
    mark = Mark(Kind.WORK, work.oid, target.name, loads=loads, filled=filled)
    with closed_work(target, work):
        execute_with_identifiers(link, "ALTER DATABASE {} ALLOW_CONNECTIONS false", work.name)
        # Everybody has these on a new database; open_work has revoked them.
        grant: LiteralString = "GRANT CONNECT, TEMPORARY ON DATABASE {} TO PUBLIC"
        execute_with_identifiers(link, grant, work.name)
        comment = write_mark(link, work.name, "", mark)
    return Database.new(link, work.oid, work.name, comment)


def remove_superfluous(
    target: TargetDatabase, template: Database | None, *, coming: int
) -> Iterator[str]:
    """Remove this target's old databases that hold nothing unique; yield notes about them.

    ``template`` is in use, ``coming`` others are about to be made. The first database that was
    replaced stays, as its rows may be nowhere else (see swap): only db.gc removes it.
    """
    databases = list_databases(target.link)
    superfluous = [
        database
        for database in replaced_databases(databases, target.name)
        if database.mark and not database.mark.first
    ]
    superfluous += [
        database
        for database in unused_templates(databases, target.name, coming=coming)
        if template is None or database.oid != template.oid
    ]
    removed: list[str] = []
    for database in superfluous:
        try:
            drop_database(target.link, database, force=False)
        except ServerRefusedError as error:
            yield f"{database.name} is left for db.gc: {error.server_message}"
        else:
            removed.append(database.name)
    if removed:
        yield f"removed, since nothing in them was unique: {', '.join(removed)}"


def _free_name(link: Link, target: str) -> str:
    taken = {database.name for database in list_databases(link)}
    stamp = datetime.now(UTC).strftime("%Y%m%d_%H%M%S")
    name, n = replaced_name(target, stamp), 1
    while name in taken:
        n += 1
        name = replaced_name(target, f"{stamp}_{n}")
    return name

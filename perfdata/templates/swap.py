"""The swap: a finished clone takes the place of a database, in one transaction."""

from __future__ import annotations

import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from perfdata.errors import GuardError, PerfdataError, ServerRefusedError
from perfdata.postgres.link import IDENTIFIER_GRANT
from perfdata.postgres.sessions import without_sessions
from perfdata.templates.databases import MAINTENANCE, list_databases, run_named, write_mark
from perfdata.templates.marks import Kind, Mark, own_words, read_mark, replaced_name
from perfdata.templates.properties import put_properties, read_properties

if TYPE_CHECKING:
    from perfdata.postgres.link import Link
    from perfdata.templates.databases import Database, TargetDatabase

_SET_SINCE = 160000
_WRITTEN = """
SELECT CASE WHEN current_setting('server_version_num')::int >= 150000
  AND current_setting('track_counts')::bool THEN tup_inserted + tup_updated + tup_deleted END
FROM pg_stat_database WHERE datid = %s"""
_ROLE = """
SELECT r.rolsuper OR r.rolcreatedb, pg_has_role(d.datdba, 'USAGE'), pg_has_role(d.datdba, %s),
  r.rolname, pg_get_userbyid(d.datdba)
FROM pg_roles r, pg_database d WHERE r.rolname = current_user AND d.oid = %s"""

# What belongs to a database by its oid, and would stay with the replaced one.
_BOUND = """
SELECT format('subscription %%s', subname) FROM pg_subscription WHERE subdbid = %(oid)s
UNION ALL SELECT format('replication slot %%s', slot_name) FROM pg_replication_slots
WHERE datoid = %(oid)s
UNION ALL SELECT format('security label of %%s', provider) FROM pg_shseclabel
WHERE classoid = 'pg_database'::regclass AND objoid = %(oid)s
UNION ALL SELECT format('prepared transaction %%s', gid) FROM pg_prepared_xacts p
JOIN pg_database d ON d.datname = p.database WHERE d.oid = %(oid)s"""


class _TriedError(Exception):
    """It would work: to be rolled back."""


def obstacle(target: TargetDatabase) -> str | None:
    """Say why this role can't put another database in the place of the target; None: it can.

    What only trying tells (settings, grants) is tried on the target and rolled back.
    """
    if target.name == MAINTENANCE:
        return f"{target.name} is the database that others are replaced from"
    if not target.oid:
        return f"the server has no database {target.name}: a pooler gives that name to another"
    return _lacking(target) or _rehearse(target)


def _lacking(target: TargetDatabase) -> str | None:
    """Say what the role, or the database, lacks."""
    link = target.link
    if link.server_identifier is None:
        return f"marks name the server, whose identifier this role can't read: {IDENTIFIER_GRANT}"
    version = link.value("SELECT current_setting('server_version_num')::int")
    way = "SET" if version >= _SET_SINCE else "MEMBER"
    may_create, holds, may_give, role, owner = link.rows(_ROLE, (way, target.oid))[0]
    if not may_create:
        return f"role {role} may not create databases (CREATEDB)"
    if not holds:
        return f"database {target.name} is {owner}'s, and role {role} is no member of that"
    if not may_give:
        return f"role {role} may not give a database to {owner}, who owns {target.name}"
    bound = [row[0] for row in link.rows(_BOUND, {"oid": target.oid})]
    return f"{bound[0]} hangs on database {target.name} itself" if bound else None


def _rehearse(target: TargetDatabase) -> str | None:
    try:
        with suppress(_TriedError), target.link.transaction():
            wanted = read_properties(target.link, target.oid)
            put_properties(target.link, target.name, wanted, target.oid)
            raise _TriedError
    except ServerRefusedError as error:
        return f"what {target.name} is set to can't be given to another: {error.server_message}"
    except PerfdataError as error:
        return str(error)
    return None


def written(link: Link, oid: int) -> int | None:
    """Return how many rows were ever written in a database; None where that is not sure.

    A session's counts are there before it is gone from the database (since 15).
    """
    link.rows("SELECT pg_stat_clear_snapshot()")
    rows = link.rows(_WRITTEN, (oid,))
    return rows[0][0] if rows else None


def swap(
    target: TargetDatabase, new: Database, template: Database, seen: int | None, *, lost: str
) -> tuple[str, bool]:
    """Put a clone of a template in the target's place; return what the target is called now.

    And whether it may have been written to since ``seen`` was counted. Where it was, or where rows
    were ``lost`` to the clone, its mark says that only a collection may remove it, and which rows.

    All or nothing: names, owner, grants, settings, limit and comment change in one transaction.
    Raises RefusedError, naming them, where sessions are open in the target.
    """
    link, now = target.link, time.time()
    before = _free_name(link, target.name)
    with (
        without_sessions(
            link, target.conninfo, target.oid, target.name, terminate=target.terminate
        ),
        link.transaction(),
    ):
        # From here on nobody new gets into the target, and in the end nobody is in it.
        run_named(link, "ALTER DATABASE {} RENAME TO {}", target.name, before)
        # More than rows is counted (an ANALYZE): reason to keep the copy, not to refuse.
        changed = seen is None or written(link, target.oid) != seen
        wanted = read_properties(link, target.oid)
        if any(setting.lower().startswith("perfdata.restore=") for _, setting in wanted.settings):
            raise GuardError(f"perfdata.restore was set in {target.name} meanwhile: it stays")
        run_named(link, "ALTER DATABASE {} IS_TEMPLATE false", before)
        put_properties(link, new.name, wanted, new.oid)
        run_named(link, "ALTER DATABASE {} RENAME TO {}", new.name, target.name)
        words = own_words(wanted.comment)
        mark = read_mark(wanted.comment, target.oid, link.server_identifier)
        made = mark is not None and mark.kind is Kind.MADE and mark.names(target.name)
        first = bool(lost) or changed or not made
        write_mark(link, target.name, words, Mark(Kind.MADE, new.oid, target.name, template.key))
        replaced = Mark(Kind.BEFORE, target.oid, target.name, used=now, first=first)
        write_mark(link, before, words, replaced.of(lost=lost, changed=changed))
        if template.mark is not None:
            write_mark(link, template.name, "", template.mark.of(used=now))
    return before, changed


def _free_name(link: Link, target: str) -> str:
    taken = {one.name for one in list_databases(link)}
    stamp = datetime.now(UTC).strftime("%Y%m%d_%H%M%S")
    name, n = replaced_name(target, stamp), 1
    while name in taken:
        n += 1
        name = replaced_name(target, f"{stamp}_{n}")
    return name

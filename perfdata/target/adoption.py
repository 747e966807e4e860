"""Adoption: a database that somebody else made becomes perfdata's own, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perfdata.errors import RefusedError
from perfdata.postgres.link import IDENTIFIER_GRANT
from perfdata.target.guard import locate, protection
from perfdata.templates.databases import remove_mark, write_mark
from perfdata.templates.marks import Kind, Mark, read_mark, user_text

if TYPE_CHECKING:
    from perfdata.postgres.link import Link

_DATABASE = """
SELECT d.oid::bigint, d.datname, shobj_description(d.oid, 'pg_database'),
  pg_has_role(d.datdba, 'USAGE'), pg_get_userbyid(d.datdba), current_user::text
FROM pg_database d WHERE d.datname = current_database()"""


def adopt_database(link: Link, name: str, *, dry: bool = False) -> bool:
    """Mark the database of a link as one that perfdata owns; return False if it was before.

    ``name`` is its full name, as an entry of ``allow`` has it: ``host:port/database``. ``dry``
    makes the checks only. Raises RefusedError if another database is connected, if the role may not
    comment on it, or if it has another purpose; GuardError if perfdata.restore is set.
    """
    oid, database, comment = _check(link, name)
    mark = read_mark(comment, oid, link.server_identifier)
    if mark is not None and mark.fits(database):
        if mark.kind is Kind.MADE:
            return False
        raise RefusedError(
            f"refused: {database} is a database that perfdata made for {mark.target} "
            f"({mark.kind.value}), not one to work in"
        )
    if not dry:
        write_mark(link, database, user_text(comment), Mark(Kind.MADE, oid, database))
    return True


def release_database(link: Link, name: str, *, dry: bool = False) -> bool:
    """Remove the mark of the database of a link; return False if perfdata does not own it.

    Raises what adopt_database raises.
    """
    oid, database, comment = _check(link, name)
    mark = read_mark(comment, oid, link.server_identifier)
    if mark is None or mark.kind is not Kind.MADE or not mark.fits(database):
        return False
    if not dry:
        remove_mark(link, database, user_text(comment))
    return True


def _check(link: Link, name: str) -> tuple[int, str, str | None]:
    """Return the oid, name and comment of the database that is connected, if it may be marked."""
    entry = locate(link).entry
    if name != entry:
        raise RefusedError(
            f"refused: the database that the settings name is {entry}, not {name}",
            remedy="Write its full name, or set PERFDATA_DATABASE_URL to the one that you mean",
        )
    if error := protection(link):
        raise error
    ((oid, database, comment, may_comment, owner, role),) = link.rows(_DATABASE)
    if not may_comment:
        raise RefusedError(
            f"refused: only the owner of {database}, {owner}, may comment on it, and {role} is not "
            "a member of that role",
            remedy=f"Connect as {owner}",
        )
    if link.server_identifier is None:
        raise RefusedError(
            "refused: a mark names the server, whose identifier this role can't read",
            remedy=IDENTIFIER_GRANT,
        )
    return oid, database, comment

"""The databases of a server: what perfdata made, known by its mark, and where it works on them.

Every database that perfdata makes is known by its mark; nothing without one is ever removed. What
is done for one target is done under an advisory lock of its own in the maintenance database, so
that an unfinished database that is found under it was left by a run that was killed.
"""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, LiteralString

from psycopg import sql

from perfdata.postgres.connection import connect
from perfdata.postgres.drivers import PsycopgLink
from perfdata.postgres.locks import ADVISORY_LOCK
from perfdata.progress import Event
from perfdata.server.embedded import EmbeddedServer
from perfdata.templates.marks import (
    UNMARKED_LIMIT,
    WORK_PREFIX,
    Kind,
    Mark,
    parse_mark,
    read_mark,
    write_comment,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from perfdata.config import Settings
    from perfdata.postgres.link import Link
    from perfdata.progress import Report

MAINTENANCE = "postgres"

_DATABASES = """
SELECT d.oid::bigint, d.datname, shobj_description(d.oid, 'pg_database'), d.datconnlimit,
  d.datdba = current_user::regrole, pg_has_role(d.datdba, 'USAGE'),
  EXISTS (SELECT FROM pg_db_role_setting s CROSS JOIN unnest(s.setconfig) c (setting)
          WHERE s.setdatabase = d.oid AND c.setting ILIKE 'perfdata.restore=_%')
FROM pg_database d ORDER BY d.datname"""


@dataclass(frozen=True)
class Database:
    """A database of the server with this identifier (None: it won't say).

    ``ours``: this role's own, ``held``: one that it may remove, ``protected``: perfdata.restore is
    set in it, so that it stays.
    """

    oid: int
    name: str
    comment: str | None
    limit: int
    ours: bool
    held: bool
    protected: bool
    server: int | None

    @classmethod
    def new(cls, link: Link, oid: int, name: str, comment: str | None) -> Database:
        """Return a database that this role has just made, sealed by its limit."""
        return cls(
            oid, name, comment, UNMARKED_LIMIT,
            ours=True, held=True, protected=False, server=link.server_identifier,
        )  # fmt: skip

    @property
    def mark(self) -> Mark | None:
        """What perfdata wrote into its comment, as long as the name is the one it goes with."""
        mark = read_mark(self.comment, self.oid, self.server)
        return mark if mark is not None and mark.names(self.name) else None

    @property
    def strayed(self) -> Mark | None:
        """A mark that does not hold here, of a database that was to be removed.

        Somebody gave it another name, or the mark was written on another server, for another
        database, or without the server's identifier.
        """
        mark = parse_mark(self.comment)
        return None if mark is None or mark.kind is Kind.MADE or self.mark else mark

    @property
    def removable(self) -> bool:
        """Whether this role may remove it, and nobody forbade that."""
        return self.held and not self.protected

    @property
    def key(self) -> str:
        """The key of a template; empty for all else."""
        return self.mark.key if self.mark else ""

    def unfinished_for(self, number: int) -> bool:
        """Tell whether it was made by a run for the target of this lock, and never finished."""
        if self.mark is not None:
            return self.mark.kind is Kind.WORK and lock_number(self.mark.target) == number
        return self.unmarked and self.name.startswith(work_prefix(number))

    @property
    def unmarked(self) -> bool:
        """Whether a run was killed between making it and writing its mark."""
        return self.comment is None and self.limit == UNMARKED_LIMIT


@dataclass(frozen=True)
class TargetDatabase:
    """Where a database is replaced: a link to the maintenance database, and the target.

    ``conninfo`` is the maintenance database's, and may hold a password.
    """

    link: Link
    conninfo: str
    oid: int
    name: str
    embedded: bool
    terminate: bool


def find_target(
    link: Link, conninfo: str, name: str, settings: Settings, *, terminate: bool = False
) -> TargetDatabase:
    """Find a target over the maintenance database, whose link and conninfo are given."""
    oid = next((database.oid for database in list_databases(link) if database.name == name), 0)
    embedded = EmbeddedServer(settings).owns(link)
    return TargetDatabase(link, conninfo, oid, name, embedded, terminate)


def lock_number(target: str) -> int:
    """Return the number of a target's advisory lock, which stands in its databases' names too."""
    return int.from_bytes(hashlib.sha256(target.encode()).digest()[:4], signed=True)


def work_prefix(number: int) -> str:
    """Return how the names of a target's unfinished databases begin."""
    return f"{WORK_PREFIX}{number & 0xFFFFFFFF:08x}_"


@contextmanager
def maintenance_link(conninfo: str) -> Iterator[tuple[Link, str]]:
    """Connect to the maintenance database of a conninfo's server; yield the conninfo used too.

    Raises ConnectError.
    """
    from psycopg.conninfo import make_conninfo

    conninfo = make_conninfo(conninfo, dbname=MAINTENANCE)
    connection = connect(conninfo)
    try:
        link = PsycopgLink(connection)
        link.together(
            ["SET statement_timeout = 0", "SET lock_timeout = 0",
             "SET idle_session_timeout = 0", "SET idle_in_transaction_session_timeout = 0"]
        )  # fmt: skip
        yield link, conninfo
    finally:
        connection.close()


def lock_target(link: Link, target: str, report: Report) -> None:
    """Wait for the advisory lock of a target, and hold it as long as the connection lasts."""
    if not try_lock(link, lock_number(target)):
        report(Event(f"waiting for another restore that replaces {target}"))
        link.rows("SELECT pg_advisory_lock(%s, %s)", (ADVISORY_LOCK, lock_number(target)))


def try_lock(link: Link, number: int) -> bool:
    """Take a target's advisory lock where nobody holds it."""
    taken = link.value("SELECT pg_try_advisory_lock(%s, %s)", (ADVISORY_LOCK, number))
    return bool(taken)


def unlock(link: Link, number: int) -> None:
    """Give a target's advisory lock back."""
    link.rows("SELECT pg_advisory_unlock(%s, %s)", (ADVISORY_LOCK, number))


def list_databases(link: Link) -> list[Database]:
    """Return the databases of the server, whoever made them."""
    return [Database(*[*row, link.server_identifier]) for row in link.rows(_DATABASES)]


def write_mark(link: Link, name: str, words: str, mark: Mark) -> str:
    """Write a database's comment anew: what somebody wrote, and the mark, of this very server.

    Returns the comment.
    """
    comment = write_comment(words, mark.of(server=link.server_identifier or 0))
    link.execute(
        sql.SQL("COMMENT ON DATABASE {} IS {}").format(sql.Identifier(name), sql.Literal(comment))
    )
    return comment


def mark_made(link: Link, name: str) -> None:
    """Mark a database that perfdata has just made to be used: all in it is perfdata's."""
    oid = link.value("SELECT oid::bigint FROM pg_database WHERE datname = %s", (name,))
    write_mark(link, name, "", Mark(Kind.MADE, oid, name))


def drop_database(link: Link, one: Database, *, force: bool) -> None:
    """Drop a database that carries perfdata's mark, where it still is what was found.

    ``force`` ends the sessions in it.
    """
    found = link.rows("SELECT datname, datistemplate FROM pg_database WHERE oid = %s", (one.oid,))
    if not found or found[0][0] != one.name:
        return  # dropped meanwhile, or renamed: then somebody wants it
    # What an interrupted DROP leaves behind takes no ALTER, which would end the connection.
    if found[0][1]:
        run_named(link, "ALTER DATABASE {} IS_TEMPLATE false", one.name)
    run_named(link, "DROP DATABASE {} WITH (FORCE)" if force else "DROP DATABASE {}", one.name)


def unfinished(link: Link, number: int) -> list[Database]:
    """Return what killed runs left for a target; to be asked only under its lock."""
    return [one for one in list_databases(link) if one.removable and one.unfinished_for(number)]


def run_named(link: Link, statement: LiteralString, *names: str) -> None:
    """Run a statement whose placeholders are names, of databases for example."""
    link.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))

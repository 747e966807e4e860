"""The databases of a server: which of them perfdata made, and locks for working on them.

perfdata marks every database that it makes, and removes only marked ones. Work for a target is done
with the target's advisory lock held in the maintenance database. An unfinished database that is
found with the lock held is orphaned: its process was killed.
"""

from __future__ import annotations

import hashlib
import time
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, LiteralString

from psycopg import sql

from perfdata.postgres.connection import connect
from perfdata.postgres.drivers import PsycopgLink
from perfdata.postgres.locks import ADVISORY_LOCK
from perfdata.postgres.sessions import remaining_sessions, without_sessions
from perfdata.progress import Event
from perfdata.server.embedded import EmbeddedServer
from perfdata.templates.marks import (
    UNMARKED_LIMIT,
    WORK_PREFIX,
    Kind,
    Mark,
    format_comment,
    parse_mark,
    read_mark,
    user_text,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from perfdata.config import Settings
    from perfdata.postgres.link import Link
    from perfdata.progress import Report

MAINTENANCE = "postgres"

# The server frees the lock of a connection that was closed a moment ago within some milliseconds.
_TRIES, _PAUSE_S = 10, 0.02
_DATABASES = """
SELECT d.oid::bigint, d.datname, shobj_description(d.oid, 'pg_database'), d.datconnlimit,
  d.datdba = current_user::regrole, pg_has_role(d.datdba, 'USAGE'),
  EXISTS (SELECT FROM pg_db_role_setting s CROSS JOIN unnest(s.setconfig) c (setting)
          WHERE s.setdatabase = d.oid AND c.setting ILIKE 'perfdata.restore=_%')
FROM pg_database d ORDER BY d.datname"""
_CURRENT = """
SELECT d.oid::bigint, d.datname, pg_catalog.shobj_description(d.oid, 'pg_database')
FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()"""


@dataclass(frozen=True)
class Database:
    """A database of a server.

    Attributes:
        limit: its connection limit.
        ours: whether this very role owns it.
        droppable: whether this role may drop it.
        protected: whether perfdata.restore is set in it, so that it must stay.
        server: the server's system identifier, None if this role can't read it.
    """

    oid: int
    name: str
    comment: str | None
    limit: int
    ours: bool
    droppable: bool
    protected: bool
    server: int | None

    @classmethod
    def new(cls, link: Link, oid: int, name: str, comment: str | None) -> Database:
        """Return a database that this role has just created."""
        return cls(
            oid, name, comment, UNMARKED_LIMIT,
            ours=True, droppable=True, protected=False, server=link.server_identifier,
        )  # fmt: skip

    @property
    def mark(self) -> Mark | None:
        """The mark in the database's comment, None if the mark is not valid here."""
        mark = read_mark(self.comment, self.oid, self.server)
        return mark if mark is not None and mark.fits(self.name) else None

    @property
    def invalid_mark(self) -> Mark | None:
        """A mark that is not valid here, of a database that could otherwise be removed.

        Somebody renamed the database, or the mark was written on another server, for another
        database, or without the server's identifier.
        """
        mark = parse_mark(self.comment)
        return None if mark is None or mark.kind is Kind.MADE or self.mark else mark

    @property
    def removable(self) -> bool:
        """Whether this role may drop the database, and perfdata.restore does not protect it."""
        return self.droppable and not self.protected

    @property
    def key(self) -> str:
        """The key of a template; empty for other databases."""
        return self.mark.key if self.mark else ""

    def unfinished_for(self, number: int) -> bool:
        """Tell whether the database is unfinished work for the target with this lock number."""
        if self.mark is not None:
            return self.mark.kind is Kind.WORK and lock_number(self.mark.target) == number
        return self.unmarked and self.name.startswith(work_prefix(number))

    @property
    def unmarked(self) -> bool:
        """Whether the process that created the database was killed before writing the mark."""
        return self.comment is None and self.limit == UNMARKED_LIMIT


@dataclass(frozen=True)
class TargetDatabase:
    """A database to be replaced, and a link to its server's maintenance database.

    ``conninfo`` is the maintenance database's, and may contain a password. ``oid`` is 0 if the
    server has no such database. ``terminate`` says whether to end others' sessions.
    """

    link: Link
    conninfo: str = field(repr=False)
    oid: int
    name: str
    embedded: bool
    terminate: bool


def find_target(
    link: Link, conninfo: str, name: str, settings: Settings, *, terminate: bool = False
) -> TargetDatabase:
    """Find a target by its name; link and conninfo are the maintenance database's."""
    oid = next((database.oid for database in list_databases(link) if database.name == name), 0)
    embedded = EmbeddedServer(settings).owns(link)
    return TargetDatabase(link, conninfo, oid, name, embedded, terminate)


def lock_number(target: str) -> int:
    """Return the number of a target's advisory lock; it is part of its databases' names."""
    return int.from_bytes(hashlib.sha256(target.encode()).digest()[:4], signed=True)


def work_prefix(number: int) -> str:
    """Return the prefix of the names of a target's unfinished databases."""
    return f"{WORK_PREFIX}{number & 0xFFFFFFFF:08x}_"


@contextmanager
def maintenance_link(conninfo: str) -> Iterator[tuple[Link, str]]:
    """Connect to a server's maintenance database; yield a link and its conninfo.

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
    """Wait for a target's advisory lock, and hold it until the connection closes."""
    for _ in range(_TRIES):
        if try_lock(link, lock_number(target)):
            return
        time.sleep(_PAUSE_S)
    report(Event(f"waiting for another restore that replaces {target}"))
    link.rows("SELECT pg_advisory_lock(%s, %s)", (ADVISORY_LOCK, lock_number(target)))


def try_lock(link: Link, number: int) -> bool:
    """Take a target's advisory lock if it is free; tell whether it was."""
    taken = link.value("SELECT pg_try_advisory_lock(%s, %s)", (ADVISORY_LOCK, number))
    return bool(taken)


def unlock(link: Link, number: int) -> None:
    """Release a target's advisory lock."""
    link.rows("SELECT pg_advisory_unlock(%s, %s)", (ADVISORY_LOCK, number))


def list_databases(link: Link) -> list[Database]:
    """Return all databases of the server."""
    return [Database(*[*row, link.server_identifier]) for row in link.rows(_DATABASES)]


def database_oid(link: Link, name: str) -> int:
    """Return the oid of a database that exists."""
    return int(link.value("SELECT oid::bigint FROM pg_database WHERE datname = %s", (name,)))


def write_mark(link: Link, name: str, text: str, mark: Mark) -> str:
    """Set a database's comment to a user's text and a mark for this server; return it."""
    comment = format_comment(text, replace(mark, server=link.server_identifier or 0))
    link.execute(
        sql.SQL("COMMENT ON DATABASE {} IS {}").format(sql.Identifier(name), sql.Literal(comment))
    )
    return comment


def remove_mark(link: Link, name: str, text: str) -> None:
    """Set a database's comment to a user's text only."""
    comment = sql.Literal(text or None)
    link.execute(sql.SQL("COMMENT ON DATABASE {} IS {}").format(sql.Identifier(name), comment))


def mark_made(link: Link, name: str) -> None:
    """Mark a new database as owned by perfdata."""
    write_mark(link, name, "", Mark(Kind.MADE, database_oid(link, name), name))


def drop_database(link: Link, database: Database, *, force: bool) -> None:
    """Drop a marked database, unless it was renamed since; ``force`` ends the sessions in it."""
    query = "SELECT datname, datistemplate FROM pg_database WHERE oid = %s"
    found = link.rows(query, (database.oid,))
    if not found or found[0][0] != database.name:
        return
    # Only if needed: ALTER of a database whose DROP was interrupted would end the connection.
    if found[0][1]:
        execute_with_identifiers(link, "ALTER DATABASE {} IS_TEMPLATE false", database.name)
    drop: LiteralString = "DROP DATABASE {} WITH (FORCE)" if force else "DROP DATABASE {}"
    execute_with_identifiers(link, drop, database.name)


def refuse_connections(link: Link, work: Database) -> None:
    """Let nobody connect to an unfinished database; sessions that are open stay."""
    execute_with_identifiers(link, "ALTER DATABASE {} ALLOW_CONNECTIONS false", work.name)


def unfinished_databases(link: Link, number: int) -> list[Database]:
    """Return what killed processes left for a target; its lock must be held."""
    return [
        database
        for database in list_databases(link)
        if database.removable and database.unfinished_for(number)
    ]


@contextmanager
def closed_work(target: TargetDatabase, work: Database) -> Iterator[None]:
    """Run a transaction that requires unfinished work without sessions."""
    link = target.link
    # Our own sessions are closed and end by themselves; other sessions are terminated.
    others = bool(remaining_sessions(link, work.oid))
    with (
        without_sessions(link, target.conninfo, work.oid, work.name, terminate=others),
        link.transaction(),
    ):
        yield


def is_target(link: Link, target: TargetDatabase) -> bool:
    """Tell whether a link is to the target; through a pooler it may be to another database."""
    ((oid, name, _),) = link.rows(_CURRENT)
    same = (oid, name) == (target.oid, target.name)
    return same and link.server_identifier == target.link.server_identifier


def complete_marks(link: Link) -> None:
    """Add the server's identifier to marks that lack it.

    For the embedded server only, where every mark was written by perfdata for this server.
    """
    for database in list_databases(link):
        mark = parse_mark(database.comment)
        if mark is not None and not mark.server and mark.oid == database.oid:
            write_mark(link, database.name, user_text(database.comment), mark)


def execute_with_identifiers(link: Link, statement: LiteralString, *names: str) -> None:
    """Run a statement whose placeholders are identifiers."""
    link.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))

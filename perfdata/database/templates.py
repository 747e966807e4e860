"""Templates: finished databases that others are cloned from, and what else perfdata made.

Every database that perfdata makes is known by its mark; nothing without one is ever removed. What
is done for one target is done under an advisory lock of its own in the maintenance database, so
that whatever unfinished database is found under it was left by a run that is no more.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, LiteralString

from psycopg import sql

from perfdata.database.marks import (
    UNMARKED_LIMIT,
    WORK_PREFIX,
    Kind,
    Mark,
    parse_mark,
    read_mark,
    template_name,
    write_comment,
)
from perfdata.errors import ServerRefusedError
from perfdata.postgres.connection import connect
from perfdata.postgres.drivers import PsycopgLink
from perfdata.postgres.locks import ADVISORY_LOCK
from perfdata.postgres.sessions import remaining_sessions, without_sessions
from perfdata.progress import Event

if TYPE_CHECKING:
    from collections.abc import Iterator

    from perfdata.postgres.link import Link
    from perfdata.progress import Report

MAINTENANCE = "postgres"
# Perf tests use several datasets in one run, and the next run uses the same.
TEMPLATES_KEPT = {Kind.TEMPLATE: 2, Kind.PERF: 8}
# FILE_COPY checkpoints the whole cluster, WAL_LOG writes all that it copies twice. Measured with
# 18.6: 7.5 MB 55-93 ms against 67-90 ms, but 330 ms when much had just been loaded; 383 MB
# 0.23-0.39 s against 0.57-1.0 s. So beside a load small ones by WAL_LOG; on a server that others
# use, all until it costs more than such a checkpoint.
OWN_FILE_COPY_BYTES = 64 << 20
FILE_COPY_BYTES = 256 << 20
# From 18 on the server may have the file system clone the files, where that can.
_HOW = """
SELECT pg_database_size(%s::oid), EXISTS (SELECT FROM pg_settings
  WHERE name = 'file_copy_method' AND 'clone' = ANY (enumvals))"""

_DATABASES = """
SELECT d.oid::bigint, d.datname, shobj_description(d.oid, 'pg_database'), d.datconnlimit,
  d.datdba = current_user::regrole, pg_has_role(d.datdba, 'USAGE'),
  EXISTS (SELECT FROM pg_db_role_setting s CROSS JOIN unnest(s.setconfig) c (setting)
          WHERE s.setdatabase = d.oid AND c.setting ILIKE 'perfdata.restore=_%')
FROM pg_database d ORDER BY d.datname"""


@dataclass(frozen=True)
class Found:
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
    def new(cls, link: Link, oid: int, name: str, comment: str | None) -> Found:
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
        return self.unmarked and self.name.startswith(_work_prefix(number))

    @property
    def unmarked(self) -> bool:
        """Whether a run was killed between making it and writing its mark."""
        return self.comment is None and self.limit == UNMARKED_LIMIT


@dataclass(frozen=True)
class Place:
    """Where a database is replaced: a link to the maintenance database, and the target.

    ``conninfo`` is the maintenance database's, and may hold a password.
    """

    link: Link
    conninfo: str
    oid: int
    name: str
    embedded: bool
    terminate: bool


def lock_number(target: str) -> int:
    """Return the number of a target's advisory lock, which stands in its databases' names too."""
    return int.from_bytes(hashlib.sha256(target.encode()).digest()[:4], signed=True)


def _work_prefix(number: int) -> str:
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


def list_databases(link: Link) -> list[Found]:
    """Return the databases of the server, whoever made them."""
    return [Found(*[*row, link.server_identifier]) for row in link.rows(_DATABASES)]


def likely_template(link: Link, target: str, snapshot: str) -> Found | None:
    """Return the template last used for a target that was made from these rows."""
    found = [
        (one.mark.used, one.name, one)
        for one in list_databases(link)
        if one.ours
        and one.mark
        and one.mark.kind is Kind.TEMPLATE
        and (one.mark.target, one.mark.snapshot) == (target, snapshot)
    ]
    return max(found)[2] if found else None


def find_template(link: Link, key: str, kind: Kind = Kind.TEMPLATE) -> Found | None:
    """Return the finished template of a key, made by this very role."""
    for one in list_databases(link):
        mark = one.mark
        if one.ours and mark and mark.kind is kind and mark.key == key:
            return one
    return None


def clone(place: Place, source: Found, *, settled: bool = False) -> Found:
    """Clone a database into a sealed one, marked as unfinished work.

    ``settled``: nothing was loaded just now, so that a checkpoint costs little.
    Raises RefusedError, naming who is there, where somebody is in the source.
    """
    name = f"{_work_prefix(lock_number(place.name))}{secrets.token_hex(6)}"
    terminate = place.terminate and source.oid == place.oid
    with without_sessions(place.link, place.conninfo, source.oid, source.name, terminate=terminate):
        create_clone(place, source, name, settled=settled)
    oid = place.link.value("SELECT oid::bigint FROM pg_database WHERE datname = %s", (name,))
    comment = write_mark(place.link, name, "", Mark(Kind.WORK, oid, place.name))
    return Found.new(place.link, oid, name, comment)


def create_clone(place: Place, source: Found, name: str, *, settled: bool) -> None:
    """Clone a database in the quickest way; the clone is sealed, and has no mark yet."""
    link = place.link
    ((size, cloning),) = link.rows(_HOW, (source.oid,))
    query = sql.SQL(
        "CREATE DATABASE {} TEMPLATE {} STRATEGY {} ALLOW_CONNECTIONS false CONNECTION LIMIT {}"
    )
    parts = (sql.Identifier(name), sql.Identifier(source.name))
    limit = sql.Literal(UNMARKED_LIMIT)
    if size < (0 if place.embedded and settled else _file_copy_bytes(place)):
        link.execute(query.format(*parts, sql.SQL("wal_log"), limit))
        return
    copying = query.format(*parts, sql.SQL("file_copy"), limit)
    if not cloning:
        link.execute(copying)
        return
    try:
        link.execute("SET file_copy_method = clone")
        link.execute(copying)
    except ServerRefusedError as error:
        if (error.sqlstate or "")[:2] not in _NO_FILE_CLONES:
            raise
        link.execute("SET file_copy_method = copy")
        link.execute(copying)


def _file_copy_bytes(place: Place) -> int:
    return OWN_FILE_COPY_BYTES if place.embedded else FILE_COPY_BYTES


def log_bytes(place: Place, size: int) -> int:
    """Return what a clone of so many bytes writes to the log at its most, beside its files."""
    return min(size, _file_copy_bytes(place))


# System and I/O errors: a file system that can't clone a file says so only when it is asked.
_NO_FILE_CLONES = {"0A", "22", "58", "XX"}


def open_work(link: Link, work: Found) -> None:
    """Let this role, and no other but superusers, into a database that is worked on."""
    name = sql.Identifier(work.name)
    with link.transaction():
        link.together(
            [sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(name),
             sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(name)]
        )  # fmt: skip


def seal_template(
    place: Place, work: Found, key: str, snapshot: str, kind: Kind = Kind.TEMPLATE
) -> Found:
    """Make a finished work database the template of a key; its mark says so last, or not at all."""
    link, name = place.link, template_name(key)
    mark = Mark(kind, work.oid, place.name, key, snapshot, time.time())
    # Ours are closed and about to end; whoever else looked in is ended, over one connection more.
    others = bool(remaining_sessions(link, work.oid))
    with (
        without_sessions(link, place.conninfo, work.oid, work.name, terminate=others),
        link.transaction(),
    ):
        run_named(link, "ALTER DATABASE {} RENAME TO {}", work.name, name)
        run_named(link, "ALTER DATABASE {} ALLOW_CONNECTIONS false IS_TEMPLATE true", name)
        comment = write_mark(link, name, "", mark)
    return Found.new(link, work.oid, name, comment)


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


def drop_database(link: Link, one: Found, *, force: bool) -> None:
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


def unfinished(link: Link, number: int) -> list[Found]:
    """Return what killed runs left for a target; to be asked only under its lock."""
    return [one for one in list_databases(link) if one.removable and one.unfinished_for(number)]


def superfluous_templates(
    found: list[Found], target: str, kind: Kind = Kind.TEMPLATE, coming: int = 0
) -> list[Found]:
    """Return a target's templates but those last used; where the target is gone, all of them.

    ``coming``: templates that are about to be made, for which there is to be room.
    """
    marked = [(one.mark, one) for one in found if one.removable]
    templates = sorted(
        (-mark.used, one.name, one)
        for mark, one in marked
        if mark is not None and mark.kind is kind and mark.target == target
    )
    room = TEMPLATES_KEPT[kind] - coming
    kept = room if any(one.name == target for one in found) else 0
    return [one for _, _, one in templates[kept:]]


def replaced(found: list[Found], target: str) -> list[Found]:
    """Return what restores of a target have replaced, oldest first."""
    marked = [(one.mark, one) for one in found if one.removable]
    ordered = sorted(
        (mark.used, one.name, one)
        for mark, one in marked
        if mark is not None and mark.kind is Kind.BEFORE and mark.target == target
    )
    return [one for _, _, one in ordered]


def run_named(link: Link, statement: LiteralString, *names: str) -> None:
    """Run a statement whose placeholders are names, of databases for example."""
    link.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))

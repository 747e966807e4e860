"""Templates: finished databases that others are cloned from."""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING

from psycopg import sql

from perfdata.errors import ServerRefusedError
from perfdata.postgres.sessions import remaining_sessions, without_sessions
from perfdata.templates.databases import (
    Database,
    list_databases,
    lock_number,
    run_named,
    work_prefix,
    write_mark,
)
from perfdata.templates.marks import UNMARKED_LIMIT, Kind, Mark, template_name

if TYPE_CHECKING:
    from perfdata.postgres.link import Link
    from perfdata.templates.databases import TargetDatabase

# Perf tests use several datasets in one run, and the next run uses the same.
TEMPLATES_KEPT = {Kind.TEMPLATE: 2, Kind.PERF: 8}
# FILE_COPY checkpoints the whole cluster, WAL_LOG writes all that it copies twice. Measured with
# 18.6: 7.5 MB 55-93 ms against 67-90 ms, but 330 ms when much had just been loaded; 383 MB
# 0.23-0.39 s against 0.57-1.0 s. So beside a load small ones by WAL_LOG; on a server that others
# use, all until it costs more than such a checkpoint.
OWN_FILE_COPY_BYTES = 64 << 20
FILE_COPY_BYTES = 256 << 20
# System and I/O errors: a file system that can't clone a file says so only when it is asked.
_NO_FILE_CLONES = {"0A", "22", "58", "XX"}
# From 18 on the server may have the file system clone the files, where that can.
_HOW = """
SELECT pg_database_size(%s::oid), EXISTS (SELECT FROM pg_settings
  WHERE name = 'file_copy_method' AND 'clone' = ANY (enumvals))"""


def find_template(link: Link, key: str, kind: Kind = Kind.TEMPLATE) -> Database | None:
    """Return the finished template of a key, made by this very role."""
    for one in list_databases(link):
        mark = one.mark
        if one.ours and mark and mark.kind is kind and mark.key == key:
            return one
    return None


def clone(target: TargetDatabase, source: Database, *, settled: bool = False) -> Database:
    """Clone a database into a sealed one, marked as unfinished work.

    ``settled``: nothing was loaded just now, so that a checkpoint costs little.
    Raises RefusedError, naming who is there, where somebody is in the source.
    """
    name = f"{work_prefix(lock_number(target.name))}{secrets.token_hex(6)}"
    terminate = target.terminate and source.oid == target.oid
    with without_sessions(
        target.link, target.conninfo, source.oid, source.name, terminate=terminate
    ):
        create_clone(target, source, name, settled=settled)
    oid = target.link.value("SELECT oid::bigint FROM pg_database WHERE datname = %s", (name,))
    comment = write_mark(target.link, name, "", Mark(Kind.WORK, oid, target.name))
    return Database.new(target.link, oid, name, comment)


def create_clone(target: TargetDatabase, source: Database, name: str, *, settled: bool) -> None:
    """Clone a database in the quickest way; the clone is sealed, and has no mark yet."""
    link = target.link
    ((size, cloning),) = link.rows(_HOW, (source.oid,))
    query = sql.SQL(
        "CREATE DATABASE {} TEMPLATE {} STRATEGY {} ALLOW_CONNECTIONS false CONNECTION LIMIT {}"
    )
    parts = (sql.Identifier(name), sql.Identifier(source.name))
    limit = sql.Literal(UNMARKED_LIMIT)
    if size < (0 if target.embedded and settled else _file_copy_bytes(target)):
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


def _file_copy_bytes(target: TargetDatabase) -> int:
    return OWN_FILE_COPY_BYTES if target.embedded else FILE_COPY_BYTES


def log_bytes(target: TargetDatabase, size: int) -> int:
    """Return what a clone of so many bytes writes to the log at its most, beside its files."""
    return min(size, _file_copy_bytes(target))


def open_work(link: Link, work: Database) -> None:
    """Let this role, and no other but superusers, into a database that is worked on."""
    name = sql.Identifier(work.name)
    with link.transaction():
        link.together(
            [sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(name),
             sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(name)]
        )  # fmt: skip


def seal_template(
    target: TargetDatabase, work: Database, key: str, snapshot: str, kind: Kind = Kind.TEMPLATE
) -> Database:
    """Make a finished work database the template of a key; its mark says so last, or not at all."""
    link, name = target.link, template_name(key)
    mark = Mark(kind, work.oid, target.name, key, snapshot, time.time())
    # Ours are closed and about to end; whoever else looked in is ended, over one connection more.
    others = bool(remaining_sessions(link, work.oid))
    with (
        without_sessions(link, target.conninfo, work.oid, work.name, terminate=others),
        link.transaction(),
    ):
        run_named(link, "ALTER DATABASE {} RENAME TO {}", work.name, name)
        run_named(link, "ALTER DATABASE {} ALLOW_CONNECTIONS false IS_TEMPLATE true", name)
        comment = write_mark(link, name, "", mark)
    return Database.new(link, work.oid, name, comment)


def superfluous_templates(
    found: list[Database], target: str, kind: Kind = Kind.TEMPLATE, coming: int = 0
) -> list[Database]:
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


def replaced(found: list[Database], target: str) -> list[Database]:
    """Return what restores of a target have replaced, oldest first."""
    marked = [(one.mark, one) for one in found if one.removable]
    ordered = sorted(
        (mark.used, one.name, one)
        for mark, one in marked
        if mark is not None and mark.kind is Kind.BEFORE and mark.target == target
    )
    return [one for _, _, one in ordered]

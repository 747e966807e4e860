"""Templates: finished databases; and their clones, also those of a test run.

A test run makes clones and drops them at its end. It holds an advisory lock in the maintenance
database; the lock's number is part of the names of the run's clones. A clone whose lock is free is
orphaned: its run was killed.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from psycopg import sql

from perfdata.errors import ServerRefusedError
from perfdata.postgres.locks import ADVISORY_LOCK
from perfdata.postgres.sessions import without_sessions
from perfdata.templates.databases import (
    Database,
    closed_work,
    database_oid,
    drop_database,
    execute_with_identifiers,
    list_databases,
    lock_number,
    work_prefix,
    write_mark,
)
from perfdata.templates.marks import CLONE_PREFIX, UNMARKED_LIMIT, Kind, Mark, template_name
from perfdata.templates.properties import apply_properties, read_properties

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from perfdata.postgres.link import Link
    from perfdata.templates.databases import TargetDatabase

# Perf tests use several datasets in one run, and the next run uses the same.
TEMPLATES_KEPT = {Kind.TEMPLATE: 2, Kind.PERF: 8}
# FILE_COPY checkpoints the whole cluster; WAL_LOG writes everything twice. Measured with 18.6:
# 7.5 MB take 55-93 ms against 67-90 ms, but 330 ms shortly after a load; 383 MB take 0.23-0.39 s
# against 0.57-1.0 s. So small databases use WAL_LOG shortly after a load; on a server with other
# users, all for which it costs less than such a checkpoint.
OWN_FILE_COPY_BYTES = 64 << 20
FILE_COPY_BYTES = 256 << 20
# SQLSTATE classes of system and I/O errors, from file systems that can't clone files.
_NO_FILE_CLONES = {"0A", "22", "58", "XX"}
# From 18 on, the server can have the file system clone the files.
_CLONING = """
SELECT pg_database_size(%s::oid), EXISTS (SELECT FROM pg_settings
  WHERE name = 'file_copy_method' AND 'clone' = ANY (enumvals))"""

_RUNS = ADVISORY_LOCK + 1
# After the prefix: eight digits of the target's lock, an underscore, eight of the run's.
_RUN_AT, _DIGITS = 9, 8

# The only setting of clones whose value is a list of names.
_LIST = "session_preload_libraries"


def find_template(link: Link, key: str, kind: Kind = Kind.TEMPLATE) -> Database | None:
    """Return the finished template of a key that this very role owns."""
    for database in list_databases(link):
        mark = database.mark
        if database.ours and mark and mark.kind is kind and mark.key == key:
            return database
    return None


def use_template(link: Link, key: str, kind: Kind) -> Database | None:
    """Find a template, and mark it as used now."""
    template = find_template(link, key, kind)
    if template is not None and template.mark is not None:
        write_mark(link, template.name, "", replace(template.mark, used=time.time()))
    return template


def clone(
    target: TargetDatabase, source: Database, *, checkpoint_is_cheap: bool = False
) -> Database:
    """Clone a database into one that accepts no connections, marked as unfinished work.

    ``checkpoint_is_cheap`` says that nothing was loaded recently, so that a checkpoint is cheap.
    Raises RefusedError, naming them, if sessions are open in the source.
    """
    name = work_name(target)
    terminate = target.terminate and source.oid == target.oid
    with without_sessions(
        target.link, target.conninfo, source.oid, source.name, terminate=terminate
    ):
        create_clone(target, source, name, checkpoint_is_cheap=checkpoint_is_cheap)
    return mark_work(target, name)


def work_name(target: TargetDatabase) -> str:
    """Return a new name for unfinished work for a target."""
    return f"{work_prefix(lock_number(target.name))}{secrets.token_hex(6)}"


def mark_work(target: TargetDatabase, name: str) -> Database:
    """Mark a new database as unfinished work for a target."""
    oid = database_oid(target.link, name)
    comment = write_mark(target.link, name, "", Mark(Kind.WORK, oid, target.name))
    return Database.new(target.link, oid, name, comment)


def create_clone(
    target: TargetDatabase, source: Database, name: str, *, checkpoint_is_cheap: bool
) -> None:
    """Clone a database in the fastest way; the clone accepts no connections and has no mark."""
    link = target.link
    ((size, cloning),) = link.rows(_CLONING, (source.oid,))
    query = sql.SQL(
        "CREATE DATABASE {} TEMPLATE {} STRATEGY {} ALLOW_CONNECTIONS false CONNECTION LIMIT {}"
    )
    parts = (sql.Identifier(name), sql.Identifier(source.name))
    limit = sql.Literal(UNMARKED_LIMIT)
    if size < (0 if target.embedded and checkpoint_is_cheap else _file_copy_bytes(target)):
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
    """Return how many bytes of WAL a clone of ``size`` bytes writes at most, besides its files."""
    return min(size, _file_copy_bytes(target))


def open_work(link: Link, work: Database) -> None:
    """Let only this role and superusers connect to an unfinished database."""
    name = sql.Identifier(work.name)
    with link.transaction():
        link.together(
            [sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(name),
             sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(name)]
        )  # fmt: skip


def seal_template(
    target: TargetDatabase,
    work: Database,
    key: str,
    snapshot: str,
    kind: Kind = Kind.TEMPLATE,
    *,
    loads: Sequence[Sequence[int]] = (),
    filled: Sequence[str] = (),
) -> Database:
    """Make a finished database the template of a key, in one transaction.

    ``loads`` and ``filled`` tell which rows were loaded (see Mark).
    """
    link, name = target.link, template_name(key)
    mark = Mark(kind, work.oid, target.name, key, snapshot, time.time(), loads=loads, filled=filled)
    with closed_work(target, work):
        execute_with_identifiers(link, "ALTER DATABASE {} RENAME TO {}", work.name, name)
        execute_with_identifiers(
            link, "ALTER DATABASE {} ALLOW_CONNECTIONS false IS_TEMPLATE true", name
        )
        comment = write_mark(link, name, "", mark)
    return Database.new(link, work.oid, name, comment)


def unused_templates(
    found: list[Database], target: str, kind: Kind = Kind.TEMPLATE, coming: int = 0
) -> list[Database]:
    """Return a target's templates except those last used; all of them if the target is gone.

    ``coming`` templates are about to be made, and are counted among those last used.
    """
    templates = _marked(found, target, kind)
    exists = any(database.name == target for database in found)
    kept = TEMPLATES_KEPT[kind] - coming if exists else 0
    templates.sort(key=lambda pair: (-pair[0].used, pair[1].name))
    return [database for _, database in templates[kept:]]


def replaced_databases(found: list[Database], target: str) -> list[Database]:
    """Return the databases that restores of a target have replaced, oldest first."""
    marked = _marked(found, target, Kind.BEFORE)
    return [
        database for _, database in sorted(marked, key=lambda pair: (pair[0].used, pair[1].name))
    ]


def parked_databases(found: list[Database], target: str) -> list[Database]:
    """Return the parked databases of a target."""
    return [database for _, database in _marked(found, target, Kind.PARKED)]


def _marked(found: list[Database], target: str, kind: Kind) -> list[tuple[Mark, Database]]:
    """Return the removable databases of a kind for a target, with their marks."""
    return [
        (mark, database)
        for database in found
        if database.removable
        and (mark := database.mark) is not None
        and mark.kind is kind
        and mark.target == target
    ]


def begin_run(link: Link) -> int:
    """Take the lock of a new run until the connection closes; return its number."""
    while True:
        number = secrets.randbits(31)
        if link.value("SELECT pg_try_advisory_lock(%s, %s)", (_RUNS, number)):
            return number


def make_clone(
    target: TargetDatabase, template: Database, run: int, settings: Mapping[str, str]
) -> Database:
    """Clone a template for a run, with the target's owner, grants and settings, and ``settings``.

    Raises ServerRefusedError or SchemaError if the role may not set these.
    """
    link, number = target.link, lock_number(target.name) & 0xFFFFFFFF
    name = f"{CLONE_PREFIX}{number:08x}_{run:08x}_{secrets.token_hex(4)}"
    create_clone(target, template, name, checkpoint_is_cheap=True)
    oid = database_oid(link, name)
    mark = Mark(Kind.CLONE, oid, target.name, template.key)
    made = Database.new(link, oid, name, None)
    try:
        write_mark(link, name, "", mark)
        properties = read_properties(link, target.oid)
        others = tuple(
            (role, setting)
            for role, setting in properties.settings
            if role or setting.partition("=")[0] not in settings
        )
        properties = replace(properties, settings=others, connection_limit=-1, is_template=False)
        with link.transaction():
            apply_properties(link, name, properties, oid)
            link.together([_set(name, setting, value) for setting, value in settings.items()])
    except BaseException:
        drop_database(link, made, force=True)
        raise
    return made


def _set(name: str, setting: str, value: str) -> sql.Composed:
    values = value.split(", ") if setting == _LIST else [value]
    return sql.SQL("ALTER DATABASE {} SET {} TO {}").format(
        sql.Identifier(name),
        sql.SQL(".").join(map(sql.Identifier, setting.split("."))),
        sql.SQL(", ").join(sql.Literal(element.strip('"')) for element in values),
    )


def orphaned_clones(link: Link, number: int, own_run: int | None = None) -> list[Database]:
    """Return the clones for a target (by its lock's number) whose runs were killed.

    This takes the locks of these runs, so that no other process removes the same clones.
    """
    return [
        database
        for database in list_databases(link)
        if database.removable
        and _is_clone(database, number)
        and _is_orphaned(link, database.name, own_run)
    ]


def _is_clone(database: Database, number: int) -> bool:
    if not database.name.startswith(f"{CLONE_PREFIX}{number & 0xFFFFFFFF:08x}_"):
        return False
    if database.mark is not None:
        return database.mark.kind is Kind.CLONE
    return database.unmarked


def _is_orphaned(link: Link, name: str, own_run: int | None) -> bool:
    digits = name.removeprefix(CLONE_PREFIX)[_RUN_AT : _RUN_AT + _DIGITS]
    try:
        run = int(digits, 16)
    except ValueError:
        return False
    if run == own_run:
        return False
    return bool(link.value("SELECT pg_try_advisory_lock(%s, %s)", (_RUNS, run)))

"""Clones: databases that a test run makes from a template, and drops at its end.

A run holds an advisory lock in the maintenance database; its number is part of the names of its
clones. A clone whose lock is free is orphaned: its run was killed.
"""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import TYPE_CHECKING

from psycopg import sql

from perfdata.postgres.locks import ADVISORY_LOCK
from perfdata.templates.databases import (
    Database,
    database_oid,
    drop_database,
    list_databases,
    lock_number,
    write_mark,
)
from perfdata.templates.marks import CLONE_PREFIX, Kind, Mark
from perfdata.templates.properties import apply_properties, read_properties
from perfdata.templates.template import create_clone

if TYPE_CHECKING:
    from collections.abc import Mapping

    from perfdata.postgres.link import Link
    from perfdata.templates.databases import TargetDatabase

_RUNS = ADVISORY_LOCK + 1
# After the prefix: eight digits of the target's lock, an underscore, eight of the run's.
_RUN_AT, _DIGITS = 9, 8

# The only setting of clones whose value is a list of names.
_LIST = "session_preload_libraries"


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
    create_clone(target, template, name, settled=True)
    oid = database_oid(link, name)
    mark = Mark(Kind.CLONE, oid, target.name, template.key)
    clone = Database.new(link, oid, name, None)
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
        drop_database(link, clone, force=True)
        raise
    return clone


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

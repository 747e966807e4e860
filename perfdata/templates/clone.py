"""Clones: databases of a run's own, that last as long as the run needs them.

A run holds an advisory lock in the maintenance database, whose number stands in the names of its
clones. A clone whose run's lock is free was left by a run that was killed.
"""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import TYPE_CHECKING

from psycopg import sql

from perfdata.postgres.locks import ADVISORY_LOCK
from perfdata.templates.databases import (
    Database,
    drop_database,
    list_databases,
    lock_number,
    write_mark,
)
from perfdata.templates.marks import CLONE_PREFIX, Kind, Mark
from perfdata.templates.properties import put_properties, read_properties
from perfdata.templates.template import create_clone

if TYPE_CHECKING:
    from collections.abc import Mapping

    from perfdata.postgres.link import Link
    from perfdata.templates.databases import TargetDatabase

_RUNS = ADVISORY_LOCK + 1
# After the prefix: eight digits of the target's lock, an underscore, eight of the run's.
_RUN_AT, _DIGITS = 9, 8

# Of what clones are set to, the one that is a list of names.
_LIST = "session_preload_libraries"


def begin_run(link: Link) -> int:
    """Take the lock of a new run, which ends with the connection; return its number."""
    while True:
        number = secrets.randbits(31)
        if link.value("SELECT pg_try_advisory_lock(%s, %s)", (_RUNS, number)):
            return number


def make_clone(
    target: TargetDatabase, template: Database, run: int, settings: Mapping[str, str]
) -> Database:
    """Clone a template for a run; it has the target's owner, grants and settings, and these.

    Raises ServerRefusedError and SchemaError where the role may not.
    """
    link, number = target.link, lock_number(target.name) & 0xFFFFFFFF
    name = f"{CLONE_PREFIX}{number:08x}_{run:08x}_{secrets.token_hex(4)}"
    create_clone(target, template, name, settled=True)
    oid = link.value("SELECT oid::bigint FROM pg_database WHERE datname = %s", (name,))
    mark = Mark(Kind.CLONE, oid, target.name, template.key)
    made = Database.new(link, oid, name, None)
    try:
        write_mark(link, name, "", mark)
        wanted = read_properties(link, target.oid)
        others = tuple(one for one in wanted.settings if one[0] or _named(one[1]) not in settings)
        wanted = replace(wanted, settings=others, connection_limit=-1, is_template=False)
        with link.transaction():
            put_properties(link, name, wanted, oid)
            link.together([_set(name, *one) for one in settings.items()])
    except BaseException:
        drop_database(link, made, force=True)
        raise
    return made


def _named(setting: str) -> str:
    return setting.partition("=")[0]


def _set(name: str, setting: str, value: str) -> sql.Composed:
    values = value.split(", ") if setting == _LIST else [value]
    return sql.SQL("ALTER DATABASE {} SET {} TO {}").format(
        sql.Identifier(name),
        sql.SQL(".").join(map(sql.Identifier, setting.split("."))),
        sql.SQL(", ").join(sql.Literal(one.strip('"')) for one in values),
    )


def left_clones(link: Link, number: int, own_run: int | None = None) -> list[Database]:
    """Return the clones for a target (by its lock's number) that killed runs have left.

    The locks of these runs are held from then on, so that no two remove the same.
    """
    return [
        one
        for one in list_databases(link)
        if one.removable and _is_clone(one, number) and _is_left(link, one.name, own_run)
    ]


def _is_clone(one: Database, number: int) -> bool:
    if not one.name.startswith(f"{CLONE_PREFIX}{number & 0xFFFFFFFF:08x}_"):
        return False
    if one.mark is not None:
        return one.mark.kind is Kind.CLONE
    return one.unmarked


def _is_left(link: Link, name: str, own_run: int | None) -> bool:
    digits = name.removeprefix(CLONE_PREFIX)[_RUN_AT : _RUN_AT + _DIGITS]
    try:
        run = int(digits, 16)
    except ValueError:
        return False
    if run == own_run:
        return False
    return bool(link.value("SELECT pg_try_advisory_lock(%s, %s)", (_RUNS, run)))

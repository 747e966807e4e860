"""The functions on snapshots as coroutines.

``database`` is a URL, a SQLAlchemy AsyncEngine, AsyncConnection or AsyncSession (with psycopg or
asyncpg), or a psycopg AsyncConnection. A caller's open transaction is joined. Snapshot files are
read and written on the event loop, one block at a time.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from perfdata.config import Settings
from perfdata.errors import ConfigError
from perfdata.postgres.locks import LOCK_TIMEOUT_S
from perfdata.progress import silent

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sqlalchemy.orm import Session

    from perfdata.postgres.link import Link
    from perfdata.progress import Report
    from perfdata.snapshot.diff.difference import Difference
    from perfdata.snapshot.options import Restored
    from perfdata.snapshot.store import Snapshot

__all__ = [
    "create_snapshot",
    "delete_snapshot",
    "diff_snapshots",
    "list_snapshots",
    "restore_snapshot",
    "snapshot_exists",
    "verify_snapshot",
]

T = TypeVar("T")


async def create_snapshot(
    database: object,
    name: str,
    description: str = "",
    *,
    all_rows: bool = False,
    replace: bool = False,
    strict: bool = False,
    as_superuser: bool = False,
    lock_timeout_s: float = LOCK_TIMEOUT_S,
    settings: Settings | None = None,
    report: Report = silent,
) -> Snapshot:
    """Save a database's flagged rows, or all rows, as a snapshot: see perfdata.create_snapshot."""
    from perfdata.snapshot.create import create
    from perfdata.snapshot.options import CreateOptions

    options = CreateOptions(
        name=name,
        description=description,
        all_rows=all_rows,
        replace=replace,
        strict=strict,
        as_superuser=as_superuser,
        lock_timeout_s=lock_timeout_s,
    )
    settings = settings or Settings.load()
    return await _with_link(database, lambda link: create(link, options, settings, report))


async def restore_snapshot(
    database: object,
    name: str,
    clean_existing: bool = True,
    *,
    fresh: bool = False,
    terminate: bool = False,
    allow_drift: bool = False,
    rebuild_indexes: bool = False,
    unflagged_rows: bool = False,
    as_superuser: bool = False,
    lock_timeout_s: float = LOCK_TIMEOUT_S,
    settings: Settings | None = None,
    report: Report = silent,
) -> Restored:
    """Replace a database's flagged rows with a snapshot's: see perfdata.restore_snapshot.

    ``fresh`` takes a URL or an AsyncEngine and does its work in a thread.
    """
    from perfdata.snapshot.in_place import restore_in_place
    from perfdata.snapshot.options import RestoreOptions
    from perfdata.snapshot.restore import restore_into
    from perfdata.snapshot.store import find_snapshot

    settings = settings or Settings.load()
    snapshot = find_snapshot(name, settings)
    options = RestoreOptions(
        clean_existing=clean_existing,
        fresh=fresh,
        terminate=terminate,
        allow_drift=allow_drift,
        rebuild_indexes=rebuild_indexes,
        unflagged_rows=unflagged_rows,
        as_superuser=as_superuser,
        lock_timeout_s=lock_timeout_s,
    )
    if fresh:
        synchronous = await _synchronous(database)
        return await asyncio.to_thread(
            restore_into, synchronous, snapshot, settings, options, report
        )
    began = time.perf_counter()
    file = await asyncio.to_thread(snapshot.open().check)
    restored = await _with_link(
        database, lambda link: restore_in_place(link, file, settings, options, report)
    )
    return dataclasses.replace(restored, duration_s=time.perf_counter() - began)


async def list_snapshots(
    settings: Settings | None = None, report: Report = silent
) -> list[Snapshot]:
    """Return all snapshots, sorted by name: see perfdata.list_snapshots."""
    from perfdata.snapshot import store

    return await asyncio.to_thread(store.list_snapshots, settings, report)


async def delete_snapshot(name: str, settings: Settings | None = None) -> Path:
    """Delete the snapshot of that name, and return the path it had."""
    from perfdata.snapshot import store

    return await asyncio.to_thread(store.delete_snapshot, name, settings)


async def snapshot_exists(name: str, settings: Settings | None = None) -> bool:
    """Return whether a snapshot of that name exists; case matters."""
    from perfdata.snapshot import store

    return await asyncio.to_thread(store.snapshot_exists, name, settings)


async def verify_snapshot(
    name: str,
    settings: Settings | None = None,
    *,
    database: object = None,
    as_superuser: bool = False,
    lock_timeout_s: float = LOCK_TIMEOUT_S,
    report: Report = silent,
) -> Snapshot:
    """Check a snapshot's file, and a database against it: see perfdata.verify_snapshot."""
    from perfdata.snapshot import verify

    snapshot = await asyncio.to_thread(verify.verify_file, name, settings or Settings.load())
    if database is not None:
        check = partial(
            verify.verify_against,
            snapshot=snapshot,
            lock_timeout_s=lock_timeout_s,
            report=report,
            as_superuser=as_superuser,
        )
        await _with_link(database, check)
    return snapshot


async def diff_snapshots(
    name: str,
    other: str | None = None,
    *,
    database: object = None,
    limit: int = 5,
    as_superuser: bool = False,
    lock_timeout_s: float = LOCK_TIMEOUT_S,
    settings: Settings | None = None,
    report: Report = silent,
) -> Difference:
    """Compare a snapshot with another one or with a database: see perfdata.diff_snapshots."""
    from perfdata.snapshot.diff import difference
    from perfdata.snapshot.store import find_snapshot

    settings = settings or Settings.load()
    if database is None or other is not None:
        compare = partial(difference.diff_snapshots, database=database, limit=limit)
        return await asyncio.to_thread(compare, name, other, settings=settings, report=report)
    snapshot = find_snapshot(name, settings)
    return await _with_link(
        database,
        lambda link: difference.diff_with_database(
            link, snapshot, limit, lock_timeout_s, report, as_superuser=as_superuser
        ),
    )


async def _synchronous(database: object) -> object:
    """Return an AsyncEngine's URL, after closing its connections; anything else as it is."""
    from sqlalchemy.ext.asyncio import AsyncEngine

    if not isinstance(database, AsyncEngine):
        return database
    await database.dispose()
    return database.url.render_as_string(hide_password=False)


async def _with_link(database: object, work: Callable[[Link], T]) -> T:
    """Run ``work`` with a link to the caller's database, in a greenlet that can await."""
    import psycopg
    from sqlalchemy.exc import DBAPIError
    from sqlalchemy.ext.asyncio import (
        AsyncConnection,
        AsyncEngine,
        AsyncSession,
        async_scoped_session,
    )
    from sqlalchemy.util import greenlet_spawn

    from perfdata.postgres.async_drivers import AsyncPsycopgLink, join_connection
    from perfdata.postgres.connection import connect_async, connect_error
    from perfdata.postgres.url import normalise_url

    def on_safe_path(link: Link) -> T:
        with link.on_safe_path():
            return work(link)

    if isinstance(database, async_scoped_session):
        database = database()
    if isinstance(database, AsyncSession):
        return await database.run_sync(_in_session, on_safe_path)
    if isinstance(database, AsyncConnection):
        return await database.run_sync(lambda connection: on_safe_path(join_connection(connection)))
    if isinstance(database, psycopg.AsyncConnection):
        return await greenlet_spawn(on_safe_path, AsyncPsycopgLink(database))
    if isinstance(database, AsyncEngine):
        try:
            opened = await database.connect()
        except (DBAPIError, OSError) as error:
            raise connect_error(database.url, error) from error
        async with aclosing(opened) as connection:
            own = await connection.execution_options(isolation_level="AUTOCOMMIT")
            return await own.run_sync(lambda synchronous: work(join_connection(synchronous)))
    if not isinstance(database, str):
        raise ConfigError(
            "database must be a URL, a SQLAlchemy AsyncEngine, AsyncConnection or AsyncSession, or "
            f"a psycopg AsyncConnection, not {type(database).__module__}."
            f"{type(database).__qualname__}; for synchronous ones use the functions of perfdata"
        )
    async with await connect_async(normalise_url(database)) as opened_here:
        return await greenlet_spawn(work, AsyncPsycopgLink(opened_here))


def _in_session(session: Session, work: Callable[[Link], T]) -> T:
    from perfdata.postgres.async_drivers import join_session

    with join_session(session) as link:
        return work(link)

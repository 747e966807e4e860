"""Restore a snapshot into a database, or into a fresh one that replaces it."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from perfdata.config import Settings
from perfdata.errors import NoClonesError
from perfdata.postgres.connection import conninfo_of, open_link
from perfdata.postgres.locks import LOCK_TIMEOUT_S
from perfdata.progress import silent
from perfdata.snapshot.fresh import explain_no_clones, restore_fresh
from perfdata.snapshot.in_place import restore_in_place
from perfdata.snapshot.options import RestoreOptions
from perfdata.snapshot.store import find_snapshot

if TYPE_CHECKING:
    from perfdata.progress import Report
    from perfdata.snapshot.options import Restored
    from perfdata.snapshot.store import Snapshot


def restore_snapshot(
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
    """Replace a database's flagged rows with a snapshot's, in one transaction.

    Rows without the flag are left unchanged.

    Args:
        database: a URL, a SQLAlchemy Engine, Connection or Session, or a psycopg connection. A
            caller's open transaction is joined: nothing is committed or vacuumed.
        name: the snapshot's name.
        clean_existing: False adds to the flagged rows in the database.
        fresh: replace the whole database, given as a URL or an Engine, with the clone of a
            template that has the snapshot's rows. Owner, grants, settings and comment stay; the
            replaced database is kept under another name. A role that may not do this restores in
            place, and the notes say why.
        terminate: end the sessions that are open in a database that ``fresh`` replaces. If False, a
            RefusedError names the sessions.
        allow_drift: accept newer migrations and columns if every row still fits.
        rebuild_indexes: drop and rebuild indexes even if the tables hold other rows, which is
            faster from a million rows on. RefusedError while pg_dump reads the database.
        unflagged_rows: accept rows without the flag from the file: whole tables that the setting
            ``whole_tables`` does not name, and all rows although other tables hold rows.
        as_superuser: let code run that other roles wrote (checks, defaults, index expressions). The
            code may then do whatever the role of this connection may.
        lock_timeout_s: how many seconds to wait for locks; LoadError then names their holders.
        settings: those of the current folder by default.
        report: called with progress.

    Raises, before the first change: SnapshotDamagedError (the file), GuardError (the database is
    not listed), SnapshotStaleError (the migrations), SchemaError (the tables), BoundaryError (rows
    that stay reference rows that go), UserCodeError (code of other roles), PrivilegesError, and
    RefusedError (rows that the file may not add or that it requires; too little disk space).
    """
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
    return restore_into(database, snapshot, settings, options, report)


def restore_into(
    database: object,
    snapshot: Snapshot,
    settings: Settings,
    options: RestoreOptions,
    report: Report,
) -> Restored:
    """Restore a snapshot into a database (see restore_snapshot)."""
    began = time.perf_counter()
    obstacle: NoClonesError | None = None
    notes: tuple[str, ...] = ()
    if options.fresh:
        database = conninfo_of(database)
        try:
            return restore_fresh(database, snapshot, settings, options, report)
        except NoClonesError as error:
            obstacle, notes = error, (f"restored without fresh=True: {error}",)
    file = snapshot.open().check()
    with explain_no_clones(obstacle), open_link(database) as link:
        restored = restore_in_place(link, file, settings, options.in_place, report)
    duration_s = time.perf_counter() - began
    return replace(restored, duration_s=duration_s, notes=(*notes, *restored.notes))

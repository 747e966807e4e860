"""Restore into an existing database in one transaction, which keeps its other rows."""

from __future__ import annotations

import time
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from perfdata.load.loader import load
from perfdata.postgres.locks import load_lock
from perfdata.snapshot.checks.ownership import record_loaded
from perfdata.snapshot.options import Restored
from perfdata.snapshot.prepare import prepare
from perfdata.snapshot.rows import SnapshotRows
from perfdata.target.audit import log_change
from perfdata.templates.provenance import find_owned

if TYPE_CHECKING:
    from collections.abc import Iterator

    from perfdata.config import Settings
    from perfdata.postgres.link import Link
    from perfdata.progress import Report
    from perfdata.snapshot.format.manifest import Manifest
    from perfdata.snapshot.format.reader import SnapshotFile
    from perfdata.snapshot.options import RestoreOptions


def restore_in_place(
    link: Link, file: SnapshotFile, settings: Settings, options: RestoreOptions, report: Report
) -> Restored:
    """Restore a snapshot file, which the caller has checked, over an open link."""
    began = time.perf_counter()
    manifest = file.manifest
    with _own_rows_locked(link, options.lock_timeout_s, report):
        plan = prepare(link, manifest, settings, options)
        record = partial(record_loaded, link, plan, added=not options.clean_existing)
        loaded = load(link, plan, SnapshotRows(file), report, record)
    duration_s = time.perf_counter() - began
    notes = (*loaded.notes, *log_restore(link, manifest, loaded.strategy.value))
    return Restored(manifest.name, loaded.rows, loaded.strategy.value, duration_s, notes)


@contextmanager
def _own_rows_locked(link: Link, timeout_s: float, report: Report) -> Iterator[None]:
    """Lock out other loads in an owned database before it is read which rows are perfdata's own.

    Otherwise the rows of a load that ends meanwhile would be taken for somebody else's.
    """
    if find_owned(link) is None:
        yield
        return
    with load_lock(link, shared=False, timeout_s=timeout_s, report=report):
        yield


def log_restore(
    link: Link, manifest: Manifest, strategy: str, database: str | None = None
) -> tuple[str, ...]:
    """Write a restore to the server's log; return notes (see log_change)."""
    done = f"restored snapshot {manifest.name} (sha256 of its rows {manifest.body.sha256})"
    return log_change(link, done, manifest.rows, strategy, database)

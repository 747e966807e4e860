"""Restore into an existing database in one transaction, which keeps its other rows."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from perfdata.load.loader import load
from perfdata.snapshot.checks.ownership import record_loaded
from perfdata.snapshot.options import Restored
from perfdata.snapshot.prepare import prepare
from perfdata.snapshot.rows import SnapshotRows
from perfdata.target.audit import log_change

if TYPE_CHECKING:
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
    plan = prepare(link, manifest, settings, options)
    loaded = load(link, plan, SnapshotRows(file), report)
    record_loaded(link, plan, loaded, added=not options.clean_existing)
    duration_s = time.perf_counter() - began
    notes = (*loaded.notes, *log_restore(link, manifest, loaded.strategy.value))
    return Restored(manifest.name, loaded.rows, loaded.strategy.value, duration_s, notes)


def log_restore(
    link: Link, manifest: Manifest, strategy: str, database: str | None = None
) -> tuple[str, ...]:
    """Write a restore to the server's log; return notes (see log_change)."""
    done = f"restored snapshot {manifest.name} (sha256 of its rows {manifest.body.sha256})"
    return log_change(link, done, manifest.rows, strategy, database)

"""Preview a restore: make its checks and report what it would do, without changes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from perfdata.errors import NoClonesError
from perfdata.load.loader import preview_load
from perfdata.postgres.connection import open_link
from perfdata.server.binaries import find_binaries
from perfdata.snapshot.checks.staleness import check_current, check_migrations
from perfdata.snapshot.fresh import explain_no_clones, preview_fresh
from perfdata.snapshot.prepare import prepare
from perfdata.snapshot.provide import REBUILDABLE, Current, Rebuild, decide, rebuild_because
from perfdata.snapshot.rows import SnapshotRows
from perfdata.snapshot.store import find_snapshot

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perfdata.load.plan import Plan
    from perfdata.load.removals import Removal
    from perfdata.progress import Report
    from perfdata.snapshot.options import RestoreOptions
    from perfdata.snapshot.store import Snapshot
    from perfdata.target.target import Target


@dataclass(frozen=True)
class TablePreview:
    """One table: what happens to its rows, and how many would be loaded.

    ``removal`` is None if the whole database would be replaced.
    """

    key: str
    whole: bool
    removal: Removal | None
    coming: int


@dataclass(frozen=True)
class RestorePreview:
    """What a restore would do, table by table, and notes for the user.

    ``lost`` lists the rows that a fresh database would not have.
    """

    snapshot: Snapshot
    tables: tuple[TablePreview, ...]
    lost: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def fresh(self) -> bool:
        """Whether a new database would replace the target."""
        return all(table.removal is None for table in self.tables)


def preview_restore(
    target: Target, name: str, options: RestoreOptions, report: Report, *, may_build: bool
) -> RestorePreview | Rebuild:
    """Return what provide_dataset would do; raise what it raises before its first change."""
    decision = decide(target, name, options, may_build=may_build)
    if isinstance(decision, Current):
        try:
            return _preview(target, decision.snapshot, options, report)
        except REBUILDABLE as error:
            return rebuild_because(target, name, error, may_build=may_build)
    return decision


def preview_without_server(
    target: Target, name: str, options: RestoreOptions, *, may_build: bool
) -> Snapshot | Rebuild:
    """Make the checks that need no server; for an embedded database that is not ready.

    The restore would migrate it to the project's heads first, so a snapshot made with other
    migrations is found here too.
    """
    project, settings = target.project, target.settings
    may_build = may_build and options.clean_existing
    find_binaries(settings)
    try:
        snapshot = find_snapshot(name, settings)
        built = snapshot.manifest.dataset_fingerprint is not None
        if project is not None and project.find_dataset(name) is not None and built:
            check_current(snapshot, project, allow_newer=options.allow_drift)
        elif project is not None:
            check_migrations(snapshot, project, allow_newer=options.allow_drift)
        snapshot.open().check()
    except REBUILDABLE as error:
        return rebuild_because(target, name, error, may_build=may_build)
    return snapshot


def _preview(
    target: Target, snapshot: Snapshot, options: RestoreOptions, report: Report
) -> RestorePreview:
    file = snapshot.open()
    plan: Plan | None = None
    removals: Sequence[Removal] = ()
    lost: Sequence[str] = ()
    notes: list[str] = []
    obstacle: NoClonesError | None = None
    if options.fresh:
        try:
            plan, lost = preview_fresh(target.conninfo, file, target.settings, options, report)
        except NoClonesError as error:
            obstacle = error
            notes.append(f"would be restored without fresh=True: {error}")
    if plan is None:
        file.check()
        with explain_no_clones(obstacle), open_link(target.conninfo) as link:
            plan = prepare(link, file.manifest, target.settings, options.in_place)
            removals, reader_notes = preview_load(link, plan, SnapshotRows(file))
        notes += reader_notes
    by_oid = {removal.table.oid: removal for removal in removals}
    stats, whole = snapshot.manifest.stats, snapshot.manifest.whole_tables
    tables = tuple(
        TablePreview(table.key, table.key in whole, by_oid.get(table.oid), stats.get(table.key, 0))
        for table in plan.tables
    )
    return RestorePreview(snapshot, tables, tuple(lost), (*notes, *plan.notes))

"""Preview: what a restore would do, by the checks that it makes; nothing is changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from perfdata.errors import NoClonesError
from perfdata.load.loader import preview_load
from perfdata.postgres.connection import open_link
from perfdata.snapshot.fresh import preview_fresh
from perfdata.snapshot.prepare import prepare
from perfdata.snapshot.provide import REBUILDABLE, Current, Rebuild, decide, rebuild
from perfdata.snapshot.rows import SnapshotRows

if TYPE_CHECKING:
    from collections.abc import Iterable

    from perfdata.load.existing import Removal
    from perfdata.load.plan import Plan
    from perfdata.progress import Report
    from perfdata.snapshot.options import RestoreOptions
    from perfdata.snapshot.store import Snapshot
    from perfdata.target.target import Target


@dataclass(frozen=True)
class TablePreview:
    """One table: what becomes of its rows (None: the whole database goes), and how many come."""

    key: str
    whole: bool
    removal: Removal | None
    coming: int


@dataclass(frozen=True)
class RestorePreview:
    """What a restore would do: the snapshot, table by table, and what a user should know.

    ``lost`` are rows that would not be in a fresh database.
    """

    snapshot: Snapshot
    tables: tuple[TablePreview, ...]
    lost: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def fresh(self) -> bool:
        """Whether a new database would take the place of the target."""
        return all(table.removal is None for table in self.tables)


def preview_restore(
    target: Target, name: str, options: RestoreOptions, report: Report, *, may_build: bool
) -> RestorePreview | Rebuild:
    """Say what provide_dataset would do; raise what it raises before its first change."""
    decision = decide(target, name, options, may_build=may_build)
    if isinstance(decision, Current):
        try:
            return _preview(target, decision.snapshot, options, report)
        except REBUILDABLE as error:
            return rebuild(target, name, error, may_build=may_build)
    return decision


def _preview(
    target: Target, snapshot: Snapshot, options: RestoreOptions, report: Report
) -> RestorePreview:
    notes: tuple[str, ...] = ()
    file = snapshot.open()
    if options.fresh:
        try:
            plan, lost = preview_fresh(target.conninfo, file, target.settings, options, report)
        except NoClonesError as error:
            notes = (f"would be restored without --fresh: {error}",)
        else:
            return _described(snapshot, plan, [], lost)
    file.check()
    with open_link(target.conninfo) as link:
        plan = prepare(link, file.manifest, target.settings, options.in_place)
        removals, reader_notes = preview_load(link, plan, SnapshotRows(file))
    return _described(snapshot, plan, removals, notes=(*notes, *reader_notes))


def _described(
    snapshot: Snapshot,
    plan: Plan,
    removals: Iterable[Removal],
    lost: Iterable[str] = (),
    notes: Iterable[str] = (),
) -> RestorePreview:
    by_oid = {removal.table.oid: removal for removal in removals}
    whole = snapshot.manifest.whole_tables
    tables = [
        TablePreview(
            table.key,
            table.key in whole,
            by_oid.get(table.oid),
            snapshot.manifest.stats.get(table.key, 0),
        )
        for table in plan.tables
    ]
    return RestorePreview(snapshot, tuple(tables), tuple(lost), (*notes, *plan.notes))

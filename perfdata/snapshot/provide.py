"""Provide: restore a dataset's snapshot where it is current, else build the dataset."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from perfdata.errors import (
    PerfdataError,
    SchemaError,
    SnapshotDamagedError,
    SnapshotNotFoundError,
    SnapshotStaleError,
)
from perfdata.postgres.connection import open_link
from perfdata.postgres.locks import LOCK_TIMEOUT_S
from perfdata.progress import silent
from perfdata.snapshot.build import build, is_by_hand
from perfdata.snapshot.options import Provided, RestoreOptions
from perfdata.snapshot.restore import restore_into
from perfdata.snapshot.staleness import check_current
from perfdata.snapshot.store import Snapshot, find_snapshot
from perfdata.target.target import check_tables

if TYPE_CHECKING:
    from perfdata.config import Settings
    from perfdata.progress import Report
    from perfdata.project import Project
    from perfdata.target.target import Target

# Raised by decide, and by a restore before its first change: a build of the dataset mends them.
REBUILDABLE = (
    SnapshotNotFoundError,
    SnapshotStaleError,
    SnapshotDamagedError,
    SchemaError,
)


@dataclass(frozen=True)
class Current:
    """The snapshot may be restored."""

    snapshot: Snapshot


@dataclass(frozen=True)
class Rebuild:
    """The dataset is to be built, for this reason."""

    reason: str


def provide_dataset(
    target: Target,
    name: str,
    *,
    clean_existing: bool = True,
    build: bool = True,
    fresh: bool = False,
    terminate: bool = False,
    allow_drift: bool = False,
    rebuild_indexes: bool = False,
    unflagged_rows: bool = False,
    as_superuser: bool = False,
    lock_timeout_s: float = LOCK_TIMEOUT_S,
    report: Report = silent,
) -> Provided:
    """Restore a snapshot; where a dataset's is missing, stale or damaged, build the dataset.

    A snapshot that does not fit the tables is rebuilt too. One that belongs to no dataset is
    restored or refused.

    Args:
        target: the database, with its settings and project (see open_target).
        name: of the dataset or snapshot.
        build: False raises where the dataset would be built: SnapshotNotFoundError,
            SnapshotStaleError, SnapshotDamagedError or SchemaError. So does ``clean_existing``
            False.
        report: called with progress.

    All other arguments are those of restore_snapshot. With ``fresh``, rows that were built go into
    a fresh database too.
    """
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
    return provide(target, name, options, report, may_build=build)


def provide(
    target: Target, name: str, options: RestoreOptions, report: Report, *, may_build: bool = True
) -> Provided:
    """Provide a dataset (see provide_dataset)."""
    may_build = may_build and options.clean_existing
    decision = decide(target, name, options, may_build=may_build)
    if isinstance(decision, Current):
        try:
            restored = restore_into(
                target.conninfo, decision.snapshot, target.settings, options, report
            )
        except REBUILDABLE as error:
            decision = rebuild(target, name, error, may_build=may_build)
        else:
            return Provided(name, "current", None, restored)
    built = build(target, name, options, report)
    if not options.fresh or built.snapshot is None:
        return Provided(name, decision.reason, built, None)
    restored = restore_into(target.conninfo, built.snapshot, target.settings, options, report)
    return Provided(name, decision.reason, built, restored)


def decide(
    target: Target, name: str, options: RestoreOptions, *, may_build: bool
) -> Current | Rebuild:
    """Decide whether a snapshot may be restored, as far as that is known without reading its rows.

    Where a build mends what is in the way, that is the decision; else the error is raised. The
    restore may still find an error that a build mends (REBUILDABLE): see rebuild.
    """
    project = target.project
    dataset = project.find_dataset(name) if project else None
    try:
        snapshot = find_snapshot(name, target.settings, _other_names(project, name))
        # One that was created by hand is judged by the restore alone, against the database.
        if project and dataset and snapshot.manifest.dataset_fingerprint is not None:
            check_current(snapshot, project, allow_newer=options.allow_drift)
        if project and project.tables_from_metadata:
            with open_link(target.conninfo) as link:
                check_tables(link, project, target)
    except REBUILDABLE as error:
        return rebuild(target, name, error, may_build=may_build)
    return Current(snapshot)


def rebuild(target: Target, name: str, error: PerfdataError, *, may_build: bool) -> Rebuild:
    """Decide to build the dataset because of an error, or raise the error where no build mends it.

    A build replaces the rows that are there, so it needs leave; and what was created by hand
    under a dataset's name is not replaced by a build.
    """
    project = target.project
    missing = isinstance(error, SnapshotNotFoundError)
    buildable = may_build and project is not None and project.find_dataset(name) is not None
    if not buildable or (not missing and is_by_hand(name, target.settings)):
        raise error
    return Rebuild("no snapshot yet" if missing else error.reason)


def check_known(project: Project | None, name: str, settings: Settings, *, build: bool) -> None:
    """Raise SnapshotNotFoundError where nothing can be restored nor, with ``build``, built."""
    if not (build and project and project.find_dataset(name)):
        find_snapshot(name, settings, _other_names(project, name))


def _other_names(project: Project | None, name: str) -> list[str]:
    """Name the datasets that would do as well, for the error about an unknown name."""
    if project is None or project.find_dataset(name) is not None:
        return []
    return [dataset.name for dataset in project.datasets]

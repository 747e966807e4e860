"""Provide a dataset: restore its snapshot if that is current, else build it."""

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
from perfdata.snapshot.build import build
from perfdata.snapshot.checks.staleness import check_current
from perfdata.snapshot.options import Provided, RestoreOptions
from perfdata.snapshot.restore import restore_into
from perfdata.snapshot.store import Snapshot, find_snapshot, is_by_hand
from perfdata.target.target import check_tables

if TYPE_CHECKING:
    from perfdata.config import Settings
    from perfdata.progress import Report
    from perfdata.project import Project
    from perfdata.target.target import Target

# Errors that building the dataset fixes; a restore raises them before its first change.
REBUILDABLE = (SnapshotNotFoundError, SnapshotStaleError, SnapshotDamagedError, SchemaError)


@dataclass(frozen=True)
class Current:
    """The snapshot may be restored."""

    snapshot: Snapshot


@dataclass(frozen=True)
class Rebuild:
    """The dataset must be built, for this reason."""

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
    """Restore a snapshot, or build the dataset if its snapshot is missing, stale or damaged.

    A snapshot that does not fit the tables is rebuilt too. A snapshot that belongs to no dataset is
    restored or refused.

    Args:
        target: the database, with its settings and project (see open_target).
        name: the name of the dataset or snapshot.
        build: False raises instead of building: SnapshotNotFoundError, SnapshotStaleError,
            SnapshotDamagedError or SchemaError. So does ``clean_existing=False``.
        report: called with progress.

    The other arguments are those of restore_snapshot. With ``fresh``, rows that were built go into
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
            decision = rebuild_because(target, name, error, may_build=may_build)
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
    """Decide between restoring and building, without reading the snapshot's rows.

    Raises an error that building does not fix. The restore may still raise one that it does
    (REBUILDABLE): pass that to rebuild_because.
    """
    project = target.project
    dataset = project.find_dataset(name) if project else None
    try:
        snapshot = find_snapshot(name, target.settings, _other_names(project, name))
        # A snapshot that was created by hand is only compared with the database, by the restore.
        if project and dataset and snapshot.manifest.dataset_fingerprint is not None:
            check_current(snapshot, project, allow_newer=options.allow_drift)
        if project and project.has_only_metadata:
            with open_link(target.conninfo) as link:
                check_tables(link, project, target)
    except REBUILDABLE as error:
        return rebuild_because(target, name, error, may_build=may_build)
    return Current(snapshot)


def rebuild_because(target: Target, name: str, error: PerfdataError, *, may_build: bool) -> Rebuild:
    """Decide to build the dataset because of an error, or raise the error if that is no option.

    A build replaces rows in the database, so it must be allowed; and it does not replace a snapshot
    that was created by hand under the dataset's name.
    """
    project = target.project
    missing = isinstance(error, SnapshotNotFoundError)
    buildable = may_build and project is not None and project.find_dataset(name) is not None
    if not buildable or (not missing and is_by_hand(name, target.settings)):
        raise error
    return Rebuild("no snapshot yet" if missing else error.reason)


def check_known(project: Project | None, name: str, settings: Settings, *, build: bool) -> None:
    """Raise SnapshotNotFoundError if there is no such snapshot nor, with ``build``, dataset."""
    if not (build and project and project.find_dataset(name)):
        find_snapshot(name, settings, _other_names(project, name))


def _other_names(project: Project | None, name: str) -> list[str]:
    """List the datasets, for an error that suggests a name, unless the name is a dataset's."""
    if project is None or project.find_dataset(name) is not None:
        return []
    return [dataset.name for dataset in project.datasets]

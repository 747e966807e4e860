"""Datasets in a database: build one, or restore its snapshot where that is current."""

from __future__ import annotations

import dataclasses
import re
import time
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from perfdata.database.audit import log_change
from perfdata.database.guard import check_guard
from perfdata.database.loading import Existing, Plan, TableLoad, foresee, load
from perfdata.database.metadata import check_tables
from perfdata.database.migrate import database_heads, read_history
from perfdata.database.ownership import is_owned
from perfdata.driver_hooks import confine
from perfdata.errors import (
    DatasetNotFoundError,
    MigrationError,
    PerfdataError,
    SchemaError,
    SnapshotDamagedError,
    SnapshotError,
    SnapshotExistsError,
    SnapshotNotFoundError,
    SnapshotStaleError,
)
from perfdata.postgres.connection import explicit_conninfo, open_link
from perfdata.postgres.copy import TEXT
from perfdata.postgres.locks import LOCK_TIMEOUT_S, load_lock
from perfdata.postgres.reflection import read_catalog
from perfdata.progress import silent
from perfdata.snapshot.create import Request, create, writable_path
from perfdata.snapshot.current import check_current
from perfdata.snapshot.restore import Options, Restored, restore_into
from perfdata.snapshot.store import check_free, find_snapshot, snapshot_exists

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from perfdata.config import Settings
    from perfdata.database.target import Target
    from perfdata.dataset import Dataset
    from perfdata.postgres.catalog import Catalog
    from perfdata.postgres.link import Link
    from perfdata.progress import Report
    from perfdata.project import Project
    from perfdata.snapshot.store import Snapshot

T = TypeVar("T")

_MENDED_BY_A_BUILD = (
    SnapshotNotFoundError,
    SnapshotStaleError,
    SnapshotDamagedError,
    SchemaError,
)


@dataclass(frozen=True)
class Built(Restored):
    """What a build did, as a restore tells it, and the snapshot that it was saved as."""

    snapshot: Snapshot | None


@dataclass(frozen=True)
class Provided:
    """How a dataset came into a database: what was built and why, what was restored.

    One of ``built`` and ``restored`` is there; both where what was built went into a fresh
    database.
    """

    name: str
    reason: str
    built: Built | None
    restored: Restored | None


def build_dataset(
    target: Target,
    name: str,
    *,
    snapshot: bool = True,
    replace: bool = False,
    rebuild_indexes: bool = False,
    as_superuser: bool = False,
    lock_timeout_s: float = LOCK_TIMEOUT_S,
    report: Report = silent,
) -> Built:
    """Generate a dataset's rows into the database in place of its flagged rows, and save them.

    An earlier snapshot of the dataset is replaced; one of that name that was created by hand only
    with ``replace``; ``rebuild_indexes`` and ``as_superuser`` are those of restore_snapshot. Raises
    DatasetNotFoundError, SnapshotExistsError, MigrationError, and what the loader raises.
    """
    project = _project(target, name)
    dataset = project.dataset(name)
    settings = target.settings
    if snapshot:
        check_replaceable(name, settings, replace=replace)
        writable_path(name, settings)  # else the rows would be in, and no snapshot of them
    began = time.perf_counter()
    with open_link(target.conninfo) as link:
        check_guard(link, settings)
        _check_current(link, project, target)
        with load_lock(link, shared=False, timeout_s=lock_timeout_s):
            plan, rows = _loading(link, target, project, dataset)
            plan = dataclasses.replace(
                plan,
                lock_timeout_s=lock_timeout_s,
                rebuild_indexes=rebuild_indexes,
                as_superuser=as_superuser,
            )
            loaded = load(link, plan, rows, report)
            done = f"built dataset {name}"
            logged = log_change(link, done, sum(loaded.rows.values()), "generated")
            saved = None
            if snapshot:
                request = Request(
                    name=name,
                    dataset=dataset,
                    replace=True,
                    expected=loaded.rows,
                    as_superuser=as_superuser,
                    lock_timeout_s=lock_timeout_s,
                )
                with _loaded_told(name, target):
                    saved = create(link, request, settings, report)
    duration = time.perf_counter() - began
    notes = (*loaded.notes, *logged)
    return Built(name, loaded.rows, loaded.strategy.value, duration, notes, saved)


def foresee_build(target: Target, name: str, *, as_superuser: bool = False) -> None:
    """Make the checks that a build makes before its first change; raise what it would raise."""
    project = _project(target, name)
    with open_link(target.conninfo) as link:
        check_guard(link, target.settings)
        _check_current(link, project, target)
        plan, _ = _loading(link, target, project, project.dataset(name))
        foresee(link, dataclasses.replace(plan, as_superuser=as_superuser))


def check_replaceable(name: str, settings: Settings, *, replace: bool) -> None:
    """Raise SnapshotExistsError where a build may not save its snapshot under that name."""
    if not replace and snapshot_exists(name, settings) and _by_hand(name, settings):
        raise SnapshotExistsError(
            f"snapshot {name} was created by hand, not built from the dataset of that name; "
            "replace it with --replace, or build with --no-snapshot"
        )
    check_free(name, settings, replace=True)


@contextmanager
def _loaded_told(name: str, target: Target) -> Iterator[None]:
    """Say that the rows are in, where they could not be saved."""
    try:
        yield
    except SnapshotError as error:
        raise SnapshotError(
            f"{error}. The rows of {name} are built and in {target.described()}: mend that, and "
            "build it again"
        ) from error


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
    """Restore a snapshot; a dataset's that is missing, stale or damaged is built again.

    So is one that does not fit the tables. Snapshots that no dataset stands behind are restored or
    refused. ``build`` False, and ``clean_existing`` False, refuse where it would build:
    SnapshotNotFoundError, SnapshotStaleError, SnapshotDamagedError or SchemaError.
    ``fresh`` and what stands behind it are those of restore_snapshot; what is built anew goes into
    a fresh database too.
    """
    options = Options(
        clean_existing=clean_existing,
        fresh=fresh,
        terminate=terminate,
        allow_drift=allow_drift,
        rebuild_indexes=rebuild_indexes,
        unflagged_rows=unflagged_rows,
        as_superuser=as_superuser,
        lock_timeout_s=lock_timeout_s,
    )

    def restored(snapshot: Snapshot) -> Restored:
        return restore_into(target.conninfo, snapshot, target.settings, options, report)

    done, built, reason = with_current(
        target, name, restored, build=build and clean_existing, options=options, report=report
    )
    if built is not None and built.snapshot is not None and fresh:
        done = restored(built.snapshot)
    return Provided(name, reason, built, done)


def check_known(project: Project | None, name: str, settings: Settings, *, build: bool) -> None:
    """Raise SnapshotNotFoundError where nothing could be restored, nor (``build``) be built."""
    if not (build and project and project.find_dataset(name)):
        find_snapshot(name, settings, _others(project, name))


def _others(project: Project | None, name: str) -> list[str]:
    if project is None or project.find_dataset(name) is not None:
        return []
    return [one.name for one in project.datasets]


def with_current(
    target: Target,
    name: str,
    use: Callable[[Snapshot], T],
    *,
    build: bool,
    options: Options,
    report: Report,
    dry: bool = False,
) -> tuple[T | None, Built | None, str]:
    """Use a snapshot where it is current; else build its dataset, and return what that did and why.

    What ``use`` raises decides too: SchemaError and SnapshotDamagedError are mended by a build.
    ``dry`` builds nothing, and only says why it would be.
    """
    project = target.project
    dataset = project.find_dataset(name) if project else None
    try:
        snapshot = find_snapshot(name, target.settings, _others(project, name))
        # One that was created by hand is judged by the restore alone, against the database.
        if project and dataset and snapshot.manifest.dataset_fingerprint is not None:
            check_current(snapshot, project, allow_newer=options.allow_drift)
        if project and project.tables_from_metadata:
            with open_link(target.conninfo) as link:
                check_tables(link, project, target)
        return use(snapshot), None, "current"
    except _MENDED_BY_A_BUILD as error:
        # A build puts its rows in the place of those that are there, so that it may not always.
        missing = isinstance(error, SnapshotNotFoundError)
        if dataset is None or not build or (not missing and _by_hand(name, target.settings)):
            raise
        if dry:
            return None, None, _reason(error)
        built = build_dataset(
            target,
            name,
            rebuild_indexes=options.rebuild_indexes,
            as_superuser=options.as_superuser,
            lock_timeout_s=options.lock_timeout_s,
            report=report,
        )
        return None, built, _reason(error)


def _reason(error: PerfdataError) -> str:
    """Say why a snapshot was not restored, without the remedy that was just applied."""
    if isinstance(error, SnapshotNotFoundError):
        return "no snapshot yet"
    return re.split(r"[,;] (?:nothing|no row) was touched|\. Build", str(error), maxsplit=1)[0]


def _by_hand(name: str, settings: Settings) -> bool:
    try:
        return find_snapshot(name, settings).manifest.dataset_fingerprint is None
    except SnapshotDamagedError:
        return False


def _project(target: Target, name: str) -> Project:
    project = target.project
    if project is None:
        raise DatasetNotFoundError(
            f"no dataset is named {name!r}: no [tool.perfdata] project was found, and the bundled "
            "one is there on the embedded server only"
        )
    return project


def _check_current(link: Link, project: Project, target: Target) -> None:
    if project.tables_from_metadata:
        check_tables(link, project, target)
    if missing := read_history(project).waiting(database_heads(link)):
        raise MigrationError(
            f"{target.described()} lacks migrations {', '.join(missing)} of project "
            f"{project.name}; run: {target.settings.command('db.migrate')}"
        )


def _loading(
    link: Link, target: Target, project: Project, dataset: Dataset
) -> tuple[Plan, Iterator[TableLoad]]:
    catalog = read_catalog(link)
    flag = project.flag_column
    plan = Plan(
        catalog,
        catalog.flagged(flag),
        Existing.REPLACE,
        flag,
        owned=is_owned(link),
        sealed=True,
        application_name=f"perfdata build {dataset.name}",
    )
    return plan, _table_loads(catalog, dataset, flag, explicit_conninfo(target.conninfo))


def _table_loads(
    catalog: Catalog, dataset: Dataset, flag: str, conninfo: str
) -> Iterator[TableLoad]:
    code = f"dataset {dataset.name}"
    for rows in confine(lambda: dataset.generate(dataset), code, conninfo):
        table = catalog.table(rows.table)
        if not table.has_flag(flag):
            raise SchemaError(
                f"dataset {dataset.name} has rows for {rows.table}, which has no column {flag}: "
                "they could never be told from other rows"
            )
        blocks = confine(partial(iter, rows.blocks), code, conninfo)
        yield TableLoad(table, rows.columns, blocks, TEXT)

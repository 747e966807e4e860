"""Build a dataset: generate its rows into a database, and save them as its snapshot."""

from __future__ import annotations

import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from perfdata.errors import (
    ConfigError,
    MigrationError,
    NoClonesError,
    SnapshotDamagedError,
    SnapshotError,
    SnapshotExistsError,
    SnapshotStaleError,
)
from perfdata.load.loader import load, preview_load
from perfdata.load.plan import Existing, Plan
from perfdata.load.ranges.dask_cluster import connect_cluster
from perfdata.load.ranges.jobs import DatasetReference
from perfdata.load.selection import flagged_selection
from perfdata.migrations.history import database_heads, read_history
from perfdata.postgres.connection import explicit_conninfo, open_link
from perfdata.postgres.locks import LOCK_TIMEOUT_S, load_lock
from perfdata.postgres.reflection import read_catalog
from perfdata.progress import silent
from perfdata.project import load_project
from perfdata.snapshot.checks.ownership import own_selection, record_loaded
from perfdata.snapshot.clone import open_scratch
from perfdata.snapshot.create import create, writable_path
from perfdata.snapshot.options import Built, CreateOptions, RestoreOptions
from perfdata.snapshot.rows import DatasetRows
from perfdata.snapshot.store import check_free, find_snapshot, snapshot_exists
from perfdata.target.audit import log_change
from perfdata.target.guard import check_guard
from perfdata.target.target import check_tables
from perfdata.templates.provenance import find_owned

if TYPE_CHECKING:
    from collections.abc import Iterator

    from perfdata.config import Settings
    from perfdata.dataset import Dataset
    from perfdata.load.plan import Loaded
    from perfdata.load.ranges.dask_cluster import DaskCluster
    from perfdata.postgres.link import Link
    from perfdata.progress import Report
    from perfdata.project import Project
    from perfdata.target.target import Target


def build_dataset(
    target: Target,
    name: str,
    *,
    snapshot: bool = True,
    replace: bool = False,
    rebuild_indexes: bool = False,
    as_superuser: bool = False,
    lock_timeout_s: float = LOCK_TIMEOUT_S,
    dask: str | None = None,
    report: Report = silent,
) -> Built:
    """Replace a database's flagged rows with a dataset's, and save them as its snapshot.

    Args:
        target: the database, with its settings and project (see open_target).
        name: the dataset's name.
        snapshot: False loads the rows without saving them.
        replace: also replace a snapshot of that name that was created by hand; one that was built
            is always replaced.
        dask: the address of a Dask scheduler. Its workers generate and load the rows of tables of
            perfdata.generate, into a clone of the database, and only the snapshot is saved: the
            database's rows stay as they are.
        report: called with progress.

    The other arguments are those of restore_snapshot. Raises DatasetNotFoundError,
    SnapshotExistsError, MigrationError, ProjectCodeError for an exception of the dataset's code,
    and what restore_snapshot raises for the database.
    """
    options = RestoreOptions(
        rebuild_indexes=rebuild_indexes, as_superuser=as_superuser, lock_timeout_s=lock_timeout_s
    )
    if dask is not None and not snapshot:
        raise ConfigError(
            "a build by Dask workers saves a snapshot and nothing else",
            remedy="Leave out snapshot=False",
        )
    return build(target, name, options, report, snapshot=snapshot, replace=replace, dask=dask)


def build(
    target: Target,
    name: str,
    options: RestoreOptions,
    report: Report,
    *,
    snapshot: bool = True,
    replace: bool = False,
    dask: str | None = None,
) -> Built:
    """Build a dataset (see build_dataset); with ``fresh``, without changing the database."""
    settings = target.settings
    project = load_project(settings)
    dataset = project.dataset(name)
    if snapshot:
        check_replaceable(name, settings, replace=replace)
        writable_path(name, settings)  # before the rows are loaded
    began = time.perf_counter()
    if dask is not None:
        with connect_cluster(dask) as cluster:
            return _build_aside(target, project, dataset, options, report, cluster)
    if options.fresh:
        with suppress(NoClonesError):  # the restore into a fresh database says why
            return _build_aside(target, project, dataset, options, report)
    with open_link(target.conninfo) as link:
        check_guard(link, settings)
        _check_migrations(link, project, target)
        timeout_s = options.lock_timeout_s
        with load_lock(link, shared=False, timeout_s=timeout_s, report=report):
            with _planned(link, target, project, dataset, options) as (plan, rows):
                loaded = load(link, plan, rows, report, partial(record_loaded, link, plan))
            total = sum(loaded.rows.values())
            logged = log_change(link, f"built dataset {name}", total, "generated")
            saved = None
            if snapshot:
                create_options = _create_options(dataset, loaded, options)
                with _explain_rows_stay(name, target):
                    saved = create(link, create_options, settings, report)
    duration_s = time.perf_counter() - began
    notes = (*loaded.notes, *rows.notes, *logged)
    return Built(name, loaded.rows, loaded.strategy.value, duration_s, notes, saved)


def _build_aside(
    target: Target,
    project: Project,
    dataset: Dataset,
    options: RestoreOptions,
    report: Report,
    cluster: DaskCluster | None = None,
) -> Built:
    """Build a dataset's snapshot in a scratch database; the target's rows stay as they are."""
    began = time.perf_counter()
    with ExitStack() as stack:
        with open_link(target.conninfo) as link:
            check_guard(link, target.settings)
            _check_migrations(link, project, target)
            planned = _planned(
                link, target, project, dataset, options, Existing.ALL, divided=cluster is not None
            )
            plan, rows = stack.enter_context(planned)
        opened = open_scratch(target.conninfo, target.settings, report, terminate=options.terminate)
        scratch = stack.enter_context(opened)
        link = scratch.private.link
        if cluster is None:
            loaded = load(link, plan, rows, report)
        else:
            reference = DatasetReference(
                target.settings, dataset.name, dataset.fingerprint_parts(), rows.conninfo or ""
            )
            loaded = scratch.load(plan, rows, cluster, reference, report)
        saved = create(link, _create_options(dataset, loaded, options), target.settings, report)
    duration_s = time.perf_counter() - began
    strategy, notes = loaded.strategy.value, (*loaded.notes, *rows.notes)
    return Built(dataset.name, loaded.rows, strategy, duration_s, notes, saved, aside=True)


def _create_options(dataset: Dataset, loaded: Loaded, options: RestoreOptions) -> CreateOptions:
    return CreateOptions(
        name=dataset.name,
        dataset=dataset,
        replace=True,
        expected=loaded.rows,
        as_superuser=options.as_superuser,
        lock_timeout_s=options.lock_timeout_s,
    )


def preview_build(target: Target, name: str, options: RestoreOptions) -> None:
    """Make the checks that precede the first change of a build; raise what it would raise."""
    project = load_project(target.settings)
    dataset = project.dataset(name)
    existing = Existing.ALL if options.fresh else Existing.REPLACE
    with open_link(target.conninfo) as link:
        check_guard(link, target.settings)
        _check_migrations(link, project, target)
        planned = _planned(link, target, project, dataset, options, existing)
        with planned as (plan, rows):
            preview_load(link, plan, rows)
            if rows.stored is None:  # else all tables were looked at when they were generated
                list(rows.tables(plan.catalog, ()))


@contextmanager
def _planned(
    link: Link,
    target: Target,
    project: Project,
    dataset: Dataset,
    options: RestoreOptions,
    existing: Existing = Existing.REPLACE,
    *,
    divided: bool = False,
) -> Iterator[tuple[Plan, DatasetRows]]:
    """Plan a build; where tables without the flag may be filled, generate the rows for that.

    With ``divided``, those of tables of perfdata.generate are only counted. The application's
    variables are set meanwhile. ``Existing.ALL`` is for a scratch database only.
    """
    catalog, owned = read_catalog(link), find_owned(link)
    flag, conninfo = project.flag_column, explicit_conninfo(target.conninfo)
    variables = project.variables(conninfo)
    rows = DatasetRows(
        dataset,
        flagged_selection(catalog, flag, target.settings),
        conninfo,
        adopt=target.settings.command("db.adopt"),
        loopback=variables.loopback,
        divided=divided,
    )
    plan = Plan(
        catalog,
        rows.selection.tables(catalog),
        existing,
        rows.selection,
        owned=owned is not None,
        sealed=True,
        application_name=f"perfdata build {dataset.name}",
        lock_timeout_s=options.lock_timeout_s,
        rebuild_indexes=options.rebuild_indexes,
        as_superuser=options.as_superuser,
    )
    own = owned is not None or existing is Existing.ALL
    if not own or (len(plan.tables) == len(catalog.tables) and not divided):
        with variables.applied():
            yield plan, rows
        return
    with variables.applied(), rows.storing(catalog, target.settings) as stored:
        selection = rows.selection.with_unflagged(catalog, stored.counts or ())
        if owned:
            selection = own_selection(
                link, catalog, selection, owned.provenance, as_superuser=options.as_superuser
            )
        tables = selection.tables(catalog)
        yield (
            replace(plan, tables=tables, selection=selection, counts=stored.counts),
            replace(stored, selection=selection),
        )


def check_replaceable(name: str, settings: Settings, *, replace: bool) -> None:
    """Raise SnapshotExistsError if a build may not save its snapshot under that name."""
    if not replace and snapshot_exists(name, settings) and is_by_hand(name, settings):
        raise SnapshotExistsError(
            f"snapshot {name} was created by hand, not built from the dataset of that name",
            remedy="Replace it with replace=True, or build with snapshot=False",
        )
    check_free(name, settings, replace=True)


def is_by_hand(name: str, settings: Settings) -> bool:
    """Tell whether a snapshot was created by hand, not built from a dataset."""
    try:
        return find_snapshot(name, settings).manifest.dataset_fingerprint is None
    except (SnapshotDamagedError, SnapshotStaleError):  # another format: nobody can read it
        return False


@contextmanager
def _explain_rows_stay(name: str, target: Target) -> Iterator[None]:
    """Add to an error of saving that the rows are loaded."""
    try:
        yield
    except SnapshotError as error:
        raise SnapshotError(
            f"{error.reason}. The rows of {name} are built and in {target.described()}",
            remedy=f"{error.remedy or 'Correct that'}, and build it again",
        ) from error


def _check_migrations(link: Link, project: Project, target: Target) -> None:
    if project.has_only_metadata:
        check_tables(link, project, target)
    history = read_history(project)
    if missing := history.pending(database_heads(link, history)):
        raise MigrationError(
            f"{target.described()} lacks migrations {', '.join(missing)} of project {project.name}",
            remedy=f"Run: {target.settings.command('db.migrate')}",
        )

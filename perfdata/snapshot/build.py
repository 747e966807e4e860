"""Build a dataset: generate its rows into a database, and save them as its snapshot."""

from __future__ import annotations

import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from psycopg.conninfo import make_conninfo

from perfdata.errors import (
    ConnectError,
    MigrationError,
    NoClonesError,
    RefusedError,
    SnapshotError,
)
from perfdata.load.loader import load, preview_load
from perfdata.load.plan import Existing
from perfdata.load.ranges.dask_cluster import connect_cluster
from perfdata.load.ranges.distribution import Workers
from perfdata.load.ranges.jobs import DatasetReference
from perfdata.migrations.history import database_heads, read_history
from perfdata.postgres.connection import open_link
from perfdata.postgres.locks import LOCK_TIMEOUT_S, load_lock
from perfdata.progress import silent
from perfdata.project import load_project
from perfdata.snapshot.build_plan import plan_build
from perfdata.snapshot.checks.ownership import record_loaded
from perfdata.snapshot.clone import (
    count_written,
    load_clone,
    plan_clone,
    replaceable_target,
    scratch_clone,
)
from perfdata.snapshot.create import create, writable_path
from perfdata.snapshot.options import Built, CreateOptions, RestoreOptions
from perfdata.snapshot.store import check_replaceable
from perfdata.target.audit import log_change
from perfdata.target.guard import check_guard
from perfdata.target.target import check_tables
from perfdata.templates.provenance import find_owned

if TYPE_CHECKING:
    from collections.abc import Iterator

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
    fresh: bool = False,
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
        fresh: build in a clone of the database, which then replaces it: indexes are built while the
            next rows are generated, and the snapshot has its template. Where that is not possible,
            or would lose something, the build is made in place, and the notes say why.
        dask: the address of a Dask scheduler. Its workers generate and load the rows of tables of
            perfdata.generate into a clone of the database, which then replaces it. Raises
            NoClonesError where that is not possible; the database is unchanged then.
        report: called with progress.

    The other arguments are those of restore_snapshot. Raises DatasetNotFoundError,
    SnapshotExistsError, MigrationError, ProjectCodeError for an exception of the dataset's code,
    and what restore_snapshot raises for the database.
    """
    options = RestoreOptions(
        rebuild_indexes=rebuild_indexes, as_superuser=as_superuser, lock_timeout_s=lock_timeout_s
    )
    return build(
        target, name, options, report, snapshot=snapshot, replace=replace, in_clone=fresh, dask=dask
    )


def build(
    target: Target,
    name: str,
    options: RestoreOptions,
    report: Report,
    *,
    snapshot: bool = True,
    replace: bool = False,
    in_clone: bool = False,
    dask: str | None = None,
) -> Built:
    """Build a dataset (see build_dataset); with options.fresh, without changing the database."""
    settings, project = target.settings, load_project(target.settings)
    dataset = project.dataset(name)
    if snapshot:
        check_replaceable(name, settings, replace=replace)
        writable_path(name, settings)  # before the rows are loaded
    began = time.perf_counter()
    if options.fresh:
        with suppress(NoClonesError):  # the restore into a fresh database says why
            return _build_aside(target, project, dataset, options, report)
    with open_link(target.conninfo) as link:
        check_guard(link, settings)
        _check_migrations(link, project, target)
        owned = find_owned(link) is not None
    if dask is not None:
        _refuse_unowned(target, owned=owned)
        with connect_cluster(dask) as cluster:
            return _build_in_clone(target, project, dataset, options, report, snapshot, cluster)
    notes: tuple[str, ...] = ()
    if in_clone and not owned:
        notes = (f"built in place: perfdata does not own {target.described()}",)
    elif in_clone:
        try:
            return _build_in_clone(target, project, dataset, options, report, snapshot)
        except (NoClonesError, ConnectError) as error:
            notes = (f"built in place: {error.reason}",)
    return _build_in_place(
        target, project, dataset, options, report, notes, snapshot=snapshot, began=began
    )


def _build_in_place(
    target: Target,
    project: Project,
    dataset: Dataset,
    options: RestoreOptions,
    report: Report,
    notes: tuple[str, ...],
    *,
    snapshot: bool,
    began: float,
) -> Built:
    """Build in the target, in one transaction."""
    name, settings, saved = dataset.name, target.settings, None
    with open_link(target.conninfo) as link:
        check_guard(link, settings)
        timeout_s = options.lock_timeout_s
        with load_lock(link, shared=False, timeout_s=timeout_s, report=report):
            planned = plan_build(link, target, project, dataset, options, sealed=snapshot)
            with planned as (plan, rows):
                loaded = load(link, plan, rows, report, partial(record_loaded, link, plan))
            logged = _log_build(link, name, loaded)
            if snapshot:
                save = replace(CreateOptions.of_build(dataset, options), expected=loaded.rows)
                with _explain_rows_stay(name, target):
                    saved = create(link, save, settings, report)
    took, notes = time.perf_counter() - began, (*notes, *loaded.notes, *rows.notes, *logged)
    return Built(name, loaded.rows, loaded.strategy.value, took, notes, saved)


def _build_in_clone(
    target: Target,
    project: Project,
    dataset: Dataset,
    options: RestoreOptions,
    report: Report,
    snapshot: bool,
    cluster: DaskCluster | None = None,
) -> Built:
    """Build in a clone of the target, by a cluster's workers if given, and replace the target.

    Raises NoClonesError if that is not possible, or could lose something: the target is unchanged.
    """
    began = time.perf_counter()
    name, settings = dataset.name, target.settings
    save = CreateOptions.of_build(dataset, options) if snapshot else None
    conninfo = make_conninfo(target.conninfo, application_name=f"perfdata build {name}")
    with ExitStack() as stack:
        database = stack.enter_context(replaceable_target(conninfo, settings, report))
        if cluster and database.embedded:
            cluster.refuse_other_hosts()
        seen = count_written(database)
        with open_link(conninfo) as link:
            check_guard(link, settings)
            divided, sealed = cluster is not None, snapshot
            planned = plan_build(
                link, target, project, dataset, options, sealed=sealed, divided=divided
            )
            plan, rows = stack.enter_context(planned)
            request = plan_clone(link, database, plan, rows, seen)
        workers = None
        if cluster is not None:
            workers = Workers(cluster, DatasetReference.of(dataset, settings, rows.conninfo))
        loaded, saved, what = load_clone(
            database, conninfo, request, rows, save, settings, report, workers
        )
        logged = _log_build(database.link, name, loaded, database.name)
    took, notes = time.perf_counter() - began, (*loaded.notes, *rows.notes, *logged)
    return Built(name, loaded.rows, what, took, notes, saved)


def _build_aside(
    target: Target,
    project: Project,
    dataset: Dataset,
    options: RestoreOptions,
    report: Report,
) -> Built:
    """Build a dataset's snapshot in a scratch database; the target's rows stay as they are."""
    began = time.perf_counter()
    with ExitStack() as stack:
        with open_link(target.conninfo) as link:
            check_guard(link, target.settings)
            _check_migrations(link, project, target)
            planned = plan_build(link, target, project, dataset, options, Existing.ALL, sealed=True)
            plan, rows = stack.enter_context(planned)
        scratch = scratch_clone(
            target.conninfo, target.settings, report, terminate=options.terminate
        )
        link = stack.enter_context(scratch)
        loaded = load(link, plan, rows, report)
        save = replace(CreateOptions.of_build(dataset, options), expected=loaded.rows)
        saved = create(link, save, target.settings, report)
    took, strategy = time.perf_counter() - began, loaded.strategy.value
    notes = (*loaded.notes, *rows.notes)
    return Built(dataset.name, loaded.rows, strategy, took, notes, saved, aside=True)


def _log_build(
    link: Link, name: str, loaded: Loaded, database: str | None = None
) -> tuple[str, ...]:
    rows = sum(loaded.rows.values())
    return log_change(link, f"built dataset {name}", rows, "generated", database)


def preview_build(
    target: Target, name: str, options: RestoreOptions, *, distributed: bool = False
) -> None:
    """Make the checks that precede the first change of a build; raise what it would raise."""
    project = load_project(target.settings)
    dataset = project.dataset(name)
    existing = Existing.ALL if options.fresh else Existing.REPLACE
    with open_link(target.conninfo) as link:
        check_guard(link, target.settings)
        _check_migrations(link, project, target)
        if distributed:
            _refuse_unowned(target, owned=find_owned(link) is not None)
        planned = plan_build(
            link, target, project, dataset, options, existing, sealed=False, divided=distributed
        )
        with planned as (plan, rows):
            preview_load(link, plan, rows)
            if rows.stored is None:  # else all tables were looked at when they were generated
                list(rows.tables(plan.catalog, ()))


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


def _refuse_unowned(target: Target, *, owned: bool) -> None:
    if not owned:
        raise RefusedError(
            "refused, nothing was touched: a build by Dask workers replaces the whole database, "
            f"and perfdata does not own {target.described()}",
            remedy=f"Mark it as perfdata's ({target.settings.command('db.adopt')})",
        )

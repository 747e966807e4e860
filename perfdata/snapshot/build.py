"""Build a dataset: generate its rows into a database, and save them as its snapshot."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from perfdata.driver_hooks import confine
from perfdata.errors import (
    DatasetNotFoundError,
    MigrationError,
    SchemaError,
    SnapshotDamagedError,
    SnapshotError,
    SnapshotExistsError,
    SnapshotStaleError,
)
from perfdata.load.loader import load, preview_load
from perfdata.load.plan import Existing, Plan, TableLoad
from perfdata.load.selection import Selection
from perfdata.postgres.connection import explicit_conninfo, open_link
from perfdata.postgres.copy import TEXT
from perfdata.postgres.locks import LOCK_TIMEOUT_S, load_lock
from perfdata.postgres.reflection import read_catalog
from perfdata.progress import silent
from perfdata.snapshot.create import CreateOptions, create, writable_path
from perfdata.snapshot.options import Built, RestoreOptions
from perfdata.snapshot.store import check_free, find_snapshot, snapshot_exists
from perfdata.target.audit import log_change
from perfdata.target.guard import check_guard
from perfdata.target.migrations import database_heads, read_history
from perfdata.target.target import check_tables
from perfdata.templates.databases import is_owned

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from perfdata.config import Settings
    from perfdata.dataset import Dataset
    from perfdata.postgres.catalog import Catalog
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
    report: Report = silent,
) -> Built:
    """Replace a database's flagged rows with a dataset's, and save them as its snapshot.

    Args:
        target: the database, with its settings and project (see open_target).
        name: the dataset's name.
        snapshot: False loads the rows without saving them.
        replace: also replace a snapshot of that name that was created by hand; one that was built
            is always replaced.
        report: called with progress.

    The other arguments are those of restore_snapshot. Raises DatasetNotFoundError,
    SnapshotExistsError, MigrationError, and what restore_snapshot raises for the database.
    """
    options = RestoreOptions(
        rebuild_indexes=rebuild_indexes, as_superuser=as_superuser, lock_timeout_s=lock_timeout_s
    )
    return build(target, name, options, report, snapshot=snapshot, replace=replace)


def build(
    target: Target,
    name: str,
    options: RestoreOptions,
    report: Report,
    *,
    snapshot: bool = True,
    replace: bool = False,
) -> Built:
    """Build a dataset (see build_dataset)."""
    project = _project(target, name)
    dataset = project.dataset(name)
    settings = target.settings
    if snapshot:
        check_replaceable(name, settings, replace=replace)
        writable_path(name, settings)  # before the rows are loaded
    began = time.perf_counter()
    with open_link(target.conninfo) as link:
        check_guard(link, settings)
        _check_migrations(link, project, target)
        with load_lock(link, shared=False, timeout_s=options.lock_timeout_s):
            plan, rows = _plan(link, target, project.flag_column, dataset, options)
            loaded = load(link, plan, rows, report)
            total = sum(loaded.rows.values())
            logged = log_change(link, f"built dataset {name}", total, "generated")
            saved = None
            if snapshot:
                create_options = CreateOptions(
                    name=name,
                    dataset=dataset,
                    replace=True,
                    expected=loaded.rows,
                    as_superuser=options.as_superuser,
                    lock_timeout_s=options.lock_timeout_s,
                )
                with _explain_rows_stay(name, target):
                    saved = create(link, create_options, settings, report)
    duration_s = time.perf_counter() - began
    notes = (*loaded.notes, *logged)
    return Built(name, loaded.rows, loaded.strategy.value, duration_s, notes, saved)


def preview_build(target: Target, name: str, options: RestoreOptions) -> None:
    """Make the checks that precede the first change of a build; raise what it would raise."""
    project = _project(target, name)
    dataset = project.dataset(name)
    with open_link(target.conninfo) as link:
        check_guard(link, target.settings)
        _check_migrations(link, project, target)
        preview_load(link, *_plan(link, target, project.flag_column, dataset, options))


@dataclass(frozen=True)
class DatasetRows:
    """The rows that a dataset generates, as a RowSource.

    The dataset's code may connect to no other database than ``conninfo``.
    """

    dataset: Dataset
    selection: Selection
    conninfo: str = field(repr=False)
    statistics: None = None

    def check(self, link: Link, plan: Plan) -> None:
        """Do nothing: a build only replaces flagged rows."""

    def tables(self, catalog: Catalog, keys: Collection[str] | None = None) -> Iterator[TableLoad]:
        """Yield the tables in the dataset's order; raise SchemaError for one without the flag."""
        dataset, code = self.dataset, f"dataset {self.dataset.name}"
        for rows in confine(lambda: dataset.generate(dataset), code, self.conninfo):
            table = catalog.table(rows.table)
            if not self.selection.has_flag(table):
                raise SchemaError(
                    f"dataset {dataset.name} has rows for {rows.table}, which has no column "
                    f"{self.selection.flag_column} to tell them from other rows",
                    remedy="Add the column, or leave the table out of the dataset",
                )
            blocks = confine(partial(iter, rows.blocks), code, self.conninfo)
            if keys is None or table.key in keys:
                yield TableLoad(table, rows.columns, blocks, TEXT)


def _plan(
    link: Link, target: Target, flag: str, dataset: Dataset, options: RestoreOptions
) -> tuple[Plan, DatasetRows]:
    catalog, selection = read_catalog(link), Selection(flag)
    plan = Plan(
        catalog,
        catalog.flagged(flag),
        Existing.REPLACE,
        selection,
        owned=is_owned(link),
        sealed=True,
        application_name=f"perfdata build {dataset.name}",
        lock_timeout_s=options.lock_timeout_s,
        rebuild_indexes=options.rebuild_indexes,
        as_superuser=options.as_superuser,
    )
    return plan, DatasetRows(dataset, selection, explicit_conninfo(target.conninfo))


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


def _project(target: Target, name: str) -> Project:
    project = target.project
    if project is None:
        raise DatasetNotFoundError(
            f"no dataset is named {name!r}: no [tool.perfdata] project was found, and the bundled "
            "one is used on the embedded server only",
            remedy="Set project in [tool.perfdata] of pyproject.toml",
        )
    return project


def _check_migrations(link: Link, project: Project, target: Target) -> None:
    if project.tables_from_metadata:
        check_tables(link, project, target)
    history = read_history(project)
    if missing := history.pending(database_heads(link, history)):
        raise MigrationError(
            f"{target.described()} lacks migrations {', '.join(missing)} of project {project.name}",
            remedy=f"Run: {target.settings.command('db.migrate')}",
        )

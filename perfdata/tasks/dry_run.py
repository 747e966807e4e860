"""What the dataset and snapshot tasks print under ``--dry``; nothing is changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perfdata.tasks.output import print_notes, print_table, show, shown_path
from perfdata.tasks.snapshot_output import in_short, name_notes, parameters
from perfdata.tasks.task import untouched_target, would_fail

if TYPE_CHECKING:
    from perfdata.config import Settings
    from perfdata.dataset import Dataset
    from perfdata.progress import Report
    from perfdata.snapshot.options import RestoreOptions
    from perfdata.snapshot.preview import RestorePreview
    from perfdata.snapshot.provide import Rebuild
    from perfdata.snapshot.store import Snapshot
    from perfdata.target.target import Target

# What was checked is what needs no server: names, files, migrations, PostgreSQL's programs.
NOT_READY = (
    "not checked: the database, whose server would be started, or which would be migrated first"
)


def tell_build(
    settings: Settings,
    dataset: Dataset,
    *,
    snapshot: bool,
    replace: bool,
    as_superuser: bool,
    dask: str | None = None,
) -> None:
    """Print what a build would do; exit as it would where a check fails."""
    from perfdata.errors import SnapshotExistsError
    from perfdata.snapshot.options import RestoreOptions
    from perfdata.snapshot.store import check_replaceable, snapshot_exists

    target = untouched_target(settings)
    print(f"would build {dataset.name} ({parameters(dataset)}) into {target.described()}")
    print(f"would first remove {_flagged_rows(target)}")
    if not snapshot:
        print("would save no snapshot")
    else:
        try:
            check_replaceable(dataset.name, settings, replace=replace)
        except SnapshotExistsError as error:
            raise would_fail(error) from error
        verb = "replace" if snapshot_exists(dataset.name, settings) else "save"
        print(f"would {verb} the snapshot {dataset.name}")
    if dask is not None:
        _tell_workers(dask, target)
    options = RestoreOptions(as_superuser=as_superuser)
    _check_build(settings, dataset.name, options, distributed=dask is not None)


def _tell_workers(dask: str, target: Target) -> None:
    from perfdata.errors import PerfdataError
    from perfdata.load.ranges.dask_cluster import connect_cluster

    try:
        with connect_cluster(dask) as cluster:
            if target.embedded:
                cluster.refuse_other_hosts()
            print(f"would have {len(cluster.worker_addresses())} Dask workers load the rows")
    except PerfdataError as error:
        raise would_fail(error) from error


def tell_create(settings: Settings, name: str, *, replace: bool, all_rows: bool) -> None:
    """Print what a create would do; exit as it would where its name is taken."""
    from perfdata.errors import SnapshotExistsError
    from perfdata.snapshot.store import check_free, check_name, snapshot_exists

    check_name(name)
    rows = "every row"
    if not all_rows:
        rows = "the flagged rows (every row if no table of an owned database has the flag)"
    target = untouched_target(settings)
    print(f"would save {rows} of {target.described()} as {name}")
    print_notes(name_notes(target, name))
    try:
        check_free(name, settings, replace=replace)
    except SnapshotExistsError as error:
        raise would_fail(error) from error
    if snapshot_exists(name, settings):
        print(f"would replace the snapshot {name}")


def tell_delete(settings: Settings, name: str) -> None:
    """Print which file would be deleted."""
    from perfdata.snapshot.store import find_snapshot, snapshot_exists, snapshot_path

    if not snapshot_exists(name, settings):
        find_snapshot(name, settings)  # raises, and suggests the closest name
    print(f"would delete {shown_path(snapshot_path(name, settings))}")


def tell_restore(
    settings: Settings, name: str, options: RestoreOptions, *, may_build: bool, report: Report
) -> None:
    """Print what a restore would do; make the checks that it makes before its first change."""
    from perfdata.errors import PerfdataError
    from perfdata.snapshot.preview import preview_restore, preview_without_server
    from perfdata.snapshot.provide import Rebuild, check_known
    from perfdata.snapshot.store import Snapshot, snapshot_exists
    from perfdata.target.target import ready_target

    named = untouched_target(settings)
    check_known(named.project, name, settings, build=may_build)
    if not snapshot_exists(name, settings):
        plan = f"would build {name}, which has no snapshot yet, and save it"
        _tell_rebuild(named, name, plan, options)
        return
    shown = f"would restore {name} into {named.described()}"
    try:
        target = ready_target(settings)
        preview: RestorePreview | Rebuild | Snapshot
        if target is None:
            _tell_switch(settings)
            preview = preview_without_server(named, name, options, may_build=may_build)
        else:
            preview = preview_restore(target, name, options, report, may_build=may_build)
    except PerfdataError as error:
        print(shown)
        raise would_fail(error) from error
    if isinstance(preview, Rebuild):
        plan = f"would rebuild {name} ({preview.reason}) and save it"
        _tell_rebuild(target or named, name, plan, options)
    elif isinstance(preview, Snapshot):
        print(f"would restore {in_short(preview)}\ninto {named.described()}")
        print(NOT_READY)
    else:
        print(f"would restore {in_short(preview.snapshot)}\ninto {named.described()}")
        _tell_preview(preview, keep=not options.clean_existing)


def _tell_rebuild(target: Target, name: str, plan: str, options: RestoreOptions) -> None:
    print(f"{plan}\ninto {target.described()}")
    if not options.fresh:
        print(f"would first remove {_flagged_rows(target)}")
    _check_build(target.settings, name, options)


def _tell_preview(preview: RestorePreview, *, keep: bool) -> None:
    from perfdata.snapshot.checks.losses import lost_words
    from perfdata.text import join_first

    print("all checks that precede the first change passed")
    if preview.fresh:
        command = "db.gc --lost-rows" if preview.lost else "db.gc"
        print(f"would replace the database with a new one and keep the old one until {command}")
    if preview.lost:
        rows = lost_words(preview.snapshot.manifest)
        show(f"only the old one would have these {rows}: {join_first(preview.lost)}")
    lines = []
    for table in preview.tables:
        removed = kept = "-"
        if table.removal is not None:
            removed = f"{table.removal.going:,}"
            kept = "all" if keep and not table.whole else f"{table.removal.staying:,}"
        key = f"{table.key} (whole)" if table.whole else table.key
        lines.append((key, removed, kept, f"{table.coming:,}"))
    print_table(("table", "remove", "keep", "load"), lines, right=("remove", "keep", "load"))
    print_notes(preview.notes)


def _check_build(
    settings: Settings, name: str, options: RestoreOptions, *, distributed: bool = False
) -> None:
    """Exit as a build would where a check before its first change fails."""
    from perfdata.errors import PerfdataError
    from perfdata.migrations.history import read_history
    from perfdata.server.binaries import find_binaries
    from perfdata.snapshot.build import preview_build
    from perfdata.target.target import ready_target

    try:
        target = ready_target(settings)
        if target is None:
            _tell_switch(settings)
        else:
            preview_build(target, name, options, distributed=distributed)
            return
        find_binaries(settings)
        read_history(untouched_target(settings).project)
        print(NOT_READY)
    except PerfdataError as error:
        raise would_fail(error) from error


def _tell_switch(settings: Settings) -> None:
    from perfdata.target.target import expected_switch

    if (switch := expected_switch(settings)) is not None:
        show(f"would first switch databases, as {switch.reason}: {switch.outcome}")


def _flagged_rows(target: Target) -> str:
    from perfdata.project import flag_of

    column = flag_of(target.project, target.settings)
    keys = ", ".join(target.settings.flag_through)
    covered = f", the rows that reference these by {keys}" if keys else ""
    return (
        f"the rows with {column} = true from every table that has that column{covered}, and in a "
        "database that perfdata owns the rows that it loaded into others"
    )

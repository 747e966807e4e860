"""Snapshots: save a database's rows to a file, load them back, and manage the files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perfdata.tasks.dry_run import tell_create, tell_delete, tell_restore
from perfdata.tasks.output import (
    human_rows,
    human_size,
    print_json,
    print_notes,
    shown_path,
)
from perfdata.tasks.progress import reporting
from perfdata.tasks.snapshot_import import import_file  # noqa: F401  a task of this namespace
from perfdata.tasks.snapshot_output import (
    compared_with_own,
    difference_facts,
    in_short,
    key_facts,
    manifest_notes,
    name_notes,
    print_difference,
    print_key,
    print_provided,
    print_snapshot,
    print_snapshots,
    snapshot_facts,
)
from perfdata.tasks.snapshot_upgrade import upgrade  # noqa: F401  a task of this namespace
from perfdata.tasks.task import (
    AS_SUPERUSER,
    LOCK_TIMEOUT,
    answer_no,
    configured_project,
    dataset_names,
    is_dry,
    load_settings,
    read_lock_timeout,
    read_whole_number,
    restorable_names,
    snapshot_names,
    task,
    untouched_target,
)

if TYPE_CHECKING:
    from invoke.context import Context

    from perfdata.config import Settings
    from perfdata.progress import Report
    from perfdata.tasks.snapshot_output import Compared

_NAME = "the snapshot, as listed by snapshot.list"
_DIFF_LIMIT = 5


@task(
    options={
        "name": "a name for the snapshot",
        "description": "a sentence to store in it",
        "replace": "replace an existing snapshot of that name",
        "all-rows": "save every row of every table, not only flagged rows",
        "strict": "refuse if its rows reference rows outside it",
        "as-superuser": AS_SUPERUSER,
        "lock-timeout": LOCK_TIMEOUT,
    },
    required={"name": "my_snapshot"},
)
def create(
    context: Context,
    *,
    name: str = "",
    description: str = "",
    replace: bool = False,
    all_rows: bool = False,
    strict: bool = False,
    as_superuser: bool = False,
    lock_timeout: str = "",
) -> None:
    """Save the database's flagged rows, or without a flag all rows, as a snapshot."""
    from perfdata.snapshot.create import create_snapshot

    settings = load_settings()
    lock_timeout_s = read_lock_timeout(lock_timeout)
    if is_dry(context):
        tell_create(settings, name, replace=replace, all_rows=all_rows)
        return
    from perfdata.snapshot.store import check_free
    from perfdata.target.target import open_target

    check_free(name, settings, replace=replace)
    with reporting() as report:
        target = open_target(settings, report, park=False)
        created = create_snapshot(
            target.conninfo,
            name,
            description,
            all_rows=all_rows,
            replace=replace,
            strict=strict,
            as_superuser=as_superuser,
            lock_timeout_s=lock_timeout_s,
            settings=settings,
            report=report,
        )
    print(
        f"created {name}: {human_rows(created.manifest.rows)} from {target.described()}, "
        f"{shown_path(created.path)} ({human_size(created.size_bytes)})"
    )
    if created.manifest.all_rows and not all_rows:
        print_notes(["it has every row, as with all_rows=True: no table has a flag column"])
    print_notes([*name_notes(target, name), *manifest_notes(created)])


@task(
    options={
        "name": "the snapshot or dataset, as listed by snapshot.list and dataset.list",
        "keep-existing": "do not remove the flagged rows first; never builds a dataset",
        "no-build": "fail if a dataset's snapshot is missing or stale, instead of building it",
        "fresh": "replace the whole database with a clone of a template, made on first use",
        "terminate": "with --fresh: end the sessions connected to the database",
        "allow-drift": "accept newer migrations and columns, as long as every row still fits",
        "rebuild-indexes": "drop and rebuild indexes even if the tables hold other rows: faster "
        "from a million rows on, refused while pg_dump runs",
        "unflagged-rows": "also load rows without the flag into tables not in whole_tables",
        "as-superuser": AS_SUPERUSER,
        "lock-timeout": LOCK_TIMEOUT,
    },
    required={"name": restorable_names},
)
def restore(
    context: Context,
    *,
    name: str = "",
    keep_existing: bool = False,
    no_build: bool = False,
    fresh: bool = False,
    terminate: bool = False,
    allow_drift: bool = False,
    rebuild_indexes: bool = False,
    unflagged_rows: bool = False,
    as_superuser: bool = False,
    lock_timeout: str = "",
) -> None:
    """Replace the database's flagged rows with a snapshot's rows."""
    from perfdata.snapshot.options import RestoreOptions
    from perfdata.snapshot.provide import check_known, provide

    settings = load_settings()
    may_build = not (no_build or keep_existing)
    options = RestoreOptions(
        clean_existing=not keep_existing,
        fresh=fresh,
        terminate=terminate,
        allow_drift=allow_drift,
        rebuild_indexes=rebuild_indexes,
        unflagged_rows=unflagged_rows,
        as_superuser=as_superuser,
        lock_timeout_s=read_lock_timeout(lock_timeout),
    )
    if is_dry(context):
        with reporting() as report:
            tell_restore(settings, name, options, may_build=may_build, report=report)
        return
    from perfdata.target.target import open_target

    # An unknown name must not start a server.
    check_known(untouched_target(settings).project, name, settings, build=may_build)
    with reporting() as report:
        target = open_target(settings, report)
        provided = provide(target, name, options, report, may_build=may_build)
    print_provided(provided, target)


@task(name="list", options={"json": "print JSON"})
def list_all(_context: Context, *, json: bool = False) -> None:
    """List the snapshots."""
    from perfdata.snapshot.store import list_snapshots

    settings = load_settings()
    with reporting() as report:
        snapshots = list_snapshots(settings, report)
    if json:
        print_json([snapshot_facts(snapshot) for snapshot in snapshots])
    elif not snapshots:
        print(f"no snapshots in {shown_path(settings.home)}")
    else:
        print_snapshots(snapshots)


@task(options={"name": _NAME, "json": "print JSON"}, required={"name": snapshot_names})
def info(_context: Context, *, name: str = "", json: bool = False) -> None:
    """Show what a snapshot holds and what it was made from."""
    from dataclasses import asdict

    from perfdata.snapshot.store import find_snapshot

    snapshot = find_snapshot(name, load_settings())
    if json:
        print_json({**asdict(snapshot.manifest), **snapshot_facts(snapshot)})
    else:
        print_snapshot(snapshot)


@task(options={"name": "the snapshot to look for"}, required={"name": "my_snapshot"})
def exists(_context: Context, *, name: str = "") -> None:
    """Print whether a snapshot exists: yes (exit 0) or no (exit 1)."""
    from perfdata.snapshot.store import snapshot_exists

    if not snapshot_exists(name, load_settings()):
        print("no")
        raise answer_no()
    print("yes")


@task(options={"name": _NAME}, required={"name": snapshot_names})
def delete(context: Context, *, name: str = "") -> None:
    """Delete a snapshot's file, even if it is damaged."""
    from perfdata.snapshot.store import delete_snapshot

    settings = load_settings()
    if is_dry(context):
        tell_delete(settings, name)
    else:
        print(f"deleted {shown_path(delete_snapshot(name, settings))}")


@task(
    options={
        "name": _NAME,
        "database": "also fail if the database's rows differ from the snapshot's",
        "current": "also fail if its migrations or its dataset differ from the project's",
        "by-hand": "with --current: accept one created by hand under a dataset's name",
        "flagged": "also fail if it holds all rows, not only flagged ones",
        "as-superuser": f"with --database: {AS_SUPERUSER}",
        "lock-timeout": f"with --database: {LOCK_TIMEOUT}",
        "json": "print JSON",
    },
    required={"name": snapshot_names},
)
def verify(
    _context: Context,
    *,
    name: str = "",
    database: bool = False,
    current: bool = False,
    by_hand: bool = False,
    flagged: bool = False,
    as_superuser: bool = False,
    lock_timeout: str = "",
    json: bool = False,
) -> None:
    """Check a snapshot's whole file against its checksums; exit 1 if it is damaged."""
    from perfdata.errors import SnapshotDamagedError, SnapshotDiffersError, SnapshotStaleError
    from perfdata.snapshot.checks.staleness import check_current, check_flagged
    from perfdata.snapshot.store import find_snapshot
    from perfdata.snapshot.verify import verify_snapshot

    settings = load_settings()
    lock_timeout_s = read_lock_timeout(lock_timeout)
    try:
        find_snapshot(name, settings)
        with reporting() as report:
            verified = verify_snapshot(
                name,
                settings,
                database=_conninfo(settings, report) if database else None,
                as_superuser=as_superuser,
                lock_timeout_s=lock_timeout_s,
                report=report,
            )
        if current:
            project = configured_project(untouched_target(settings), "--current")
            check_current(verified, project, by_hand=by_hand)
        if flagged:
            check_flagged(verified)
    except (SnapshotDamagedError, SnapshotStaleError, SnapshotDiffersError) as error:
        if json:
            differs = error.tables if isinstance(error, SnapshotDiffersError) else {}
            print_json({"name": name, "good": False, "reason": str(error), "differs": differs})
        raise answer_no(str(error)) from error
    if json:
        rows, path = verified.manifest.rows, verified.path
        print_json({"name": name, "good": True, "rows": rows, "path": path})
    else:
        print(f"good: {in_short(verified)}{', the same as the database' if database else ''}")


@task(
    options={
        "name": "the earlier snapshot, as listed by snapshot.list",
        "other": "the later snapshot; default: the database",
        "limit": f"how many rows of each kind to show for each table (default: {_DIFF_LIMIT})",
        "as-superuser": f"against the database: {AS_SUPERUSER}",
        "lock-timeout": f"against the database: {LOCK_TIMEOUT}",
        "json": "print JSON",
    },
    required={"name": snapshot_names},
)
def diff(
    _context: Context,
    *,
    name: str = "",
    other: str = "",
    limit: str = "",
    as_superuser: bool = False,
    lock_timeout: str = "",
    json: bool = False,
) -> None:
    """Compare a snapshot with another one or with the database; exit 1 if they differ."""
    from perfdata.snapshot.diff.difference import diff_snapshots
    from perfdata.snapshot.store import find_snapshot

    settings = load_settings()
    lock_timeout_s = read_lock_timeout(lock_timeout)
    find_snapshot(name, settings)
    with reporting() as report:
        difference = diff_snapshots(
            name,
            other or None,
            database=None if other else _conninfo(settings, report),
            limit=read_whole_number("limit", limit) if limit else _DIFF_LIMIT,
            as_superuser=as_superuser,
            lock_timeout_s=lock_timeout_s,
            settings=settings,
            report=report,
        )
    if json:
        print_json(difference_facts(difference))
    else:
        print_difference(difference)
    if not difference.same:
        raise answer_no()


def _conninfo(settings: Settings, report: Report) -> str:
    from perfdata.target.target import open_target

    return open_target(settings, report, park=False).conninfo


@task(
    options={
        "name": "the dataset",
        "explain": "print the parts of the key, and those that differ in the dataset's snapshot",
        "against": "a snapshot to compare with instead of the dataset's",
        "json": "print JSON: the key, the snapshot's path, the parts, and what differs",
    },
    required={"name": dataset_names},
)
def key(
    _context: Context,
    *,
    name: str = "",
    explain: bool = False,
    against: str = "",
    json: bool = False,
) -> None:
    """Print the key under which a CI cache can store a dataset's snapshot."""
    from perfdata.snapshot.cache_key import cache_key
    from perfdata.snapshot.store import find_snapshot

    settings = load_settings()
    made = cache_key(settings, name)
    compared: Compared = None
    if against:
        compared = made.differing(find_snapshot(against, settings))
    elif explain or json:
        compared = compared_with_own(made, name, settings)
    if json:
        print_json(key_facts(made, against or name, compared))
    elif explain or against:
        print_key(made, against or name, compared)
    else:
        print(made)

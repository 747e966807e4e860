"""Snapshots: database to file, file to database, and what there is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perfdata.tasks.dataset import print_built
from perfdata.tasks.dry_run import in_short, tell_create, tell_restore
from perfdata.tasks.keys import compared_with_own, explain_key, key_facts
from perfdata.tasks.options import AS_SUPERUSER, LOCK_TIMEOUT, read_lock_timeout
from perfdata.tasks.output import (
    human_duration,
    human_rows,
    human_size,
    one_line,
    print_facts,
    print_json,
    print_notes,
    print_table,
    shown_path,
)
from perfdata.tasks.progress import reporting
from perfdata.tasks.snapshot_output import LIMIT, difference_facts, print_difference, whole_number
from perfdata.tasks.target import configured_project, load_settings, shadowing, untouched_target
from perfdata.tasks.task import EXAMPLE_NAME, answer_no, is_dry, task

if TYPE_CHECKING:
    from invoke.context import Context

    from perfdata.config import Settings
    from perfdata.database.target import Target
    from perfdata.progress import Report
    from perfdata.snapshot.provide import Provided
    from perfdata.snapshot.store import Snapshot
    from perfdata.tasks.keys import Compared

_NAME = "the snapshot, as snapshot.list names it"
_SHOWN = 5
_REQUIRED = {"name": EXAMPLE_NAME}


@task(
    options={
        "name": "what to call the snapshot",
        "description": "a sentence to keep with it",
        "replace": "replace the snapshot of that name",
        "all-rows": "take every row of every table, not only the flagged ones",
        "strict": "refuse where its rows reference rows outside it",
        "as-superuser": AS_SUPERUSER,
        "lock-timeout": LOCK_TIMEOUT,
    },
    required=_REQUIRED,
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
    """Save the database's flagged rows as a snapshot."""
    from perfdata.snapshot.create import create_snapshot

    settings = load_settings()
    lock_timeout_s = read_lock_timeout(lock_timeout)
    if is_dry(context):
        tell_create(settings, name, replace=replace, all_rows=all_rows)
        return
    from perfdata.database.target import open_target
    from perfdata.snapshot.store import check_free

    check_free(name, settings, replace=replace)
    with reporting() as report:
        target = open_target(settings, report)
        made = create_snapshot(
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
        f"created {name}: {human_rows(made.manifest.rows)} from {target.described()}, "
        f"{shown_path(made.path)} ({human_size(made.size_bytes)})"
    )
    print_notes([*shadowing(target, name), *_lacking(made)])


def _lacking(snapshot: Snapshot) -> list[str]:
    """Say what stood in the database and is not in the snapshot, and what of that it requires."""
    from perfdata.snapshot.required import describe_requirements

    notes, left_out = list(snapshot.manifest.notes), snapshot.manifest.left_out
    if left_out:
        column = snapshot.manifest.flag_column
        notes.append(f"left out, having no column {column}: {', '.join(left_out)}")
    required = describe_requirements(snapshot.manifest.requires)
    notes += [f"requires rows not in it: {one_line(said)}" for said in required[:_SHOWN]]
    if len(required) > _SHOWN:
        notes.append(f"and by {len(required) - _SHOWN:,} more foreign keys")
    return notes


@task(
    options={
        "name": "the snapshot or dataset, as snapshot.list and dataset.list name it",
        "keep-existing": "remove nothing first; builds nothing, as a build replaces flagged rows",
        "no-build": "refuse a dataset's missing or stale snapshot instead of building it again",
        "fresh": "replace the whole database by the clone of a template, made at the first time",
        "terminate": "with --fresh: end the sessions that are open in the database",
        "allow-drift": "let newer migrations and columns pass, where every row still fits",
        "rebuild-indexes": "drop indexes and build them again beside other data too; faster from a "
        "million rows on, refused while pg_dump runs",
        "unflagged-rows": (
            "also load rows without the flag, even where whole_tables does not list their table"
        ),
        "as-superuser": AS_SUPERUSER,
        "lock-timeout": LOCK_TIMEOUT,
    },
    required=_REQUIRED,
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
    """Load a snapshot's rows into the database, in place of its flagged rows."""
    settings = load_settings()
    lock_timeout_s = read_lock_timeout(lock_timeout)
    may_build = not (no_build or keep_existing)
    if is_dry(context):
        from perfdata.snapshot.restore import Options

        options = Options(
            clean_existing=not keep_existing,
            fresh=fresh,
            terminate=terminate,
            allow_drift=allow_drift,
            rebuild_indexes=rebuild_indexes,
            unflagged_rows=unflagged_rows,
            as_superuser=as_superuser,
            lock_timeout_s=lock_timeout_s,
        )
        with reporting() as report:
            tell_restore(settings, name, options, may_build=may_build, report=report)
        return
    from perfdata.database.target import open_target
    from perfdata.snapshot.provide import check_known, provide_dataset

    # Before a server is made for nothing.
    check_known(untouched_target(settings).project, name, settings, build=may_build)
    with reporting() as report:
        target = open_target(settings, report)
        provided = provide_dataset(
            target,
            name,
            clean_existing=not keep_existing,
            build=may_build,
            fresh=fresh,
            terminate=terminate,
            allow_drift=allow_drift,
            rebuild_indexes=rebuild_indexes,
            unflagged_rows=unflagged_rows,
            as_superuser=as_superuser,
            lock_timeout_s=lock_timeout_s,
            report=report,
        )
    _print_provided(target, provided)


def _print_provided(target: Target, provided: Provided) -> None:
    if provided.built is not None:
        print_built(provided.built, target, provided.reason)
    if (done := provided.restored) is not None:
        rows, took = human_rows(sum(done.rows.values())), human_duration(done.duration_s)
        print(f"restored {done.name}: {rows} in {took} ({done.strategy}) into {target.described()}")
        print_notes(done.notes)


@task(name="list", options={"json": "print JSON"})
def list_all(_context: Context, *, json: bool = False) -> None:
    """List the snapshots that are there."""
    from perfdata.snapshot.store import list_snapshots

    settings = load_settings()
    with reporting() as report:
        found = list_snapshots(settings, report)
    if json:
        print_json([_facts(snapshot) for snapshot in found])
    elif not found:
        print(f"no snapshots in {shown_path(settings.home)}")
    else:
        print_table(
            ("snapshot", "rows", "size", "created", "description"),
            [
                (
                    snapshot.name,
                    f"{snapshot.manifest.rows:,}",
                    human_size(snapshot.size_bytes),
                    snapshot.manifest.created_at,
                    snapshot.manifest.description,
                )
                for snapshot in found
            ],
            right=("rows", "size"),
        )


@task(options={"name": _NAME, "json": "print JSON"}, required=_REQUIRED)
def info(_context: Context, *, name: str = "", json: bool = False) -> None:
    """Show what a snapshot holds and what it was made with."""
    from dataclasses import asdict

    from perfdata.snapshot.store import find_snapshot

    found = find_snapshot(name, load_settings())
    if json:
        print_json({**asdict(found.manifest), **_facts(found)})
    else:
        _print_info(found)


def _print_info(snapshot: Snapshot) -> None:

    manifest = snapshot.manifest
    print_facts(
        {
            "name": snapshot.name,
            "description": manifest.description or "-",
            "file": f"{shown_path(snapshot.path)} ({human_size(snapshot.size_bytes)})",
            "created": manifest.created_at,
            "as of": manifest.as_of or "-",
            "rows": "every row" if manifest.all_rows else "flagged rows",
            "server": manifest.server_version,
            "schema": manifest.schema_fingerprint,
            "migrations": ", ".join(item.revision for item in manifest.migrations) or "none",
            "dataset": manifest.dataset_fingerprint or "-",
            "requires": "rows outside it, see below" if manifest.requires else "no rows outside it",
        }
    )
    print_notes(_lacking(snapshot))
    print()
    print_table(
        ("table", "rows"),
        [
            (f"{table} (whole)" if table in manifest.whole_tables else table, f"{rows:,}")
            for table, rows in manifest.stats.items()
        ],
        right=("rows",),
    )


@task(options={"name": "the snapshot to look for"}, required=_REQUIRED)
def exists(_context: Context, *, name: str = "") -> None:
    """Say yes or no, and exit 0 or 1: is there a snapshot of that name."""
    from perfdata.snapshot.store import snapshot_exists

    if not snapshot_exists(name, load_settings()):
        print("no")
        raise answer_no()
    print("yes")


@task(options={"name": _NAME}, required=_REQUIRED)
def delete(context: Context, *, name: str = "") -> None:
    """Delete a snapshot's file, damaged or not."""
    from perfdata.snapshot.store import (
        delete_snapshot,
        find_snapshot,
        snapshot_exists,
        snapshot_path,
    )

    settings = load_settings()
    if not is_dry(context):
        print(f"deleted {shown_path(delete_snapshot(name, settings))}")
        return
    if not snapshot_exists(name, settings):
        find_snapshot(name, settings)  # raises, with a near miss
    print(f"would delete {shown_path(snapshot_path(name, settings))}")


@task(
    options={
        "name": _NAME,
        "database": "also no where the database's rows are not those of the snapshot",
        "current": "also no where its migrations or its dataset are not the project's present ones",
        "by-hand": "with --current: let one pass that was created by hand under a dataset's name",
        "flagged": "also no where it holds every row, not only the flagged ones",
        "as-superuser": f"with --database: {AS_SUPERUSER}",
        "lock-timeout": f"with --database: {LOCK_TIMEOUT}",
        "json": "print JSON",
    },
    required=_REQUIRED,
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
    """Read a snapshot's whole file against its checksums; exit 1 where it is damaged."""
    from perfdata.errors import SnapshotDamagedError, SnapshotDiffersError, SnapshotStaleError
    from perfdata.snapshot.current import check_current, check_flagged
    from perfdata.snapshot.store import find_snapshot
    from perfdata.snapshot.verify import verify_snapshot

    settings = load_settings()
    timeout_s = read_lock_timeout(lock_timeout)
    try:
        find_snapshot(name, settings)
        with reporting() as report:
            conninfo = _conninfo(settings, report) if database else None
            good = verify_snapshot(
                name,
                settings,
                database=conninfo,
                as_superuser=as_superuser,
                lock_timeout_s=timeout_s,
                report=report,
            )
        if current:
            check_current(good, configured_project(settings), by_hand=by_hand)
        if flagged:
            check_flagged(good)
    except (SnapshotDamagedError, SnapshotStaleError, SnapshotDiffersError) as error:
        if json:
            differs = error.tables if isinstance(error, SnapshotDiffersError) else {}
            print_json({"name": name, "good": False, "reason": str(error), "differs": differs})
        raise answer_no(str(error)) from error
    if json:
        print_json({"name": name, "good": True, "rows": good.manifest.rows, "path": good.path})
    else:
        print(f"good: {in_short(good)}{', the same as the database' if database else ''}")


@task(
    options={
        "name": "the snapshot that was before, as snapshot.list names it",
        "other": "the snapshot that came after; not given: the database",
        "limit": "how many rows to show of each kind, for each table (5)",
        "as-superuser": f"against the database: {AS_SUPERUSER}",
        "lock-timeout": f"against the database: {LOCK_TIMEOUT}",
        "json": "print JSON",
    },
    required=_REQUIRED,
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
    """Compare a snapshot's rows with another's or the database's; exit 1 where they differ."""
    from perfdata.snapshot.diff import diff_snapshots
    from perfdata.snapshot.store import find_snapshot

    settings = load_settings()
    timeout_s = read_lock_timeout(lock_timeout)
    find_snapshot(name, settings)
    with reporting() as report:
        found = diff_snapshots(
            name,
            other or None,
            database=None if other else _conninfo(settings, report),
            limit=whole_number("limit", limit, LIMIT),
            as_superuser=as_superuser,
            lock_timeout_s=timeout_s,
            settings=settings,
            report=report,
        )
    if json:
        print_json(difference_facts(found))
    else:
        print_difference(found)
    if not found.same:
        raise answer_no()


def _conninfo(settings: Settings, report: Report) -> str:
    from perfdata.database.target import open_target

    return open_target(settings, report).conninfo


@task(
    options={
        "name": "the dataset",
        "explain": "print each part of the key, and what differs in its snapshot",
        "against": "another snapshot for --explain to compare with",
        "json": "print JSON: the key, the file to keep under it, parts, what differs",
    },
    required=_REQUIRED,
)
def key(
    _context: Context,
    *,
    name: str = "",
    explain: bool = False,
    against: str = "",
    json: bool = False,
) -> None:
    """Print the key under which a CI cache may keep a dataset's snapshot."""
    from perfdata.snapshot.key import cache_key
    from perfdata.snapshot.store import find_snapshot

    settings = load_settings()
    made = cache_key(settings, name)
    if against:
        compared: Compared = made.differing(find_snapshot(against, settings))
    else:
        compared = compared_with_own(made, name, settings) if explain or json else None
    if json:
        print_json(key_facts(made, against or name, compared))
    elif explain or against:
        explain_key(made, against or name, compared)
    else:
        print(made)


def _facts(snapshot: Snapshot) -> dict[str, object]:
    manifest = snapshot.manifest
    return {
        "name": snapshot.name,
        "description": manifest.description,
        "created_at": manifest.created_at,
        "rows": manifest.rows,
        "stats": dict(manifest.stats),
        "path": snapshot.path,
        "size_bytes": snapshot.size_bytes,
    }

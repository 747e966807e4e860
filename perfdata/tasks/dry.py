"""What the snapshot tasks say under ``--dry``, where they do nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perfdata.tasks.output import human_rows, human_size, shown_path
from perfdata.tasks.target import flagged_rows, tell_guard, untouched_target

if TYPE_CHECKING:
    from perfdata.config import Settings
    from perfdata.snapshot.store import Snapshot


def tell_create(settings: Settings, name: str, *, replace: bool, all_rows: bool) -> None:
    """Print what a create would do."""
    from perfdata.snapshot.store import check_name, snapshot_exists

    check_name(name)
    rows = "every row" if all_rows else "the flagged rows"
    print(f"would save {rows} of {untouched_target(settings).described()} as {name}")
    if snapshot_exists(name, settings):
        print(
            f"would replace the snapshot {name}"
            if replace
            else f"would be refused: there is a snapshot {name}, and --replace was not given"
        )


def tell_restore(
    settings: Settings, name: str, *, keep: bool, may_build: bool, fresh: bool
) -> None:
    """Print what a restore would do."""
    from perfdata.snapshot.store import find_snapshot, snapshot_exists

    target = untouched_target(settings)
    buildable = target.project and target.project.find_dataset(name) and may_build
    if buildable and not snapshot_exists(name, settings):
        print(f"would build {name}, which has no snapshot yet, and save it")
    else:
        print(f"would restore {in_short(find_snapshot(name, settings))}")
        if buildable:
            print("would build it again instead where it is stale")
    print(f"into {target.described()}")
    if fresh:
        print("would put a fresh database in its place, and keep what is there until db.gc")
    else:
        print(f"would remove first: {'nothing' if keep else flagged_rows(target)}")
    tell_guard(target)


def in_short(snapshot: Snapshot) -> str:
    """Name a snapshot with its size, on one line."""
    rows, size = human_rows(snapshot.manifest.rows), human_size(snapshot.size_bytes)
    return f"{snapshot.name}: {rows}, {shown_path(snapshot.path)} ({size})"

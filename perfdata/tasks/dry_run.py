"""What the snapshot tasks say under ``--dry``, where they do nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perfdata.tasks.output import human_rows, human_size, print_notes, print_table, show, shown_path
from perfdata.tasks.target import check_build, flagged_rows, shadowing, untouched_target
from perfdata.tasks.task import would_fail

if TYPE_CHECKING:
    from perfdata.config import Settings
    from perfdata.database.target import Target
    from perfdata.progress import Report
    from perfdata.snapshot.foresee import Foreseen
    from perfdata.snapshot.restore import Options
    from perfdata.snapshot.store import Snapshot


def tell_create(settings: Settings, name: str, *, replace: bool, all_rows: bool) -> None:
    """Print what a create would do."""
    from perfdata.errors import SnapshotExistsError
    from perfdata.snapshot.store import check_free, check_name, snapshot_exists

    check_name(name)
    rows = "every row" if all_rows else "the flagged rows"
    target = untouched_target(settings)
    print(f"would save {rows} of {target.described()} as {name}")
    print_notes(shadowing(target, name))
    try:
        check_free(name, settings, replace=replace)
    except SnapshotExistsError as error:
        raise would_fail(error) from error
    if snapshot_exists(name, settings):
        print(f"would replace the snapshot {name}")


def tell_restore(
    settings: Settings, name: str, options: Options, *, may_build: bool, report: Report
) -> None:
    """Print what a restore would do, by the very checks that it makes before its first change."""
    from perfdata.database.target import standing_target
    from perfdata.errors import PerfdataError
    from perfdata.snapshot.foresee import foresee_dataset
    from perfdata.snapshot.provide import check_known
    from perfdata.snapshot.store import snapshot_exists

    named = untouched_target(settings)
    check_known(named.project, name, settings, build=may_build)
    if not snapshot_exists(name, settings):
        said = f"would build {name}, which has no snapshot yet, and save it"
        _tell_rebuild(named, name, said, options)
        return
    shown = f"would restore {name} into {named.described()}"
    try:
        target = standing_target(settings)
        if target is None:
            print(f"{shown}\nnot checked: its server does not run yet, or lacks migrations")
            return
        found, reason = foresee_dataset(
            target, name, build=may_build, options=options, report=report
        )
    except PerfdataError as error:
        print(shown)
        raise would_fail(error) from error
    if found is None:
        _tell_rebuild(target, name, f"would build {name} again ({reason}) and save it", options)
    else:
        print(f"would restore {in_short(found.snapshot)}\ninto {target.described()}")
        _tell_foreseen(found, keep=not options.clean_existing)


def _tell_rebuild(target: Target, name: str, said: str, options: Options) -> None:
    print(f"{said}\ninto {target.described()}")
    print(f"would remove first: {flagged_rows(target)}")
    check_build(target.settings, name, as_superuser=options.as_superuser)


def _tell_foreseen(found: Foreseen, *, keep: bool) -> None:
    from perfdata.database.connection import first
    from perfdata.snapshot.losses import lost_words

    print("every check before the first change was made, and passed")
    if found.fresh:
        until = "db.gc --lost-rows" if found.lost else "db.gc"
        print(f"would put a fresh database in its place, and keep what is there until {until}")
    if found.lost:
        rows = lost_words(found.snapshot.manifest)
        show(f"would have these {rows} in the kept one alone: {first(found.lost)}")
    table = []
    for one in found.tables:
        before = ["-", "-"]
        if one.before is not None:
            stays = "all" if keep and not one.whole else f"{one.before.staying:,}"
            before = [f"{one.before.going:,}", stays]
        table.append([f"{one.key} (whole)" if one.whole else one.key, *before, f"{one.coming:,}"])
    print_table(("table", "remove", "keep", "load"), table, right=("remove", "keep", "load"))
    print_notes(found.notes)


def in_short(snapshot: Snapshot) -> str:
    """Name a snapshot with its size, on one line."""
    rows, size = human_rows(snapshot.manifest.rows), human_size(snapshot.size_bytes)
    return f"{snapshot.name}: {rows}, {shown_path(snapshot.path)} ({size})"

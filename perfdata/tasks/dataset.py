"""Dataset definitions, and the rows made from them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perfdata.tasks.options import AS_SUPERUSER, LOCK_TIMEOUT, read_lock_timeout
from perfdata.tasks.output import (
    human_duration,
    human_rows,
    human_size,
    print_json,
    print_notes,
    print_table,
    shown_path,
)
from perfdata.tasks.progress import reporting
from perfdata.tasks.target import check_build, flagged_rows, load_settings, untouched_target
from perfdata.tasks.task import EXAMPLE_NAME, is_dry, task, would_fail

if TYPE_CHECKING:
    from invoke.context import Context

    from perfdata.config import Settings
    from perfdata.database.target import Target
    from perfdata.dataset import Dataset
    from perfdata.snapshot.provide import Built


@task(name="list", options={"json": "print JSON"})
def list_datasets(_context: Context, *, json: bool = False) -> None:
    """List the project's datasets, and whether each has a snapshot."""
    from perfdata.project import load_project
    from perfdata.snapshot.store import snapshot_exists

    settings = load_settings()
    project = load_project(settings)
    found = [(dataset, snapshot_exists(dataset.name, settings)) for dataset in project.datasets]
    if json:
        print_json([_facts(dataset, has_snapshot=has) for dataset, has in found])
    elif not found:
        print(f"project {project.name} defines no datasets")
    else:
        print_table(
            ("dataset", "as of", "snapshot", "description"),
            [
                (
                    dataset.name,
                    dataset.as_of,
                    "yes" if has else "no",
                    dataset.description or _parameters(dataset),
                )
                for dataset, has in found
            ],
        )


@task(
    options={
        "name": "the dataset, as dataset.list names it",
        "no-snapshot": "load the rows, but save no snapshot of them",
        "replace": "replace a snapshot of that name even where it was created by hand",
        "as-superuser": AS_SUPERUSER,
        "lock-timeout": LOCK_TIMEOUT,
    },
    required={"name": EXAMPLE_NAME},
)
def build(
    context: Context,
    *,
    name: str = "",
    no_snapshot: bool = False,
    replace: bool = False,
    as_superuser: bool = False,
    lock_timeout: str = "",
) -> None:
    """Generate a dataset's rows, load them into the database, and save their snapshot."""
    from perfdata.project import load_project

    settings = load_settings()
    lock_timeout_s = read_lock_timeout(lock_timeout)
    dataset = load_project(settings).dataset(name)
    if is_dry(context):
        _tell_build(settings, dataset, snapshot=not no_snapshot, replace=replace)
        check_build(settings, dataset.name, as_superuser=as_superuser)
        return
    from perfdata.database.target import open_target
    from perfdata.snapshot.provide import build_dataset

    with reporting() as report:
        target = open_target(settings, report)
        built = build_dataset(
            target,
            name,
            snapshot=not no_snapshot,
            replace=replace,
            as_superuser=as_superuser,
            lock_timeout_s=lock_timeout_s,
            report=report,
        )
    print_built(built, target)


def print_built(built: Built, target: Target, reason: str = "") -> None:
    """Say what a build did, and why it was made where that was not asked for."""
    rows, took = human_rows(sum(built.rows.values())), human_duration(built.duration_s)
    saved = ""
    if built.snapshot is not None:
        path, size = shown_path(built.snapshot.path), human_size(built.snapshot.size_bytes)
        saved = f" and saved {path} ({size})"
    why = f"{reason}; " if reason else ""
    print(f"{built.name}: {why}built {rows} in {took}{saved}, into {target.described()}")
    print_notes(built.notes)


def _tell_build(settings: Settings, dataset: Dataset, *, snapshot: bool, replace: bool) -> None:
    from perfdata.errors import SnapshotExistsError
    from perfdata.snapshot.provide import check_replaceable
    from perfdata.snapshot.store import snapshot_exists

    target = untouched_target(settings)
    print(f"would build {dataset.name} ({_parameters(dataset)}) into {target.described()}")
    print(f"would remove first: {flagged_rows(target)}")
    if not snapshot:
        print("would save no snapshot")
    else:
        try:
            check_replaceable(dataset.name, settings, replace=replace)
        except SnapshotExistsError as error:
            raise would_fail(error) from error
        verb = "replace" if snapshot_exists(dataset.name, settings) else "save"
        print(f"would {verb} the snapshot {dataset.name}")


def _parameters(dataset: Dataset) -> str:
    return " ".join(f"{name}={value:,}" for name, value in dataset.parameters.items())


def _facts(dataset: Dataset, *, has_snapshot: bool) -> dict[str, object]:
    return {
        "name": dataset.name,
        "description": dataset.description,
        "as_of": dataset.as_of,
        "seed": dataset.seed,
        "version": dataset.version,
        "parameters": dict(dataset.parameters),
        "snapshot": has_snapshot,
    }

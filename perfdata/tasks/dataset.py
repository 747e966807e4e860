"""Datasets: list their definitions, and build them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perfdata.tasks.dataset_draft import draft  # noqa: F401  a task of this namespace
from perfdata.tasks.dataset_output import (
    dataset_facts,
    description_facts,
    print_description,
    state_facts,
)
from perfdata.tasks.dry_run import tell_build
from perfdata.tasks.output import print_json, print_notes, print_table
from perfdata.tasks.progress import reporting
from perfdata.tasks.snapshot_output import parameters, print_built
from perfdata.tasks.task import (
    AS_SUPERUSER,
    LOCK_TIMEOUT,
    dataset_names,
    is_dry,
    load_settings,
    read_lock_timeout,
    task,
)

if TYPE_CHECKING:
    from invoke.context import Context


@task(name="list", options={"json": "print JSON"})
def list_datasets(_context: Context, *, json: bool = False) -> None:
    """List the project's datasets, and whether each has a current snapshot."""
    from perfdata.project import load_project
    from perfdata.snapshot.checks.state import snapshot_state

    settings = load_settings()
    project = load_project(settings)
    listed = [
        (dataset, snapshot_state(dataset.name, project, settings)) for dataset in project.datasets
    ]
    if json:
        print_json([{**dataset_facts(dataset), **state_facts(state)} for dataset, state in listed])
    elif not listed:
        print(f"project {project.name} defines no datasets")
    else:
        print_table(
            ("dataset", "as of", "snapshot", "description"),
            [
                (
                    dataset.name,
                    dataset.as_of,
                    state.state.value,
                    dataset.description or parameters(dataset),
                )
                for dataset, state in listed
            ],
        )
        print_notes(state.reason for _, state in listed if state.reason)


@task(
    options={"name": "the dataset, as listed by dataset.list", "json": "print JSON"},
    required={"name": dataset_names},
)
def describe(_context: Context, *, name: str = "", json: bool = False) -> None:
    """Generate a dataset's rows, and show how many they are and what their columns hold."""
    from perfdata.snapshot.description.description import describe_dataset

    settings = load_settings()
    with reporting() as report:
        description = describe_dataset(name, settings=settings, report=report)
    if json:
        print_json(description_facts(description))
    else:
        print_description(description)


@task(
    options={
        "name": "the dataset, as listed by dataset.list",
        "no-snapshot": "load the rows without saving a snapshot",
        "replace": "replace a snapshot of that name even if it was created by hand",
        "fresh": "build in a clone of the database, which then replaces it",
        "dask": "address of a Dask scheduler, whose workers generate and load the rows",
        "as-superuser": AS_SUPERUSER,
        "lock-timeout": LOCK_TIMEOUT,
    },
    required={"name": dataset_names},
)
def build(
    context: Context,
    *,
    name: str = "",
    no_snapshot: bool = False,
    replace: bool = False,
    fresh: bool = False,
    dask: str = "",
    as_superuser: bool = False,
    lock_timeout: str = "",
) -> None:
    """Generate a dataset's rows, load them into the database, and save a snapshot."""
    from perfdata.project import load_project

    settings = load_settings()
    lock_timeout_s = read_lock_timeout(lock_timeout)
    dataset = load_project(settings).dataset(name)
    if is_dry(context):
        tell_build(
            settings,
            dataset,
            snapshot=not no_snapshot,
            replace=replace,
            as_superuser=as_superuser,
            dask=dask or None,
        )
        return
    from perfdata.snapshot.build import build_dataset
    from perfdata.target.target import open_target

    with reporting() as report:
        target = open_target(settings, report)
        built = build_dataset(
            target,
            name,
            snapshot=not no_snapshot,
            replace=replace,
            as_superuser=as_superuser,
            lock_timeout_s=lock_timeout_s,
            fresh=fresh,
            dask=dask or None,
            report=report,
        )
    print_built(built, target)

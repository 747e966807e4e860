"""The task snapshot.import."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perfdata.tasks.dry_run import NOT_READY
from perfdata.tasks.output import human_rows, human_size, print_json, print_notes, show, shown_path
from perfdata.tasks.progress import reporting
from perfdata.tasks.snapshot_output import manifest_notes, name_notes, snapshot_facts
from perfdata.tasks.task import (
    AS_SUPERUSER,
    LOCK_TIMEOUT,
    is_dry,
    load_settings,
    read_lock_timeout,
    task,
    untouched_target,
    would_fail,
)

if TYPE_CHECKING:
    from invoke.context import Context

    from perfdata.config import Settings
    from perfdata.snapshot.options import CreateOptions


@task(
    name="import",
    options={
        "file": "the JSON file, plain or compressed with gzip or zstd",
        "name": "a name for the snapshot; default: the one in the file",
        "description": "a sentence to store in it; default: the one in the file",
        "replace": "replace an existing snapshot of that name",
        "terminate": "end the sessions connected to the database, if it has to be cloned",
        "as-superuser": AS_SUPERUSER,
        "lock-timeout": LOCK_TIMEOUT,
        "json": "print JSON",
    },
    required={"file": "old.json.gz"},
)
def import_file(
    context: Context,
    *,
    file: str = "",
    name: str = "",
    description: str = "",
    replace: bool = False,
    terminate: bool = False,
    as_superuser: bool = False,
    lock_timeout: str = "",
    json: bool = False,
) -> None:
    """Make a snapshot of a plain JSON file: {name, stats, tables: {table: [{column: value}]}}."""
    from perfdata.snapshot.options import CreateOptions
    from perfdata.snapshot.plain.imports import import_document, read_document
    from perfdata.target.target import start_target

    settings = load_settings()
    options = CreateOptions(
        name=name,
        description=description,
        replace=replace,
        as_superuser=as_superuser,
        lock_timeout_s=read_lock_timeout(lock_timeout),
    )
    if is_dry(context):
        _tell_import(settings, file, options)
        return
    with reporting() as report:
        document = read_document(file, options, settings, report)
        target = start_target(settings, report)
        done = import_document(
            target.conninfo, document, options, settings, report, terminate=terminate
        )
    snapshot = done.snapshot
    if json:
        print_json({**snapshot_facts(snapshot), "file": done.file, "notes": done.notes})
        return
    made = f" (created {done.created_at})" if done.created_at else ""
    show(
        f"imported {snapshot.name}: {human_rows(snapshot.manifest.rows)} from "
        f"{shown_path(done.file)}{made}, {shown_path(snapshot.path)} "
        f"({human_size(snapshot.size_bytes)})"
    )
    print_notes([*done.notes, *name_notes(target, snapshot.name), *manifest_notes(snapshot)])


def _tell_import(settings: Settings, file: str, options: CreateOptions) -> None:
    """Read the file, and check it against the database if that needs no start or migration."""
    from perfdata.errors import PerfdataError
    from perfdata.postgres.connection import open_link
    from perfdata.snapshot.plain.imports import plan_import, read_document
    from perfdata.snapshot.upgrade import check_server
    from perfdata.target.target import ready_target

    try:
        with reporting() as report:
            document = read_document(file, options, settings, report)
        rows = human_rows(sum(table.rows for table in document.tables.values()))
        name = options.name or document.name
        show(f"would import {rows} of {len(document.tables)} tables as {name}")
        show(f"in a scratch database on the server of {untouched_target(settings).described()}")
        if (target := ready_target(settings)) is None:
            print(NOT_READY)
            return
        check_server(target.conninfo, settings)
        with open_link(target.conninfo) as link:
            _, fitted = plan_import(link, document, options, settings)
    except PerfdataError as error:
        raise would_fail(error) from error
    print_notes(fitted.notes)

"""The task dataset.draft."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from perfdata.errors import ConfigError
from perfdata.tasks.output import show, shown_path
from perfdata.tasks.progress import reporting
from perfdata.tasks.task import is_dry, load_settings, task

if TYPE_CHECKING:
    from invoke.context import Context


@task(
    options={
        "tables": "the tables, separated by commas; default: all",
        "like": "the URL of a database whose planner statistics shape the rows; none is read",
        "name": "the dataset's name; default: draft",
        "output": "write the module to this file, which must not exist; default: print it",
    },
)
def draft(
    context: Context, *, tables: str = "", like: str = "", name: str = "draft", output: str = ""
) -> None:
    """Write a first definition of a dataset from the database's tables; it runs as it is."""
    from perfdata.draft.draft import draft_dataset
    from perfdata.progress import Event
    from perfdata.snapshot.store import check_name
    from perfdata.target.target import open_target
    from perfdata.temporary import write_whole

    settings = load_settings()
    check_name(name)
    path = Path(output)
    if output and path.exists():
        raise ConfigError(f"{output} exists already", remedy="Name a file that does not")
    keys = [key.strip() for key in tables.split(",") if key.strip()]
    with reporting() as report:
        target = open_target(settings, report, park=False)
        drafted = draft_dataset(
            target.conninfo, keys, like=like or None, name=name, settings=settings
        )
        for note in drafted.notes:
            report(Event(note))
    if not output:
        show(drafted.text.rstrip())
    elif is_dry(context):
        print(f"would write {shown_path(path)}: {len(drafted.tables)} tables")
    else:
        try:
            write_whole(path, drafted.text)
        except OSError as error:
            reason = f"{output} can't be written: {error.strerror or error}"
            raise ConfigError(reason) from error
        print(f"wrote {shown_path(path)}: {len(drafted.tables)} tables")

"""The settings and the database that a task is about, named without touching it."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from perfdata.tasks.task import would_fail

if TYPE_CHECKING:
    from perfdata.config import Settings
    from perfdata.database.target import Target
    from perfdata.project import Project

# Of libpq's variables those that no conninfo or no URL overrules: meant for other servers than the
# embedded one. A process of perfdata's own may do without them.
_ELSEWHERE = ("PGSERVICE", "PGHOSTADDR", "PGTZ", "PGDATESTYLE", "PGGEQO")


def load_settings() -> Settings:
    """Read the settings that hold in the current folder; warn of variables that are none.

    Where they mean the embedded server, this process and those that it starts forget the variables
    that would lead libpq elsewhere.
    """
    from perfdata.config import Settings, unknown_variables

    for warning in unknown_variables(os.environ):
        print(f"warning: {warning}", file=sys.stderr)
    settings = Settings.load()
    if settings.database_url is None:
        for variable in _ELSEWHERE:
            os.environ.pop(variable, None)
    return settings


def untouched_target(settings: Settings) -> Target:
    """Return the database that the settings mean, to be spoken of: nothing is started."""
    from perfdata.database.connection import normalise_url
    from perfdata.database.target import Target

    if settings.database_url is None:
        return Target(settings, conninfo="", embedded=True)
    return Target(settings, normalise_url(settings.database_url), embedded=False)


def configured_project(settings: Settings) -> Project:
    """Return what --current compares with; raise ConfigError where there is none."""
    from perfdata.errors import ConfigError

    project = untouched_target(settings).project
    if project is None:
        raise ConfigError(
            "--current compares with a project's migrations and datasets, and none is configured: "
            "name one in pyproject.toml, [tool.perfdata] project, or leave --current out"
        )
    return project


def shadowing(target: Target, name: str) -> list[str]:
    """Say that a snapshot created under a dataset's name stands in the place of the dataset's."""
    if target.project is None or target.project.find_dataset(name) is None:
        return []
    said = (
        f"{name} is a dataset's name: snapshot.restore takes this one in the place of what that "
        "generates, and only dataset.build --replace builds over it. Another name keeps both"
    )
    return [said]


def check_build(settings: Settings, name: str, *, as_superuser: bool) -> None:
    """Exit as a build of a dataset would where a check before its first change fails."""
    from perfdata.database.target import standing_target
    from perfdata.errors import PerfdataError
    from perfdata.snapshot.provide import foresee_build

    try:
        if (target := standing_target(settings)) is not None:
            foresee_build(target, name, as_superuser=as_superuser)
    except PerfdataError as error:
        raise would_fail(error) from error


def flagged_rows(target: Target) -> str:
    """Name the rows that a build or a restore removes before it loads its own."""
    from perfdata.project import flag_of

    column = flag_of(target.project, target.settings)
    return f"the rows with {column} = true of every table that has that column"

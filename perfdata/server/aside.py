"""Data of the embedded server that another major version of PostgreSQL created, set aside."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

from perfdata.errors import ServerError
from perfdata.progress import Event, silent
from perfdata.server.binaries import server_major
from perfdata.server.embedded import EmbeddedServer
from perfdata.server.postmaster import find_postmaster
from perfdata.server.state import Home

if TYPE_CHECKING:
    from pathlib import Path

    from perfdata.config import Settings
    from perfdata.progress import Report

_PREFIX = "data_of_postgresql_"


def has_other_major(settings: Settings) -> bool:
    """Tell whether another major version than the installed one created the server's data."""
    home = Home(settings)
    return home.cluster(home.read_state()).major() not in {None, server_major(settings)}


def set_aside_other_major(settings: Settings, report: Report = silent) -> Path | None:
    """Rename data that another major version than the installed one created.

    Their server is stopped. Returns the new folder, None if there are no such data.
    """
    if not has_other_major(settings):
        return None
    home = Home(settings)
    EmbeddedServer(settings, report).stop()
    with home.locked():
        state = home.read_state()
        cluster = home.cluster(state)
        if not has_other_major(settings):  # another process was faster
            return None
        major = cluster.major()
        if find_postmaster(cluster, home.socket(state)) is not None:
            raise ServerError(f"the embedded server in {settings.home} was started again meanwhile")
        names = (f"{_PREFIX}{major}" + (f"_{n}" if n > 1 else "") for n in count(1))
        folder = next(path for name in names if not (path := cluster.folder / name).exists())
        cluster.data.rename(folder)
    report(Event(f"set aside the data of PostgreSQL {major} as {folder}"))
    return folder


def find_set_aside(settings: Settings) -> list[tuple[Path, int]]:
    """Return the folders of data that were set aside, with their sizes in bytes."""
    home = Home(settings)
    folders = sorted(home.cluster(home.read_state()).folder.glob(f"{_PREFIX}*"))
    return [
        (folder, sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file()))
        for folder in folders
    ]

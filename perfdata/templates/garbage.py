"""Garbage: all that db.gc removes, files of killed processes before databases."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

from perfdata.postgres.url import normalise_url
from perfdata.progress import silent
from perfdata.server.embedded import EmbeddedServer
from perfdata.server.sockets import remove_temporary_folder
from perfdata.server.state import Home, orphaned_clusters
from perfdata.templates.collection import Collected, Removed, collect_databases
from perfdata.templates.databases import MAINTENANCE
from perfdata.temporary import find_leftovers, remove_leftover

if TYPE_CHECKING:
    from collections.abc import Iterator

    from perfdata.config import Settings
    from perfdata.progress import Report

_FILE = "a temporary file of a process that was killed"
_SOCKETS = "a socket's folder that a process made which was killed"


def collect_garbage(
    settings: Settings, report: Report = silent, *, dry: bool = False, lost_rows: bool = False
) -> Collected:
    """Remove what killed processes left in the home, and databases (see collect_databases).

    The embedded server is started for that, but not by ``dry``. Where its disk is full it gets the
    room that was reserved for this.
    """
    files = tuple(_collect_files(settings, dry=dry))
    if settings.database_url is not None:
        conninfo = normalise_url(settings.database_url)
        found = collect_databases(conninfo, settings, dry=dry, lost_rows=lost_rows)
    else:
        found = _collect_embedded(settings, report, dry=dry, lost_rows=lost_rows)
    return Collected((*files, *found.removed), found.left)


def _collect_embedded(
    settings: Settings, report: Report, *, dry: bool, lost_rows: bool
) -> Collected:
    server = EmbeddedServer(settings, report)
    homeless = tuple(
        f"{folder}: the cluster of PERFDATA_HOME {home}, which is not there; remove that folder if "
        "the home is gone for good, and not on a disk that is not mounted now"
        for folder, home in orphaned_clusters()
    )
    if dry and not server.status().running:
        stopped = "the embedded server does not run: it would be started to see what is superfluous"
        return Collected((), (*homeless, stopped))
    with nullcontext() if dry else server.reserve_released():
        server.start()
        conninfo = server.conninfo(MAINTENANCE)
        found = collect_databases(conninfo, settings, dry=dry, lost_rows=lost_rows)
    return Collected(found.removed, (*homeless, *found.left))


def _collect_files(settings: Settings, *, dry: bool) -> Iterator[Removed]:
    home = Home(settings)
    folders = [settings.home, settings.home / "snapshots"]
    if settings.database_url is None:
        cluster = home.cluster(home.read_state()).folder
        folders += {home.folder, cluster}
    for folder in folders:
        for path in find_leftovers(folder):
            size = path.stat().st_size
            if dry or remove_leftover(path):
                yield Removed(str(path), _FILE, size)
    if settings.database_url is None:
        for folder in home.stray_socket_folders():
            yield Removed(str(folder), _SOCKETS, 0)
            if not dry:
                remove_temporary_folder(folder)

"""Homes of embedded servers that tests make: nothing of them stays."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from perfdata import Settings
from perfdata.server.embedded import EmbeddedServer
from perfdata.server.postmaster import is_running
from tests.integration.inner import PROJECT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def project_home(folder: Path) -> Iterator[Settings]:
    """Make a folder a copy of the bundled project, whose home lies in it."""
    (folder / "pyproject.toml").write_text(PROJECT, encoding="utf-8")
    settings = Settings.load(folder, {"PERFDATA_HOME": str(folder / "home")})
    yield settings
    discard_server(settings)


def discard_server(settings: Settings) -> None:
    """End a home's server, and remove its cluster.

    It is ended without the checkpoint that a stop makes: writing out what is thrown away takes
    seconds. As root the cluster lies outside the home, where nobody would remove it.
    """
    status = EmbeddedServer(settings).status()
    if status.pid is not None:
        os.kill(status.pid, signal.SIGQUIT)
        while is_running(status.pid):
            time.sleep(0.01)
    shutil.rmtree(status.data.parent, ignore_errors=True)


def free_port() -> int:
    """Return a port of 127.0.0.1 on which nobody listens at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

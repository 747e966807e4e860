"""The folder of the embedded server, before there is a server."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from perfdata import Settings
from perfdata.server.state import Home

if TYPE_CHECKING:
    from pathlib import Path


def test_several_processes_may_be_the_first_in_a_new_home(tmp_path: Path) -> None:
    """Another's first files must not look like those of somebody else: it did in 2 of 5 homes."""

    def claim(folder: Path) -> None:
        with Home(Settings(root=folder, home=folder)).locked():
            pass

    with ThreadPoolExecutor(4) as executor:
        for n in range(30):
            list(executor.map(claim, [tmp_path / str(n)] * 4))

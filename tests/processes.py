"""Processes that tests start: what they inherit, and the console scripts of this environment."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

# What decides how pytest and perfdata run: settings, a CI, a display.
_PREFIXES = ("PERFDATA_", "PYTEST_", "GITHUB_")
_NAMES = {"CI", "DISPLAY", "WAYLAND_DISPLAY", "PYTHONDONTWRITEBYTECODE"}


def environment(**changes: str) -> dict[str, str]:
    """Return what a user's process would find: this environment but for the tests' own variables.

    Bytecode is written: without, each pytest rewrites the asserts of all of perfdata again, which
    is 0.6 of the 2.3 seconds of CPU that a session with one perf test takes.
    """
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(_PREFIXES) and name not in _NAMES
    }
    return {**inherited, **changes}


def run_script(
    folder: Path, name: str, *arguments: str, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run a console script of this environment in a folder, and return how it ended."""
    return subprocess.run(
        [Path(sys.executable).with_name(name), *arguments],
        cwd=folder,
        env=environment(**variables),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )

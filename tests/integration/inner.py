"""Whole pytest sessions of a project, run as a user would run them; entries of ``allow``."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from psycopg.conninfo import conninfo_to_dict

from tests.processes import environment

if TYPE_CHECKING:
    from pathlib import Path

PROJECT = '[tool.perfdata]\nproject = "perfdata.welfare:project"\n[tool.pytest.ini_options]\n'
# Rounds enough to see that they are undone, and no more. The other plugins of this environment
# would cost each session a second, or warn.
OTHERS = ("anyio", "asyncio", "cacheprovider", "django", "faker", "hypothesispytest",
          "platformdirs", "pytest_postgresql")  # fmt: skip
FAST = (
    *("--benchmark-max-time=0", "--benchmark-min-rounds=3", "-W", "error"),
    *(f"-pno:{name}" for name in OTHERS),
)


def entry(conninfo: str, name: str | None = None) -> str:
    """Write a database's entry of ``allow``, or one of other databases of its server."""
    parts = conninfo_to_dict(conninfo)
    host, port = str(parts["host"]), parts.get("port", 5432)
    if host.startswith("/"):
        host = os.path.realpath(host)
    return f"{host}:{port}/{name or parts['dbname']}"


def own_frames(text: str) -> list[str]:
    """Return the lines of perfdata's own code that a terminal shows; the sample is a project's."""
    return re.findall(r"\S*/perfdata/(?!welfare/)\S*\.py:\d+", text)


class Pytest:
    """Runs pytest in a folder, which is made a copy of the bundled project."""

    def __init__(self, folder: Path, home: Path) -> None:
        self.folder = folder
        self.home = home
        (folder / "pyproject.toml").write_text(PROJECT, encoding="utf-8")

    def write(self, **files: str) -> None:
        for name, text in files.items():
            (self.folder / f"{name}.py").write_text(text, encoding="utf-8")

    def run(self, *args: str, **environ: str) -> tuple[int, str]:
        """Return the exit code and what stood on the terminal."""
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *FAST, *args],
            cwd=self.folder,
            env=environment(**{"PERFDATA_HOME": str(self.home), "COLUMNS": "200", **environ}),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=120,
        )
        return done.returncode, done.stdout

    def results(self) -> dict[str, dict[str, Any]]:
        """Return the results file's scenarios by the name of their test."""
        text = (self.home / "results" / "perf.json").read_text(encoding="utf-8")
        scenarios: list[dict[str, Any]] = json.loads(text)["scenarios"]
        return {one["test"].partition("::")[2]: one for one in scenarios}

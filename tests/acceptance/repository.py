"""A project in a repository of git, whose revisions are compared."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import psycopg

from perfdata import open_target
from tests.integration.inner import PROJECT
from tests.processes import environment

if TYPE_CHECKING:
    from pathlib import Path

    from perfdata import Settings

TASKS = "from invoke import Collection\nfrom perfdata.tasks import perf\nns = Collection(perf)\n"
SLOW, FAST = 0.05, 0.005
# Each side writes down which code ran, in rounds and before: the file is named after the process.
SHOP = """
import os, pathlib, time
from sqlalchemy import select
from perfdata.welfare.models import Office

def offices(session):
    with open(os.environ["RAN"], "a") as file:
        file.write(f"{{os.getpid()}} {{pathlib.Path(__file__).parent}}\\n")
    time.sleep({sleep})
    found = session.scalars(select(Office).order_by(Office.id)).all()
    {more}
    return found
"""
N_PLUS_ONE = "[session.scalar(select(Office.name).where(Office.id == one.id)) for one in found]"
TESTS = """
import pytest
from shop import offices
pytestmark = pytest.mark.perf(dataset="10_offices", max_queries=2)

def test_offices(perf):
    assert len(perf(offices)) == 10
"""


class Repository:
    """A project in a repository of git, and the task that compares it."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self.folder = folder
        self.settings = settings
        self.git("init", "-q")
        self.write("pyproject.toml", PROJECT)
        self.write("tasks.py", TASKS)
        self.write("tests/perf/test_shop.py", TESTS)

    def git(self, *arguments: str) -> str:
        who = ("-c", "user.name=a", "-c", "user.email=a@example.com", "-c", "commit.gpgsign=false")
        command = ["git", "-C", str(self.folder), *who, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def shop(self, sleep: float = FAST, more: str = "pass") -> None:
        self.write("shop.py", SHOP.format(sleep=sleep, more=more))

    def commit(self) -> str:
        self.git("add", "-A")
        self.git("commit", "-qm", "a revision")
        return self.git("rev-parse", "HEAD")

    def start(self, *arguments: str, rounds: int = 10) -> subprocess.Popen[str]:
        variables = {"RAN": str(self.folder / ".git" / "ran"), "COLUMNS": "200"}
        return subprocess.Popen(
            [sys.executable, "-m", "invoke", "perf.compare", f"--rounds={rounds}", *arguments],
            cwd=self.folder,
            env=environment(**variables, PERFDATA_HOME=str(self.settings.home)),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def compare(self, *arguments: str) -> tuple[int, str, str]:
        """Return the exit code, and what stood on stdout and stderr."""
        process = self.start(*arguments)
        said = process.communicate(timeout=180)
        return process.returncode, *said

    def ran(self) -> dict[str, set[str]]:
        """Return the trees whose code ran, by process."""
        found: dict[str, set[str]] = {}
        for line in (self.folder / ".git" / "ran").read_text().splitlines():
            pid, _, tree = line.partition(" ")
            found.setdefault(pid, set()).add(tree)
        return found

    def left(self) -> list[str]:
        """Return what a comparison has left: worktrees, folders, databases."""
        worktrees = self.git("worktree", "list", "--porcelain").count("worktree ") - 1
        folders = [one.name for one in (self.settings.home / "compare").iterdir() if one.is_dir()]
        return [*["a worktree"] * worktrees, *folders, *self.databases()]

    def databases(self) -> list[str]:
        with psycopg.connect(open_target(self.settings).conninfo) as connection:
            query = "SELECT datname FROM pg_database WHERE datname LIKE 'perfdata\\_compare\\_%'"
            return [name for (name,) in connection.execute(query).fetchall()]

"""The README's commands and examples, run as a newcomer would: fresh copy, fresh environment."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
BLOCKS = re.findall(
    r"^```(\w+)\n(.*?)^```$", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE | re.DOTALL
)
COMMANDS = [line for kind, text in BLOCKS if kind == "console" for line in text.splitlines()]
EXAMPLES = [text for kind, text in BLOCKS if kind == "python"]
TESTS = "nox -s tests"


class Newcomer:
    """Somebody with a copy of the tree, an environment of their own, and a shell."""

    def __init__(self, folder: Path) -> None:
        self.tree = folder / "perfdata"
        self._environment = folder / "environment"
        self.environ = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PERFDATA_", "GITHUB_"))
        } | {"PATH": f"{self._environment / 'bin'}{os.pathsep}{os.environ['PATH']}"}

    def arrive(self) -> None:
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT, check=True, capture_output=True, text=True,
        ).stdout  # fmt: skip
        for name in listed.rstrip("\0").split("\0"):
            (self.tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, self.tree / name)
        subprocess.run([sys.executable, "-m", "venv", self._environment], check=True)

    def run(self, command: str) -> str:
        done = subprocess.run(
            ["bash", "-c", command], cwd=self.tree, env=self.environ,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"$ {command}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr


@pytest.fixture(scope="module")
def newcomer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Newcomer]:
    one = Newcomer(tmp_path_factory.mktemp("newcomer"))
    one.arrive()
    yield one
    one.run("invoke db.stop")


def test_every_command_does_what_it_says(newcomer: Newcomer) -> None:
    """In the README's order, all but the tests themselves, which .ci/run runs."""
    assert COMMANDS[0] == "pip install -e . && nox -s perf"
    said = {}
    for command in COMMANDS:
        tools = [part.split()[0] for part in command.split(" | ")]
        absent = [one for one in tools if not shutil.which(one, path=newcomer.environ["PATH"])]
        if command != TESTS and not absent:
            said[command] = newcomer.run(command)
        else:  # what perfdata does not bring may not be there
            assert command == TESTS or {"zstd", "jq"}.issuperset(absent), absent
    first = said[COMMANDS[0]]
    for expected in (
        "embedded PostgreSQL",
        "built 100_offices",
        "restored 100_offices: 32,101 rows",
        "deadline_alerts",
        "8 passed",
    ):
        assert expected in first
    assert "cloning 100_offices from a template" in newcomer.run("nox -s perf")
    assert "restored 100_offices" in said["invoke snapshot.restore --name 100_offices"]


def test_the_test_command_is_the_one_of_continuous_integration() -> None:
    assert TESTS in COMMANDS
    assert f"\n{TESTS}\n" in (ROOT / ".ci" / "run").read_text("utf-8")


def test_the_perf_example_passes(newcomer: Newcomer) -> None:
    (newcomer.tree / "tests" / "perf" / "test_readme_example.py").write_text(EXAMPLES[0])
    said = newcomer.run("pytest tests/perf/test_readme_example.py")
    assert "count_staff" in said
    assert "1 passed" in said


def test_the_python_example_runs(newcomer: Newcomer) -> None:
    newcomer.run("invoke snapshot.restore --name 100_offices")
    url = newcomer.run("invoke db.url --driver psycopg").strip()
    head = f"import sqlalchemy\nengine = sqlalchemy.create_engine({url!r})\n"
    (newcomer.tree / "example.py").write_text(head + EXAMPLES[1])
    said = newcomer.run("python example.py")
    assert "1001 staffs in" in said
    assert "'mine'" in said


def test_the_asyncio_example_runs(newcomer: Newcomer) -> None:
    newcomer.run("invoke snapshot.restore --name 100_offices")
    url = newcomer.run("invoke db.url --driver psycopg").strip()
    tail = f"""
import asyncio
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

async def main():
    async with AsyncSession(create_async_engine({url!r})) as session:
        await test_offices(session)
        print((await session.execute(text("SELECT count(*) FROM offices"))).scalar_one(), "offices")

asyncio.run(main())
"""
    (newcomer.tree / "asyncio_example.py").write_text(EXAMPLES[2] + tail)
    assert "100 offices" in newcomer.run("python asyncio_example.py")


def test_the_project_example_makes_its_rows(newcomer: Newcomer) -> None:
    (newcomer.tree / "shop.py").write_text(EXAMPLES[3])
    code = (
        "import shop; one = shop.project.dataset('1000_customers'); "
        "print(sum(len(list(rows.blocks)) for rows in one.generate(one)))"
    )
    assert newcomer.run(f'python -c "{code}"').strip() == "1000"

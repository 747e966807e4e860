"""The commands and examples of README and docs, run in a fresh copy and a fresh environment."""

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
README = ROOT / "README.md"
DATASETS, SNAPSHOTS, SETTINGS = (
    ROOT / "docs" / f"{name}.md" for name in ("datasets", "snapshots", "settings")
)


def blocks(page: Path, kind: str) -> list[str]:
    """Return a page's blocks of that kind, such as ``console``."""
    text = page.read_text(encoding="utf-8")
    return re.findall(rf"^```{kind}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


COMMANDS = [
    command
    for page in (README, DATASETS, SNAPSHOTS, SETTINGS)
    for block in blocks(page, "console")
    for command in block.splitlines()
]
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
    user = Newcomer(tmp_path_factory.mktemp("newcomer"))
    user.arrive()
    yield user
    user.run("invoke db.stop")


def test_every_command_does_what_it_says(newcomer: Newcomer) -> None:
    """Page by page, all but the tests themselves, which .ci/run runs."""
    assert COMMANDS[0] == "pip install -e . && nox -s perf"
    outputs = {}
    for command in COMMANDS:
        tools = [part.split()[0] for part in command.split(" | ")]
        absent = [tool for tool in tools if not shutil.which(tool, path=newcomer.environ["PATH"])]
        if command != TESTS and not absent:
            outputs[command] = newcomer.run(command)
        else:  # perfdata does not install zstd and jq
            assert command == TESTS or {"zstd", "jq"}.issuperset(absent), absent
    first = outputs[COMMANDS[0]]
    for expected in (
        "embedded PostgreSQL",
        "built 100_offices",
        "restored 100_offices: 32,101 rows",
        "deadline_alerts",
        "8 passed",
    ):
        assert expected in first
    assert "cloning 100_offices from" in newcomer.run("nox -s perf")
    assert "restored 100_offices" in outputs["invoke snapshot.restore --name 100_offices"]


def test_the_test_command_is_the_one_of_continuous_integration() -> None:
    assert TESTS in COMMANDS
    assert f"\n{TESTS}\n" in (ROOT / ".ci" / "run").read_text("utf-8")


def test_the_perf_example_passes(newcomer: Newcomer) -> None:
    (newcomer.tree / "tests" / "perf" / "test_readme_example.py").write_text(
        blocks(README, "python")[0]
    )
    output = newcomer.run("pytest tests/perf/test_readme_example.py")
    assert "count_staff" in output
    assert "1 passed" in output


def test_the_python_example_runs(newcomer: Newcomer) -> None:
    newcomer.run("invoke snapshot.restore --name 100_offices")
    url = newcomer.run("invoke db.url --driver psycopg").strip()
    head = f"import sqlalchemy\nengine = sqlalchemy.create_engine({url!r})\n"
    (newcomer.tree / "example.py").write_text(
        head + blocks(README, "python")[1] + blocks(SNAPSHOTS, "python")[0]
    )
    output = newcomer.run("python example.py")
    assert "1001 staffs in" in output
    assert "'mine'" in output
    assert "32101 rows: whole tables" in output


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
    (newcomer.tree / "asyncio_example.py").write_text(blocks(SNAPSHOTS, "python")[1] + tail)
    assert "100 offices" in newcomer.run("python asyncio_example.py")


def test_the_project_example_makes_its_rows(newcomer: Newcomer) -> None:
    (newcomer.tree / "shop.py").write_text(blocks(DATASETS, "python")[0])
    code = (
        "import shop; dataset = shop.project.dataset('1000_customers'); "
        "print(len(list(dataset.generate(dataset)[0].records())))"
    )
    assert newcomer.run(f'python -c "{code}"').strip() == "1000"


def test_the_tasks_example_has_every_task(newcomer: Newcomer) -> None:
    (newcomer.tree / "tasks.py").write_text(blocks(SETTINGS, "python")[0])
    assert "snapshot.restore" in newcomer.run("invoke --list")

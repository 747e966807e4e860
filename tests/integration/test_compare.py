"""Comparisons of real revisions: a repository, its worktree, three pytests, a server.

No time decides a test but one that is ten times another: what is asserted is what was counted, in
what turn the rounds were, whose code ran, and that nothing is left.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from perfdata import Settings, open_target
from perfdata.perf.compare.revision import TREE
from perfdata.server.embedded import EmbeddedServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PYPROJECT = """
[tool.perfdata]
project = "perfdata.welfare:project"
[tool.pytest.ini_options]
"""
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
CRASHES = """
import os
from shop import offices as sound
runs = []

def offices(session):
    runs.append(1)
    if len(runs) == 8:
        os._exit(7)
    return sound(session)
"""


class Repository:
    """A project in a repository of git, and the task that compares it."""

    def __init__(self, folder: Path, home: Path) -> None:
        self.folder = folder
        self.home = home
        self.git("init", "-q")
        self.write("pyproject.toml", PYPROJECT)
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
        inherited = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("PYTEST_", "GITHUB_"))
            and (not key.startswith("PERFDATA_") or key == "PERFDATA_PG_BIN")
        }
        ran = {"RAN": str(self.folder / ".git" / "ran")}
        return subprocess.Popen(
            [sys.executable, "-m", "invoke", "perf.compare", f"--rounds={rounds}", *arguments],
            cwd=self.folder,
            env={**inherited, **ran, "PERFDATA_HOME": str(self.home), "COLUMNS": "200"},
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
        folders = [one.name for one in (self.home / "compare").iterdir() if one.is_dir()]
        return [*["a worktree"] * worktrees, *folders, *self.databases()]

    def databases(self) -> list[str]:
        settings = Settings(root=self.folder, home=self.home)
        with psycopg.connect(EmbeddedServer(settings).conninfo("postgres")) as connection:
            query = "SELECT datname FROM pg_database WHERE datname LIKE 'perfdata\\_compare\\_%'"
            return [name for (name,) in connection.execute(query).fetchall()]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home whose server runs."""
    folder = tmp_path_factory.mktemp("compare")
    (folder / "pyproject.toml").write_text(PYPROJECT)
    settings = Settings.load(folder, {"PERFDATA_HOME": str(folder / "home")})
    open_target(settings)
    yield settings.home
    EmbeddedServer(settings).stop()


@pytest.fixture
def repository(home: Path, tmp_path: Path) -> Repository:
    return Repository(tmp_path, home)


def _scenario(out: str) -> dict[str, Any]:
    [scenario] = json.loads(out)["scenarios"]
    found: dict[str, Any] = scenario
    return found


def test_a_tree_that_is_slower_regressed_and_each_sides_own_code_ran(
    repository: Repository,
) -> None:
    repository.shop(FAST)
    commit = repository.commit()
    repository.shop(SLOW, N_PLUS_ONE)
    code, out, said = repository.compare("--rev", "HEAD", "--json")
    assert code == 1, said
    document = json.loads(out)
    assert (document["commit"], document["dirty"]) == (commit, True)
    one = _scenario(out)
    assert one["verdict"] == "regressed"
    assert one["change"]["relative"] > 2
    queries = next(each for each in one["differences"] if each["name"] == "queries")
    assert (queries["this"], queries["rev"]) == (11, 1)
    assert not [each for each in one["unsteady"] if each["name"] in {"queries", "rows"}]
    assert [len(taken) for taken in one["times"]["rounds_s"].values()] == [10, 10, 10]
    assert all(sorted(order) == ["again", "rev", "this"] for order in one["times"]["order"])
    assert any("11 queries, max_queries is 2" in note for note in document["notes"])

    ran = sorted(next(iter(trees)) for trees in repository.ran().values() if len(trees) == 1)
    assert len(ran) == len(repository.ran()) == 3
    assert ran.count(str(repository.folder)) == 2
    assert [one for one in ran if one.endswith(f"/{TREE}")]
    lines = (repository.folder / ".git" / "ran").read_text().splitlines()[-30:]
    turns = [line.split()[0] for line in lines]
    assert [len(set(turns[at : at + 3])) for at in range(0, 30, 3)] == [3] * 10
    assert repository.left() == []


def test_a_tree_that_is_faster_improved_and_the_table_says_so(repository: Repository) -> None:
    repository.shop(SLOW)
    repository.commit()
    repository.git("tag", "slow")
    repository.shop(FAST)
    repository.commit()
    before = (repository.home / "results").exists()
    code, out, said = repository.compare("--rev", "slow", "--only", "offices")
    assert code == 0, said
    head, line, *_ = out.splitlines()
    for name in ("scenario", "this tree", "slow ", "change", "null 95 %", "A/A", "verdict"):
        assert name in head
    assert line.split()[:2] == ["offices", "10_offices"]
    assert line.endswith("improved")
    assert "uncommitted" not in out
    assert (repository.home / "results").exists() == before
    assert repository.left() == []


def test_the_same_code_is_counted_the_same_and_another_dataset_can_be_asked_for(
    repository: Repository,
) -> None:
    repository.shop()
    repository.write("tests/perf/test_shop.py", TESTS.replace("10_offices", "no_such"))
    repository.commit()
    arguments = ("--rev", "HEAD", "--dataset", "10_offices", "--json")
    code, out, said = repository.compare(*arguments)
    assert code in {0, 1}, said  # what a loaded machine makes of the times is not asked here
    one = _scenario(out)
    assert one["dataset"] == "10_offices"
    assert [each for each in one["differences"] if each["name"] in {"queries", "rows"}] == []
    assert json.loads(out)["errors"] == []


def test_tests_that_are_only_here_are_said_and_nothing_in_common_is_refused(
    repository: Repository,
) -> None:
    repository.shop()
    repository.commit()
    repository.write("tests/perf/test_new.py", TESTS.replace("test_offices", "test_new"))
    code, out, said = repository.compare("--rev", "HEAD")
    assert "tests/perf/test_new.py::test_new: not in HEAD" in out, said
    assert code in {0, 1}
    code, out, said = repository.compare("--rev", "HEAD", "--only", "new")
    assert (code, out) == (2, "")
    assert "no selected perf test is in both this tree and HEAD" in said
    assert repository.left() == []


def test_a_revision_that_is_older_than_perf_tests_or_unknown_is_refused(
    repository: Repository,
) -> None:
    repository.write("perfdata/__init__.py", "")
    (repository.folder / "pyproject.toml").unlink()
    repository.commit()
    repository.git("rm", "-q", "-r", "perfdata")
    repository.commit()
    repository.write("pyproject.toml", PYPROJECT)
    repository.shop()
    for rev, reason in (
        ("HEAD~1", "contains a perfdata that cannot be compared yet"),
        ("HEAD", "has no [tool.perfdata] in pyproject.toml"),
        ("no_such", "names no commit"),
    ):
        code, out, said = repository.compare("--rev", rev)
        assert (code, out) == (2, "")
        assert reason in said
    assert repository.left() == []


def test_a_side_that_dies_in_a_round_ends_the_comparison(repository: Repository) -> None:
    repository.shop()
    repository.write("crash.py", CRASHES)
    repository.write("tests/perf/test_shop.py", TESTS.replace("from shop", "from crash"))
    repository.commit()
    repository.write("crash.py", CRASHES.replace("== 8", "== -1"))
    code, out, said = repository.compare("--rev", "HEAD")
    assert (code, out) == (2, "")
    assert "the pytest of HEAD" in said
    ended = r"ended with exit code 7 in round \d+ of tests/perf/test_shop.py::test_offices"
    assert re.search(ended, said)  # which round it is hangs on how often it ran before
    assert repository.left() == []


def test_code_that_comes_from_this_tree_by_an_absolute_path_is_refused(
    repository: Repository,
) -> None:
    repository.shop()
    conftest = f"import sys\nsys.path.insert(0, {str(repository.folder)!r})\n"
    repository.write("tests/perf/conftest.py", conftest)
    repository.commit()
    code, out, said = repository.compare("--rev", "HEAD")
    assert (code, out) == (2, "")
    assert f"did not run its own code: shop ({repository.folder}/shop.py)" in said
    assert repository.left() == []


def _await_rounds(repository: Repository, process: subprocess.Popen[str], runs: int) -> None:
    ran = repository.folder / ".git" / "ran"
    deadline = time.monotonic() + 120
    while not ran.exists() or ran.read_text().count("\n") < runs:
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)


def _is_there(pid: str) -> bool:
    return os.path.exists(f"/proc/{pid}")  # noqa: PTH110  no file to speak of


def test_an_interrupt_leaves_no_process_no_worktree_and_no_database(
    repository: Repository,
) -> None:
    repository.shop(SLOW)
    repository.commit()
    process = repository.start("--rev", "HEAD", rounds=1000)
    _await_rounds(repository, process, 20)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert not any(map(_is_there, repository.ran()))
    assert repository.left() == []


def test_what_a_killed_comparison_left_the_next_one_removes(repository: Repository) -> None:
    repository.shop(SLOW)
    repository.commit()
    process = repository.start("--rev", "HEAD", rounds=1000)
    _await_rounds(repository, process, 20)
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 60
    while any(map(_is_there, repository.ran())):  # each finds that nobody orders rounds any more
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert len(repository.databases()) >= 3
    assert "a worktree" in repository.left()
    code, _, said = repository.compare("--rev", "HEAD")
    assert code in {0, 1}, said
    assert repository.left() == []

"""Comparisons that end early: a side that dies, an interrupt, a kill. Nothing of them stays."""

from __future__ import annotations

import os
import re
import signal
import time
from typing import TYPE_CHECKING

from tests.acceptance.repository import SLOW, TESTS

if TYPE_CHECKING:
    import subprocess

    from tests.acceptance.repository import Repository


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

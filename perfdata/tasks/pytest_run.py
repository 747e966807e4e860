"""A project's perf tests, run by pytest in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

from perfdata.errors import ConfigError
from perfdata.perf.model import Verdict
from perfdata.perf.results import read_results, results_path

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perfdata.config import Settings
    from perfdata.perf.model import ScenarioResult

_FOLDER = Path("tests", "perf")
# pytest's own exit codes; it is not imported for them.
_PASSED, _FAILED, _NO_TESTS = 0, 1, 5


class Ended(Enum):
    """How a run of perf tests ended."""

    GREEN = "green"
    RED = "red"
    BROKEN = "broken"  # a test failed for another reason than its counts, or pytest could not run


def run_tests(settings: Settings, *, dataset: str, only: str, quiet: bool) -> Ended:
    """Run the perf tests of a project in its root; ``quiet`` sends what pytest says to stderr.

    Raises ConfigError where there is no such test.
    """
    before = _written(settings)
    command = [sys.executable, "-m", "pytest", "--perf-only", "--benchmark-quiet"]
    if dataset:
        command += ["--perf-dataset", dataset]
    command += _selection(settings, only)
    sys.stdout.flush()
    done = subprocess.run(
        command, cwd=settings.root, stdout=sys.stderr if quiet else None, check=False
    )
    if done.returncode == _NO_TESTS:
        raise ConfigError(_no_tests(settings, only))
    if done.returncode == _PASSED:
        return Ended.GREEN
    anew = _written(settings) != before
    red = anew and any(one.verdict is Verdict.REGRESSED for one in _last_results(settings))
    return Ended.RED if red and done.returncode == _FAILED else Ended.BROKEN


def _selection(settings: Settings, only: str) -> Sequence[str]:
    """Return pytest's arguments for one scenario: the tests that measured it last, or by name."""
    places = [str(_FOLDER)] if (settings.root / _FOLDER).is_dir() else []
    if not only:
        return places
    tests = [one.test for one in _last_results(settings) if one.scenario == only]
    there = [test for test in tests if (settings.root / test.partition("::")[0]).is_file()]
    return list(dict.fromkeys(there)) or [*places, "-k", only]


def _last_results(settings: Settings) -> Sequence[ScenarioResult]:
    path = results_path(settings)
    return read_results(path).scenarios if path.is_file() else ()


def _no_tests(settings: Settings, only: str) -> str:
    where = settings.root / _FOLDER if (settings.root / _FOLDER).is_dir() else settings.root
    if not only:
        return f"there are no perf tests in {where}: none uses a fixture of perfdata's"
    names = sorted({one.scenario for one in _last_results(settings)})
    last = f"; the last run measured {', '.join(names)}" if names else ""
    last += "; a scenario whose test is called otherwise is known after a run of all"
    return f"no perf test in {where} is named {only!r}{last}"


def _written(settings: Settings) -> int | None:
    path = results_path(settings)
    return path.stat().st_mtime_ns if path.is_file() else None

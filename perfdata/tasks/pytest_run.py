"""The project's perf tests, run by pytest in a child process."""

from __future__ import annotations

import subprocess
import sys
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

from perfdata.errors import ConfigError
from perfdata.perf.model import Verdict
from perfdata.perf.report.results import read_results, results_path

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perfdata.config import Settings
    from perfdata.perf.model import ScenarioResult

_FOLDER = Path("tests", "perf")
# pytest's own exit codes, spelled here so that pytest need not be imported.
_PASSED, _FAILED, _NO_TESTS = 0, 1, 5


class Outcome(Enum):
    """How a run of the perf tests ended."""

    PASSED = "passed"
    REGRESSED = "regressed"
    NOT_JUDGED = "not judged"  # of a strict run: something asked for could not be measured
    BROKEN = "broken"  # a test failed for a reason other than its counts, or pytest did not run


def run_tests(settings: Settings, *, dataset: str, only: str, strict: bool, quiet: bool) -> Outcome:
    """Run the project's perf tests in its root folder.

    With ``strict``, a test fails if something that it asks for can't be measured. ``quiet`` sends
    pytest's output to stderr. Raises ConfigError if no test is selected.
    """
    before = _results_time(settings)
    command = pytest_command(settings, dataset=dataset, only=only, strict=strict)
    sys.stdout.flush()
    done = subprocess.run(
        command, cwd=settings.root, stdout=sys.stderr if quiet else None, check=False
    )
    if done.returncode == _NO_TESTS:
        raise ConfigError(_no_tests(settings, only))
    if done.returncode == _PASSED:
        return Outcome.PASSED
    if done.returncode != _FAILED or _results_time(settings) == before:
        return Outcome.BROKEN
    verdicts = {result.verdict for result in _last_results(settings)}
    if Verdict.REGRESSED in verdicts:
        return Outcome.REGRESSED
    return Outcome.NOT_JUDGED if strict and Verdict.NOT_JUDGED in verdicts else Outcome.BROKEN


def pytest_command(
    settings: Settings, *, dataset: str, only: str, strict: bool = False
) -> list[str]:
    """Return the command that runs the project's perf tests in its root folder."""
    command = [sys.executable, "-m", "pytest", "--perf-only", "--benchmark-quiet"]
    if strict:
        command.append("--perf-strict")
    if dataset:
        command += ["--perf-dataset", dataset]
    return [*command, *_selection(settings, only)]


def _selection(settings: Settings, only: str) -> Sequence[str]:
    """Return pytest's arguments: all perf tests, or those that measured one scenario last.

    A scenario that was never measured selects the tests by its name.
    """
    folders = [str(_FOLDER)] if (settings.root / _FOLDER).is_dir() else []
    if not only:
        return folders
    tests = [result.test for result in _last_results(settings) if result.scenario == only]
    existing = [test for test in tests if (settings.root / test.partition("::")[0]).is_file()]
    return list(dict.fromkeys(existing)) or [*folders, "-k", only]


def _last_results(settings: Settings) -> Sequence[ScenarioResult]:
    path = results_path(settings)
    return read_results(path).scenarios if path.is_file() else ()


def _no_tests(settings: Settings, only: str) -> str:
    where = settings.root / _FOLDER if (settings.root / _FOLDER).is_dir() else settings.root
    if not only:
        return (
            f"there are no perf tests in {where}: no test uses one of perfdata's fixtures; "
            "perfdata init writes a first one"
        )
    names = sorted({result.scenario for result in _last_results(settings)})
    last = f"; the last run measured {', '.join(names)}" if names else ""
    return (
        f"no perf test in {where} matches {only!r}{last}; a scenario whose name is not its test's "
        "is found once a run of all tests has measured it"
    )


def _results_time(settings: Settings) -> int | None:
    path = results_path(settings)
    return path.stat().st_mtime_ns if path.is_file() else None

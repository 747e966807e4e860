"""Baselines without a scenario: told after a whole run, and never of what was not run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from perfdata.perf.gate.baselines import orphaned_baselines
from tests.unit.perf.parts import result

if TYPE_CHECKING:
    from pathlib import Path

FILE = "tests/perf/baselines/pg18/report.100_offices.json"
OLD = "tests/perf/baselines/pg18/old.100_offices.json"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in (FILE, OLD, OLD.replace("pg18", "pg15"), OLD.replace("perf/", "other/", 1)):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}", encoding="utf-8")
    return tmp_path


def test_what_no_result_has_is_found_in_the_measured_environment_alone(root: Path) -> None:
    measured = [result(baseline=FILE), result(baseline="")]
    assert list(orphaned_baselines(measured, root, [root / "tests"])) == [OLD]
    assert list(orphaned_baselines([*measured, result(baseline=OLD)], root, [root])) == []
    assert list(orphaned_baselines([], root, [root])) == []


def test_of_what_was_not_run_whole_nothing_is_said(root: Path) -> None:
    measured = [result(baseline=FILE)]
    perf = root / "tests" / "perf"
    assert list(orphaned_baselines(measured, root, [])) == []
    assert list(orphaned_baselines(measured, root, [perf / "sub"])) == []
    assert list(orphaned_baselines(measured, root, [perf], {perf})) == []

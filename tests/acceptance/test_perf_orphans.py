"""Baselines whose scenario is gone, in whole pytest sessions: told after a run of all tests."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.integration.inner import Pytest

if TYPE_CHECKING:
    from pathlib import Path

SCENARIOS = """
import os
import pytest
from sqlalchemy import func, select
from perfdata.welfare.models import Office

pytestmark = pytest.mark.perf(dataset="10_offices")

def count(session):
    return session.scalar(select(func.count(Office.id)))

def last(session):
    return session.scalar(select(Office.name).order_by(Office.name.desc()).limit(1))

def test_count(perf):
    perf(count)

@pytest.mark.skipif("SKIP" in os.environ, reason="not here")
def test_last(perf):
    perf(last)

def test_other():
    pass
"""
DESELECTING = """
def pytest_collection_modifyitems(config, items):
    config.hook.pytest_deselected(items=[one for one in items if "last" in one.name])
    items[:] = [one for one in items if "last" not in one.name]
"""
GONE = "tests/perf/baselines/pg18/gone.10_offices.json"
SAID = f"no scenario of this run uses the baseline {GONE}: if the test was removed"


@pytest.fixture(scope="module")
def inner(tmp_path_factory: pytest.TempPathFactory, own_home: Path) -> Pytest:
    made = Pytest(tmp_path_factory.mktemp("orphans"), own_home)
    for name in (GONE, GONE.replace("pg18", "pg15")):
        (made.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (made.folder / name).write_text("{}", encoding="utf-8")
    made.write(**{"tests/perf/test_it": SCENARIOS})
    return made


@pytest.mark.parametrize(
    "arguments", [(), ("tests",), ("tests/perf", "--perf-only"), ("tests/perf", "-n2")]
)
def test_a_run_of_all_names_it_and_is_green(inner: Pytest, arguments: tuple[str, ...]) -> None:
    code, said = inner.run(*arguments)
    assert code == 0, said
    assert said.count(SAID) == 1
    document = json.loads((inner.home / "results" / "perf.json").read_text(encoding="utf-8"))
    assert any(note.startswith(SAID) for note in document["notes"])


@pytest.mark.parametrize(
    "arguments",
    [
        ("tests/perf/test_it.py",),
        ("tests/perf/test_it.py::test_count",),
        ("tests/perf", "-k", "count"),
        ("tests/perf", "-n1", "-k", "count"),
        ("tests/perf", "--deselect", "tests/perf/test_it.py::test_last"),
        ("tests/perf", "--perf-dataset", "100_offices"),
    ],
)
def test_a_run_of_some_says_nothing(inner: Pytest, arguments: tuple[str, ...]) -> None:
    code, said = inner.run(*arguments)
    assert code == 0, said
    assert "no scenario of this run" not in said


@pytest.mark.parametrize("arguments", [(), ("-n1",)])
def test_a_run_with_a_module_that_is_skipped_when_imported_says_nothing(
    inner: Pytest, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    copy = _copy(inner, tmp_path)
    copy.write(**{"tests/perf/test_more": 'import pytest\npytest.importorskip("not_there")\n'})
    code, said = copy.run("tests/perf", *arguments)
    assert code == 0, said
    assert "no scenario of this run" not in said


@pytest.mark.parametrize("arguments", [(), ("-n1",)])
def test_a_run_with_a_conftest_that_deselects_says_nothing(
    inner: Pytest, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    copy = _copy(inner, tmp_path)
    copy.write(**{"tests/perf/conftest": DESELECTING})
    code, said = copy.run("tests/perf", *arguments)
    assert code == 0, said
    assert "no scenario of this run" not in said


def _copy(inner: Pytest, folder: Path) -> Pytest:
    shutil.copytree(inner.folder, folder, dirs_exist_ok=True)
    return Pytest(folder, inner.home)


def test_a_run_with_a_skipped_test_says_nothing(inner: Pytest) -> None:
    code, said = inner.run("tests/perf", SKIP="1")
    assert code == 0, said
    assert "no scenario of this run" not in said

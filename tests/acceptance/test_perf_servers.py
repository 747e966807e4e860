"""Captured counts are the same in other sessions, in workers, and on other servers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from perfdata import Settings
from tests.homes import discard_server
from tests.integration.inner import Pytest
from tests.integration.perf.test_capture import FORMS

if TYPE_CHECKING:
    from collections.abc import Iterator

BIN_15 = Path("/usr/lib/postgresql/15/bin")
_JUDGED = ("counters", "statements", "plan_source", "environment", "settings")


def _judged(inner: Pytest, **environ: str) -> dict[str, Any]:
    """Run the session; return of its results what must be the same each time."""
    code, said = inner.run(**environ)
    assert code == 0, said
    return {name: {key: result[key] for key in _JUDGED} for name, result in inner.results().items()}


@pytest.fixture
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pytest]:
    """A session in another folder, with its own home and server."""
    folder = tmp_path_factory.mktemp("elsewhere")
    inner = Pytest(folder, folder / "home")
    inner.write(test_forms=FORMS)
    yield inner
    discard_server(Settings.load(inner.folder, {"PERFDATA_HOME": str(inner.home)}))


def test_counters_and_plans_are_the_same_in_other_sessions_and_on_another_server(
    inner: Pytest, elsewhere: Pytest
) -> None:
    """To the digit: on other clones of the template, and on one that was loaded elsewhere."""
    inner.write(test_forms=FORMS)
    first = _judged(inner)
    assert _judged(inner) == first
    assert _judged(elsewhere) == first


def test_two_workers_of_xdist_count_the_same(inner: Pytest) -> None:
    pytest.importorskip("xdist")
    inner.write(test_forms=FORMS)
    first = {name: result["counters"] for name, result in _judged(inner).items()}
    code, said = inner.run("-n2", "-W", "ignore")
    assert code == 0, said
    assert {name: one["counters"] for name, one in inner.results().items()} == first


@pytest.mark.skipif(not BIN_15.exists(), reason="no PostgreSQL 15 here")
def test_on_postgresql_15(elsewhere: Pytest) -> None:
    first = _judged(elsewhere, PERFDATA_PG_BIN=str(BIN_15))
    assert _judged(elsewhere, PERFDATA_PG_BIN=str(BIN_15)) == first
    assert first["test_reader"]["plan_source"] == "auto_explain"
    assert first["test_reader"]["environment"]["postgresql"] == "15"
    assert first["test_reader"]["environment"]["provider"] == "libc"

"""Baselines: the same text for the same counts, read back whole, refused where they are not."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfdata import BaselineError
from perfdata.perf.gate.baselines import (
    Baseline,
    baseline_path,
    environment_name,
    read_baseline,
    to_text,
    write_baseline,
)
from perfdata.perf.model import PlanSource, TimeStats
from tests.unit.perf.parts import ENVIRONMENT, INDEX, SEQ, plan, result, statement

if TYPE_CHECKING:
    from pathlib import Path

INSIDE = plan(*SEQ, buffers=5, query="SELECT ? FROM inside")


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({}, "pg18"),
        ({"postgresql": "15", "provider": "libc", "locale": "C.UTF-8"}, "pg15-libc-C.UTF-8"),
        ({"provider": "icu", "locale": "ja-JP"}, "pg18-icu-ja-JP"),
        ({"locale": "pg c/utf"}, "pg18-builtin-pg_c_utf"),
        ({"block_size": "16384"}, "pg18-16k"),
    ],
)
def test_an_environment_has_a_name_that_a_folder_can_have(given: dict[str, str], name: str) -> None:
    assert environment_name({**ENVIRONMENT, **given}) == name


def test_a_baseline_comes_back_as_it_was_written(tmp_path: Path) -> None:
    one = result(statement(plans=(plan(*INDEX), INSIDE)), statement("SELECT 名 FROM u", calls=3))
    path = baseline_path(tmp_path, ENVIRONMENT, "report", "100_offices")
    assert path == tmp_path / "baselines" / "pg18" / "report.100_offices.json"
    assert read_baseline(path, "report", "100_offices") is None
    write_baseline(path, Baseline.of(one))
    assert read_baseline(path, "report", "100_offices") == Baseline.of(one)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_file_holds_counts_and_plans_and_nothing_that_varies() -> None:
    one = result(statement(plans=(INSIDE, plan(*INDEX))), time=TimeStats(1, 1, 1))
    document = json.loads(to_text(Baseline.of(one)))
    assert document["counters"] == {"queries": 1, "rows": 10, "buffers": 105, "temp_blocks": 0}
    assert document["statements"] == [
        {
            "buffers": 105,
            "calls": 1,
            "fingerprint": "f(SELECT a FROM t)",
            "plans": [
                {"signature": list(INDEX)},
                {"query": "SELECT ? FROM inside", "signature": list(SEQ)},
            ],
            "rows": 10,
            "temp_blocks": 0,
            "text": "SELECT a FROM t",
        }
    ]
    assert set(document) == {
        *("format", "scenario", "dataset", "environment", "settings", "plan_source"),
        *("counters", "statements", "data"),
    }
    assert "time" not in to_text(Baseline.of(one))


def test_the_order_in_which_things_were_seen_changes_no_byte() -> None:
    a, b = statement("SELECT a FROM t", plans=(plan(*INDEX), plan(*SEQ))), statement("SELECT b")
    other = dataclasses.replace(a, plans=a.plans[::-1])
    settings = {"work_mem": "4096", "jit": "off"}
    assert to_text(Baseline.of(result(a, b))) == to_text(
        Baseline.of(result(b, other, settings=settings))
    )


def test_a_baseline_of_before_the_data_was_kept_can_be_read(tmp_path: Path) -> None:
    path = _written(tmp_path)
    document = json.loads(path.read_text(encoding="utf-8"))
    del document["data"]
    path.write_text(json.dumps(document), encoding="utf-8")
    assert read_baseline(path, "report", "100_offices") == Baseline.of(result())


@pytest.mark.parametrize("given", [{"same_layout": False}, {"plan_source": PlanSource.NONE}])
def test_what_cannot_be_judged_is_not_accepted(given: dict[str, object]) -> None:
    found = Baseline.of(result(**given))
    assert found.plan_source is PlanSource.NONE
    assert dict(found.counters) == {"queries": 1, "rows": 10}
    assert (found.statements[0].buffers, found.statements[0].plans) == (None, ())


def _written(tmp_path: Path) -> Path:
    path = tmp_path / "report.100_offices.json"
    write_baseline(path, Baseline.of(result()))
    return path


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda text: text[:-20], "is damaged"),
        (lambda _text: "[]", "is damaged"),
        (lambda text: text.replace('"calls": 1', '"calls": "many"'), "is damaged"),
        (lambda text: f"<<<<<<< HEAD\n{text}", "contains a merge conflict"),
        (lambda text: text.replace("baseline/1", "baseline/2"), "'perfdata-baseline/2'.*newer"),
        (lambda text: text.replace('"report"', '"other"'), "is the baseline of other on 100_off"),
        (lambda text: text.replace('"100_offices"', '"9_offices"'), "baseline of report on 9_off"),
    ],
)
def test_a_file_that_is_not_what_was_written_is_refused(
    tmp_path: Path, damage: object, said: str
) -> None:
    path = _written(tmp_path)
    assert callable(damage)
    path.write_text(damage(path.read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.raises(BaselineError, match=said) as caught:
        read_baseline(path, "report", "100_offices")
    assert str(path) in str(caught.value)


def test_a_file_in_the_place_of_the_folder_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "baselines").write_text("")
    path = baseline_path(tmp_path, ENVIRONMENT, "report", "100_offices")
    with pytest.raises(BaselineError, match="can't be"):
        write_baseline(path, Baseline.of(result()))


@given(st.text(min_size=1, max_size=200), st.text(min_size=1, max_size=200))
def test_different_scenarios_have_different_files_that_can_be_made(one: str, other: str) -> None:
    from pathlib import Path

    paths = [baseline_path(Path("tests"), ENVIRONMENT, name, "d") for name in (one, other)]
    assert (paths[0] == paths[1]) == (one == other)
    for path in paths:
        assert len(path.name.encode()) < 255
        assert path.parent == Path("tests/baselines/pg18")

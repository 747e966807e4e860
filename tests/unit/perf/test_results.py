"""Budgets, verdicts, and the results file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from perfdata import ConfigError, ResultsError, Settings
from perfdata.perf.gate.advice import failure_lines
from perfdata.perf.model import (
    BrokenBudget,
    Budgets,
    Finding,
    FindingKind,
    Misestimate,
    PlanSource,
    QueryPlan,
    ScenarioResult,
    Source,
    StatementCount,
    TimeStats,
    Verdict,
    broken_budgets,
)
from perfdata.perf.report.results import (
    read_results,
    result_from_json,
    result_to_json,
    write_results,
)
from perfdata.perf.report.terminal import results_table
from perfdata.pytest_plugin.marker import Marker

ONE = StatementCount("f1", "SELECT a FROM t", 1, 10)
MANY = StatementCount("f2", "SELECT b FROM u WHERE a = ?", 1_200, 1_200)


def result(**given: Any) -> ScenarioResult:
    values = {"scenario": "report", "test": "test_it", "dataset": "100_offices"}
    return ScenarioResult(**{**values, "statements": (ONE, MANY), **given})


def test_queries_and_rows_are_the_sums_over_the_statements() -> None:
    assert (result().queries, result().rows) == (1_201, 1_210)


@pytest.mark.parametrize(
    ("budgets", "broken"),
    [
        (Budgets(), []),
        (Budgets(max_queries=1_201, max_rows=1_210), []),
        (Budgets(max_queries=1_200), [BrokenBudget("max_queries", 1_200, 1_201)]),
        (Budgets(max_rows=0), [BrokenBudget("max_rows", 0, 1_210)]),
    ],
)
def test_a_budget_is_broken_by_more_than_it_allows(
    budgets: Budgets, broken: list[BrokenBudget]
) -> None:
    assert broken_budgets(result(budgets=budgets)) == broken


def test_a_broken_budget_names_scenario_found_and_statements_most_called_first() -> None:
    found = failure_lines(result(budgets=Budgets(max_queries=2, max_rows=5_000)), Path(), 80)
    assert found == [
        "report on 100_offices: 1,201 queries, max_queries is 2",
        "  1,200 x SELECT b FROM u WHERE a = ?  (1,200 rows)",
        "      1 x SELECT a FROM t  (10 rows)",
    ]


def test_verdicts() -> None:
    assert [verdict.value for verdict in Verdict] == [
        *("ok", "improved", "regressed", "unstable", "no_baseline", "not_judged")
    ]
    assert result().verdict is Verdict.NO_BASELINE
    assert result(budgets=Budgets(max_queries=5)).verdict is Verdict.REGRESSED
    assert result(budgets=Budgets(max_queries=5_000)).verdict is Verdict.NO_BASELINE
    assert result(accepted=True).verdict is Verdict.OK
    better = Finding(FindingKind.FEWER_QUERIES, fails=False, message="2 queries fewer")
    assert result(accepted=True, findings=(better,)).verdict is Verdict.IMPROVED
    worse = Finding(FindingKind.MORE_QUERIES, fails=True, message="2 queries more")
    assert result(accepted=True, findings=(better, worse)).verdict is Verdict.REGRESSED
    unjudged = Finding(FindingKind.NOT_JUDGED, fails=False, message="no plans")
    assert result(findings=(unjudged,)).verdict is Verdict.NOT_JUDGED
    assert result(accepted=True, findings=(better, unjudged)).verdict is Verdict.NOT_JUDGED
    assert result(accepted=True, findings=(worse, unjudged)).verdict is Verdict.REGRESSED
    no_match = Finding(FindingKind.NOT_COMPARED, fails=False, message="the baseline has none")
    assert result(accepted=True, findings=(no_match,)).verdict is Verdict.OK


def test_the_results_file_holds_what_was_found(tmp_path: Path) -> None:
    plan = QueryPlan(("Seq Scan on t",), calls=2, buffers=7, temp_blocks=1, wal_records=0)
    sent = StatementCount(
        *("f3", "SELECT c FROM v", 2, 4),
        sources=(Source("app.py", 7, "report", 2, 2),),
        plans=(plan,),
        misestimates=(Misestimate("Seq Scan on t", 1, 500),),
    )
    timed = result(
        statements=(ONE, MANY, sent),
        time=TimeStats(0.5, 0.4, 2, (0.4, 0.6)),
        settings={"jit": "off"},
        plan_source=PlanSource.AUTO_EXPLAIN,
        growth={"queries": 1.01},
        findings=(Finding(FindingKind.MISESTIMATE, fails=False, message="500 rows where 1"),),
    )
    settings = Settings(root=tmp_path, home=tmp_path / "home")
    path = write_results([timed], settings, {"test_a": "E   no"}, ["restored"])
    assert path == tmp_path / "home" / "results" / "perf.json"
    assert [file.name for file in path.parent.iterdir()] == ["perf.json"]
    document = json.loads(path.read_text(encoding="utf-8"))
    assert document["format"] == "perfdata-results/2"
    (found,) = document["scenarios"]
    assert found["verdict"] == "no_baseline"
    assert found["counters"] == {
        "queries": 1_203,
        "rows": 1_214,
        "buffers": 7,
        "temp_blocks": 1,
        "wal_records": 0,
    }
    assert found["statements"][2]["plans"][0]["fingerprint"] == plan.fingerprint
    times = {"median_s": 0.5, "min_s": 0.4, "rounds": 2, "rounds_s": [0.4, 0.6]}
    assert found["time"] == {**times, "fresh_clones": 0}
    assert found["statements"][1]["calls"] == 1_200
    assert result_from_json(found) == timed
    read = read_results(path)
    assert (read.created_at.isoformat(), read.scenarios) == (document["created_at"], (timed,))
    assert (read.failures, read.notes) == ({"test_a": "E   no"}, ("restored",))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "there is no"),
        ("{", "damaged"),
        ("[]", "damaged"),
        ("[" * 200_000, "damaged"),
        ('{"format": "perfdata-results/2"}', "damaged (KeyError('created_at'))"),
        ('{"format": "perfdata-results/3"}', "has the format 'perfdata-results/3'"),
    ],
)
def test_results_that_can_not_be_read_are_an_error_that_says_what_mends_it(
    text: str | None, said: str, tmp_path: Path
) -> None:
    path = tmp_path / "perf.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ResultsError, match="nox -s perf") as caught:
        read_results(path)
    assert said in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_result_of_a_newer_perfdata_can_be_read() -> None:
    document = result_to_json(result(budgets=Budgets(max_rows=7)))
    document["budgets"]["max_wonders"] = 9
    document["wonders"] = []
    assert result_from_json(document) == result(budgets=Budgets(max_rows=7))


def test_the_table_has_a_line_for_each_scenario() -> None:
    timed = result(
        time=TimeStats(0.0123, 0.01, 5),
        budgets=Budgets(max_queries=1),
        accepted_counters={"queries": 1_101, "rows": 1_210},
    )
    shown = results_table([timed, result(scenario="a_longer_name")], 80, colour=False)
    assert shown.splitlines() == [
        "scenario       dataset           queries   rows     time  verdict",
        "report         100_offices  1,201 (+100)  1,210  12.3 ms  regressed",
        "a_longer_name  100_offices         1,201  1,210        -  no_baseline",
    ]


def test_the_table_in_colour_and_on_a_narrow_terminal() -> None:
    red = result(scenario="a_name_that_is_rather_long", budgets=Budgets(max_queries=1))
    assert "\x1b[1;31mregressed\x1b[0m" in results_table([red], 120, colour=True)
    lines = results_table([red], 60, colour=False).splitlines()
    assert lines.pop() == "the terminal is too narrow for: time, rows, dataset"
    assert lines[0].split() == ["scenario", "queries", "verdict"]
    assert lines[1].split() == ["a_name_that_is_rather_long", "1,201", "regressed"]
    *lines, omitted = results_table([red], 40, colour=False).splitlines()
    assert omitted.startswith("the terminal is too narrow for: ")
    assert max(map(len, lines)) <= 40
    assert "".join(line.split()[0] for line in lines[1:]) == "a_name_that_is_rather_long"


def test_what_was_counted_besides_has_columns_of_its_own() -> None:
    spilled = StatementCount(
        *("f1", "SELECT a FROM t", 1, 10), plans=(QueryPlan(("Sort",), 1, 70, 9, 0),)
    )
    found = result(
        statements=(spilled,), plan_source=PlanSource.AUTO_EXPLAIN, memory_bytes=3 * 2**20
    )
    heading = results_table([found], 120, colour=False).splitlines()[0].split()
    assert heading[4:9] == ["buffers", "temp", "blocks", "memory", "time"]
    *lines, omitted = results_table([found], 70, colour=False).splitlines()
    assert "memory" not in lines[0]
    assert "memory" in omitted
    unlimited = [results_table([found], None, colour=colour) for colour in (False, True)]
    assert unlimited[0].splitlines()[0].split() == heading
    assert "too narrow" not in "".join(unlimited)
    assert max(map(len, unlimited[1].splitlines())) < 1_000


def test_the_nearest_marker_counts() -> None:
    merged = Marker.merged(
        [((), {"max_queries": 4}), ((), {"dataset": "10_offices", "max_queries": 9})]
    )
    assert merged == Marker("10_offices", Budgets(max_queries=4))
    assert Marker.merged([]) == Marker("", Budgets())


@pytest.mark.parametrize(
    ("args", "kwargs", "said"),
    [
        (("100_offices",), {}, "keyword arguments"),
        ((), {"max_querys": 4}, "did you mean max_queries?"),
        ((), {"dataset": 5}, "dataset"),
        ((), {"max_rows": -1}, "an integer"),
        ((), {"max_rows": True}, "an integer"),
    ],
)
def test_a_wrong_marker_is_refused(
    args: tuple[object, ...], kwargs: dict[str, object], said: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        Marker.merged([(args, kwargs)])
    assert said in str(caught.value)


def test_a_file_that_can_not_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="can't be read: Is a directory"):
        read_results(tmp_path)

"""The judge: findings, baseline and growth on a result, and one error for all that is red."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from perfdata import (
    BaselineError,
    BudgetExceededError,
    ConfigError,
    NotJudgedError,
    RegressedError,
)
from perfdata.perf.gate.advice import (
    accept_command,
    notices,
    plan_lines,
    statement_lines,
    warning_lines,
)
from perfdata.perf.gate.baselines import Baseline, write_baseline
from perfdata.perf.gate.growth import Point
from perfdata.perf.gate.regressions import Threshold
from perfdata.perf.gate.verdict import Judge
from perfdata.perf.model import Budgets, Finding, FindingKind, Misestimate, PlanSource, Verdict
from tests.unit.perf.parts import INDEX, SEQ, plan, result, source, statement

if TYPE_CHECKING:
    from pathlib import Path

    from perfdata.perf.model import ScenarioResult

SLOW = statement(plans=(plan(*SEQ, buffers=1_001),))
FILE = "tests/perf/baselines/pg18/report.100_offices.json"


def judge(tmp_path: Path, **given: Any) -> Judge:
    return Judge(tmp_path, tmp_path / "tests" / "perf", **given)


def accept(tmp_path: Path, one: ScenarioResult) -> None:
    write_baseline(tmp_path / FILE, Baseline.of(one))


def said(tmp_path: Path, one: ScenarioResult, **given: Any) -> str:
    with pytest.raises(RegressedError) as caught:
        judge(tmp_path, **given).raise_failure(judge(tmp_path).judge(one))
    return str(caught.value)


def test_without_a_baseline_there_is_no_verdict_and_no_error(tmp_path: Path) -> None:
    found = judge(tmp_path).judge(result())
    assert (found.verdict, found.baseline) == (Verdict.NO_BASELINE, FILE)
    judge(tmp_path).raise_failure(found)
    assert list(tmp_path.iterdir()) == []


def test_what_was_accepted_is_ok(tmp_path: Path) -> None:
    accept(tmp_path, result())
    found = judge(tmp_path).judge(result())
    assert (found.verdict, found.findings) == (Verdict.OK, ())
    assert found.accepted_counters["buffers"] == 100
    judge(tmp_path).raise_failure(found)


def test_another_environment_has_no_baseline(tmp_path: Path) -> None:
    accept(tmp_path, result())
    other = {**result().environment, "postgresql": "17"}
    found = judge(tmp_path).judge(result(SLOW, environment=other))
    assert found.verdict is Verdict.NO_BASELINE
    assert found.baseline.startswith("tests/perf/baselines/pg17/")


def test_of_an_unknown_environment_only_the_result_itself_is_judged(tmp_path: Path) -> None:
    repeated = statement(calls=99, sources=(source(99, 99),))
    found = judge(tmp_path).judge(result(repeated, environment={}))
    assert (found.verdict, found.baseline) == (Verdict.REGRESSED, "")


def test_a_red_result_says_everything_at_once(tmp_path: Path) -> None:
    accept(tmp_path, result())
    found = said(tmp_path, result(SLOW, settings={"jit": "off", "work_mem": "64"}))
    assert found.splitlines() == [
        "report on 100_offices: buffers 100 → 1,001 (+901 %): SELECT a FROM t",
        "report on 100_offices: changed plan: SELECT a FROM t",
        "      old plan                        │ new plan",
        "      Limit                           │ Limit",
        "    ~   Index Scan using by_name on t │   Sort",
        "    +                                 │     Seq Scan on t",
        "  likely cause: the baseline was accepted with other settings, work_mem 4096 → 64",
        "  if this is intended, accept it: perfdata perf.accept --only report",
    ]


def test_a_threshold_is_the_judges(tmp_path: Path) -> None:
    accept(tmp_path, result())
    new = result(statement(plans=(plan(*INDEX, buffers=120),)))
    lenient = judge(tmp_path, threshold=Threshold(50, 8))
    assert lenient.judge(new).verdict is Verdict.OK
    assert judge(tmp_path).judge(new).verdict is Verdict.REGRESSED


def test_budgets_come_first_with_the_statements_and_their_error(tmp_path: Path) -> None:
    accept(tmp_path, result())
    new = result(
        statement(calls=99, sources=(source(99, 99),)),
        budgets=Budgets(max_queries=4, max_buffers=50),
    )
    with pytest.raises(BudgetExceededError) as caught:
        judge(tmp_path).raise_failure(judge(tmp_path).judge(new))
    lines = str(caught.value).splitlines()
    assert lines[:2] == [
        "report on 100_offices: 99 queries, max_queries is 4; 100 buffers, max_buffers is 50",
        "  99 x SELECT a FROM t  (10 rows, 100 buffers)",
    ]
    assert "N+1: app/mails.py:12 in due sent one statement 99 times" in lines[2]
    assert "calls 1 → 99" in lines[3]


def test_two_tests_that_measure_one_scenario_are_told_apart_before_they_are_compared(
    tmp_path: Path,
) -> None:
    accept(tmp_path, result())
    judging = judge(tmp_path)
    judging.judge(result(test="tests/perf/test_a.py::test_first"))
    judging.judge(result(test="tests/perf/test_a.py::test_first"))
    with pytest.raises(ConfigError, match=r"test_first and tests/perf/test_b\.py") as e:
        judging.judge(result(test="tests/perf/test_b.py::test_typical"))
    assert 'name="…"' in str(e.value)


NONE_SEEN = (
    "no statement was seen on the session that perf passed: does the code use its own engine?"
)


def test_a_scenario_without_statements_is_not_judged(tmp_path: Path) -> None:
    found = judge(tmp_path).judge(replace(result(), statements=()))
    assert found.verdict is Verdict.NOT_JUDGED
    judge(tmp_path).raise_failure(found)
    (line,) = warning_lines([found])
    assert line.startswith(f"report on 100_offices: {NONE_SEEN} Give it the scenario's session")


def test_a_budget_of_no_statement_fails_unless_it_is_0(tmp_path: Path) -> None:
    silent = replace(result(), statements=(), budgets=Budgets(max_queries=4))
    assert said(tmp_path, silent).startswith(f"report on 100_offices: {NONE_SEEN}")
    assert list(warning_lines([judge(tmp_path).judge(silent)])) == []
    none = replace(silent, budgets=Budgets(max_queries=0))
    assert judge(tmp_path).judge(none).verdict is Verdict.NO_BASELINE
    unsupported = replace(silent, incomplete_counters=("queries",))
    assert judge(tmp_path).judge(unsupported).verdict is Verdict.NOT_JUDGED


def test_what_accepting_does_not_mend_names_no_command(tmp_path: Path) -> None:
    repeated = statement(calls=99, sources=(source(99, 99),))
    assert "perf.accept" not in said(tmp_path, result(repeated))


def test_a_difference_with_an_exceeded_limit_is_not_offered_for_acceptance(tmp_path: Path) -> None:
    accept(tmp_path, result())
    repeated = statement("SELECT b FROM t", calls=99, sources=(source(99, 99),))
    found = said(tmp_path, result(repeated, budgets=Budgets(max_queries=4)))
    assert "perf.accept" not in found
    assert found.endswith(
        "  accepting this does not fix max_queries and max_repeats: change the code, or set "
        "max_queries and max_repeats in the marker"
    )
    red = judge(tmp_path).judge(result(repeated, scenario="new"))
    assert red.verdict is Verdict.REGRESSED
    assert list(notices([red], tmp_path)) == [], "accepting would not make it green"


def test_growth_is_judged_where_the_scenario_ran_on_other_sizes(tmp_path: Path) -> None:
    points = [Point("s", 100, {"queries": 11}), Point("l", 1_000, {"queries": 101})]
    limited = result(budgets=Budgets(max_growth=1.1))
    found = judge(tmp_path).judge(limited, points)
    assert dict(found.growth) == {"queries": 0.963}
    assert found.verdict is Verdict.REGRESSED
    assert judge(tmp_path).judge(result(), points).growth == {}


def test_the_likely_cause_stands_with_what_is_red_and_with_what_is_better(tmp_path: Path) -> None:
    accept(tmp_path, result(data={"dataset": "a1"}))
    cause = "  likely cause: since the baseline was accepted, the dataset 100_offices has changed"
    assert cause in said(tmp_path, result(SLOW, data={"dataset": "b2"}))
    better = judge(tmp_path).judge(result(statement(rows=5), data={"dataset": "b2"}))
    _, hint = notices([better], tmp_path)
    assert hint.startswith(cause)


def test_a_block_is_not_judged_for_growth_and_that_is_told(tmp_path: Path) -> None:
    found = judge(tmp_path).judge(result(budgets=Budgets(max_growth=1.1)))
    (one,) = found.findings
    assert (one.kind, one.fails) == (FindingKind.NOT_JUDGED, False)
    (warning,) = warning_lines([found])
    assert "max_growth could not be judged: a block of perf.measure() runs" in warning
    no_clones = result(budgets=Budgets(max_growth=1.1), same_layout=False, not_captured=("no",))
    (one,) = judge(tmp_path).judge(no_clones).findings
    assert one.message == "max_growth could not be judged: no"


def test_what_was_not_judged_fails_only_where_the_judge_is_strict(tmp_path: Path) -> None:
    accept(tmp_path, result())
    blind = {"same_layout": False, "not_captured": ("no CREATEDB",)}
    found = judge(tmp_path).judge(result(budgets=Budgets(max_buffers=500), **blind))
    assert found.verdict is Verdict.NOT_JUDGED
    judge(tmp_path).raise_failure(found)
    with pytest.raises(NotJudgedError) as caught:
        judge(tmp_path, strict=True).raise_failure(found)
    assert str(caught.value).splitlines() == [
        "report on 100_offices: buffers and plans were not compared with the baseline: no CREATEDB",
        "report on 100_offices: max_buffers could not be judged: no CREATEDB",
    ]
    assert next(notices([found], tmp_path)).startswith("NOT JUDGED: report: the warnings say")
    judge(tmp_path, strict=True).raise_failure(judge(tmp_path).judge(result()))


def test_growth_that_was_not_captured_is_told_with_the_reason(tmp_path: Path) -> None:
    points = [Point("s", 100, {"queries": 1}), Point("l", 1_000, {"queries": 1})]
    given = {"plan_source": PlanSource.NONE, "not_captured": ("no LOAD",)}
    blind = result(budgets=Budgets(max_growth={"buffers": 1}), **given)
    (warning,) = warning_lines([judge(tmp_path).judge(blind, points)])
    assert "max_growth of buffers could not be judged" in warning
    assert warning.endswith("s and l (no LOAD)")


def test_a_damaged_baseline_is_an_error(tmp_path: Path) -> None:
    accept(tmp_path, result())
    (tmp_path / FILE).write_text("{")
    with pytest.raises(BaselineError, match="damaged"):
        judge(tmp_path).judge(result())


def test_the_command_is_one_that_the_project_has(tmp_path: Path) -> None:
    assert accept_command(tmp_path, "a b[x]") == "perfdata perf.accept --only 'a b[x]'"
    (tmp_path / "tasks.py").write_text("")
    assert accept_command(tmp_path) == "invoke perf.accept"


def changed(old: tuple[str, ...], new: tuple[str, ...]) -> Finding:
    return Finding(FindingKind.CHANGED_PLAN, fails=True, message="", old_plan=old, new_plan=new)


def test_on_a_narrow_terminal_plans_stand_below_each_other() -> None:
    assert plan_lines(changed(INDEX, SEQ), 40) == [
        "    old plan",
        "      Limit",
        "    -   Index Scan using by_name on t",
        "    new plan",
        "      Limit",
        "    +   Sort",
        "    +     Seq Scan on t",
    ]
    assert plan_lines(changed(INDEX, INDEX), 40) == []
    assert plan_lines(changed((), INDEX), 40) == []


def test_a_node_that_went_is_marked_too() -> None:
    assert plan_lines(changed(("Limit", "  Sort", "    Seq Scan"), ("Limit", "  Seq Scan")), 80)[
        1:
    ] == [
        "      Limit        │ Limit",
        "    -   Sort       │",
        "          Seq Scan │   Seq Scan",
    ]


def test_a_long_list_of_statements_is_cut() -> None:
    many = result(*(statement(f"SELECT {'x' * n}") for n in range(1, 26)))
    assert statement_lines(many)[-1] == "  and 5 more statements"
    assert len(statement_lines(many)) == 21


def test_what_is_not_red_is_told_with_the_command_that_holds_it(tmp_path: Path) -> None:
    accept(tmp_path, result(statement(calls=5)))
    better = judge(tmp_path).judge(result())
    assert better.verdict is Verdict.IMPROVED
    new = judge(tmp_path).judge(result(scenario="directory"))
    missing, improved = notices([better, new], tmp_path)
    assert missing.startswith("NO BASELINE: directory: ")
    assert missing.endswith("commit: perfdata perf.accept")
    assert "report on 100_offices improved on its baseline (queries 5 → 1 (-80 %))" in improved
    assert improved.endswith("perfdata perf.accept --only report")


def test_warnings_are_misestimates_and_what_was_not_compared(tmp_path: Path) -> None:
    accept(tmp_path, result())
    wrong = statement(misestimates=(Misestimate("Seq Scan on t", 1, 5_000),))
    found = judge(tmp_path).judge(result(wrong, same_layout=False, not_captured=("no clone",)))
    compared, estimated = warning_lines([found])
    assert "were not compared with the baseline: no clone" in compared
    assert estimated.startswith("report on 100_offices: misestimate: Seq Scan on t")


def test_a_warning_is_one_line_on_the_worst_misestimate(tmp_path: Path) -> None:
    wrong = [Misestimate(f"Seq Scan on t{n}", 1, 100 * n) for n in (1, 3, 2)]
    sent = statement(f"SELECT {', '.join(map(str, range(99)))} FROM t", misestimates=tuple(wrong))
    reason = "CREATE DATABASE needs CREATEDB:\n  ALTER ROLE a CREATEDB"
    budgets = Budgets(max_buffers=1)
    given = {"same_layout": False, "not_captured": (reason,), "budgets": budgets}
    told = list(warning_lines([judge(tmp_path).judge(result(sent, **given))]))
    assert told == [
        "report on 100_offices: max_buffers could not be judged: CREATE DATABASE needs CREATEDB: "
        "ALTER ROLE a CREATEDB",
        "report on 100_offices: misestimate: Seq Scan on t3 estimated 1 rows, returned 300: SELECT "
        "0, … FROM t (and 2 more)",
    ]

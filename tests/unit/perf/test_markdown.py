"""The summary of a job, as Markdown."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from perfdata.perf.model import (
    Budgets,
    Finding,
    FindingKind,
    ScenarioResult,
    StatementCount,
    TimeStats,
)
from perfdata.perf.report.markdown import markdown as written

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def markdown(
    results: Sequence[ScenarioResult], failures: Mapping[str, str], notes: Sequence[str]
) -> str:
    return written(results, failures, notes, Path("/nowhere"))


def result(scenario: str, calls: int, text: str = "SELECT a FROM t") -> ScenarioResult:
    return ScenarioResult(
        scenario=scenario,
        test=f"test_{scenario}",
        dataset="100_offices",
        statements=(StatementCount("f", text, calls, 1_000 * calls),),
        time=TimeStats(0.0123, 0.01, 5),
        budgets=Budgets(max_queries=3),
        accepted=True,
    )


def test_a_green_run_is_a_table_and_where_the_data_came_from() -> None:
    text = markdown([result("report", 2)], {}, ["restored 100_offices: 5 rows"])
    assert text.splitlines() == [
        "## ✅ 1 scenario, none regressed",
        "",
        "| scenario | dataset | queries | rows | buffers | time | verdict |",
        "| :-- | :-- | --: | --: | --: | --: | :-- |",
        "| report | 100\\_offices | 2 | 2,000 | - | 12.3 ms | ✅ ok |",
        "",
        "- restored 100\\_offices: 5 rows",
    ]


def test_a_red_scenario_shows_what_it_sent() -> None:
    text = markdown([result("report", 1), result("n_plus_one", 1_200)], {}, [])
    assert text.startswith("## ❌ 1 of 2 scenarios regressed\n")
    assert "| **1,200** (max. 3) | 1,200,000 | - | 12.3 ms | ❌ regressed |" in text
    assert "1,200 queries, max_queries is 3</summary>\n\n```\n  1,200 x SELECT a FROM t" in text


def test_what_was_not_judged_is_no_green_run() -> None:
    why = "max_buffers could not be judged: no CREATEDB"
    finding = Finding(FindingKind.NOT_JUDGED, fails=False, message=why)
    unjudged = dataclasses.replace(result("report", 1), findings=(finding,))
    text = markdown([unjudged, result("search", 1)], {}, [])
    assert text.startswith("## ⚠️ 2 scenarios, none regressed, 1 not judged\n")
    assert "⚠️ not_judged |" in text
    assert "- ⚠️ report on 100\\_offices: max\\_buffers could not be judged: no CREATEDB" in text
    red = markdown([unjudged, result("search", 9)], {}, [])
    assert red.startswith("## ❌ 1 of 2 scenarios regressed, 1 not judged\n")


def test_a_test_that_failed_otherwise_is_told() -> None:
    text = markdown([], {"tests/test_a.py::test_it[<b>]": "E   no\nE   way"}, [])
    assert text.startswith("## ❌ a test failed\n")
    assert "tests/test_a.py::test_it[&lt;b&gt;]</summary>\n\n```\nE   no\nE   way\n```" in text
    assert "2 tests failed" in markdown([], {"a": "", "b": ""}, [])


def test_no_text_breaks_out_of_its_place() -> None:
    text = markdown([result("a|b\n<script>", 9, "SELECT '````' -- ```")], {}, ["a *b* `c`"])
    assert "| a\\|b &lt;script> |" in text
    assert "\n`````\n" in text
    assert "- a \\*b\\* \\`c\\`" in text


def test_a_long_failure_is_cut() -> None:
    text = markdown([], {"a": "\n".join(f"line {number}" for number in range(100))}, [])
    assert "line 39\n… 60 more lines\n" in text
    assert "line 40" not in text


def test_what_is_not_red_is_told_too() -> None:
    new = dataclasses.replace(result("report", 1), accepted=False, baseline="a.json")
    text = markdown([new], {}, [])
    assert "- ⚠️ NO BASELINE: report: not compared" in text
    assert "perfdata perf.accept" in text

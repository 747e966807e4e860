"""Plans as PostgreSQL 15 and 18 wrote them: recorded_plans.json holds auto_explain's messages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from perfdata.perf.capture.plans import (
    ExecutedPlan,
    from_explain,
    from_message,
    is_plan,
    line,
    without_inner,
)

RECORDED = json.loads((Path(__file__).parent / "recorded_plans.json").read_text(encoding="utf-8"))
VERSIONS = sorted(RECORDED)


def _read(version: str, name: str) -> list[ExecutedPlan]:
    messages = RECORDED[version][name]
    return [from_message(one["message"], one["context"], {"after_f()"}) for one in messages]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_signature_is_the_tree_without_values(version: str) -> None:
    (plan,) = _read(version, "joins")
    assert plan.signature == (
        "Limit",
        "  CTE m: Seq Scan on big",
        "  CTE n: Result",
        "    InitPlan 2: Limit",
        "      Index Only Scan Backward using big_id on big big_1",
        "  InitPlan 5: CTE Scan on n",
        "  Result",
        "    Sort",
        "      Hash Left Join",
        "        CTE Scan on m b",
        "        Hash",
        "          Seq Scan on other a",
        "    SubPlan 4: Aggregate",
        "      Seq Scan on other o",
    )
    assert not plan.writes
    assert plan.depth == 0


@pytest.mark.parametrize("version", VERSIONS)
def test_what_a_function_ran_counts_once(version: str) -> None:
    plans = _read(version, "functions")
    assert [one.depth for one in plans] == [1, 2, 0]
    own = list(without_inner(plans))
    assert sum(one.buffers for one in own) == plans[-1].buffers
    assert own[-1].buffers == plans[-1].buffers - plans[0].buffers - plans[1].buffers


@pytest.mark.parametrize("version", VERSIONS)
def test_what_ran_after_a_statement_is_no_part_of_its_cost(version: str) -> None:
    before, after, update = _read(version, "triggers")
    assert (before.separate, after.separate, update.writes) == (False, True, True)
    own = list(without_inner([before, after, update]))
    assert own[-1].buffers == update.buffers - before.buffers
    assert update.signature[0] == "Update on big"


@pytest.mark.parametrize("version", VERSIONS)
def test_a_sort_that_spills_has_temporary_blocks(version: str) -> None:
    (plan,) = _read(version, "spill")
    assert plan.temp_blocks > 0
    assert plan.signature == ("Sort", "  Seq Scan on big")


@pytest.mark.parametrize("version", VERSIONS)
def test_a_misestimate_is_told_but_not_where_a_limit_stopped_early(version: str) -> None:
    (plan,) = _read(version, "wrong")
    (found,) = plan.misestimates
    assert (found.node, found.actual) == ("Seq Scan on big", 5000)
    assert found.actual > 100 * found.estimated
    (limited,) = _read(version, "limit")
    assert limited.misestimates == ()


def _scan(**facts: Any) -> dict[str, Any]:
    return {"Node Type": "Seq Scan", "Relation Name": "t", "Alias": "t", "Actual Loops": 1, **facts}


@pytest.mark.parametrize(
    ("expected", "actual", "loops", "told"),
    [
        (100_000, 900, 1, True),
        (5, 999, 1, False),  # too few rows to matter
        (5, 999, 2, True),
        (10_000, 0.01, 1, True),
        (10_000, 0, 0, False),  # never executed
        (10_000, 101, 1, False),
    ],
)
def test_which_misestimates_are_told(
    expected: int, actual: float, loops: int, *, told: bool
) -> None:
    node = _scan(**{"Plan Rows": expected, "Actual Rows": actual, "Actual Loops": loops})
    assert bool(from_explain("", [{"Plan": node}]).misestimates) is told


def test_rows_that_nobody_asked_for_are_no_misestimate_unless_a_sort_reads_them_all() -> None:
    scan = _scan(**{"Plan Rows": 100_000, "Actual Rows": 1})
    few = {"Plan Rows": 1, "Actual Rows": 1, "Actual Loops": 1}
    limit = {"Node Type": "Limit", **few, "Plans": [scan]}
    assert from_explain("", [{"Plan": limit}]).misestimates == ()
    sort = {"Node Type": "Sort", **few, "Plans": [scan]}
    limit = {"Node Type": "Limit", **few, "Plans": [sort]}
    assert from_explain("", [{"Plan": limit}]).misestimates[0].node == "Seq Scan on t"


@pytest.mark.parametrize(
    ("node", "text"),
    [
        ({"Node Type": "Nested Loop", "Join Type": "Anti"}, "Nested Loop Anti Join"),
        ({"Node Type": "Nested Loop", "Join Type": "Inner"}, "Nested Loop"),
        ({"Node Type": "Merge Join", "Join Type": "Inner"}, "Merge Join"),
        (_scan(**{"Parallel Aware": True}), "Parallel Seq Scan on t"),
        (
            {"Node Type": "Aggregate", "Strategy": "Hashed", "Partial Mode": "Partial"},
            "Partial HashAggregate",
        ),
        (
            {
                "Node Type": "Aggregate",
                "Strategy": "Plain",
                "Subplan Name": "InitPlan 1 (returns $0)",
            },
            "InitPlan 1: Aggregate",
        ),
        ({"Node Type": "SetOp", "Strategy": "Hashed", "Command": "Except"}, "HashSetOp Except"),
        ({"Node Type": "Bitmap Index Scan", "Index Name": "i"}, "Bitmap Index Scan on i"),
        (
            {"Node Type": "Function Scan", "Function Name": "f", "Alias": "g"},
            "Function Scan on f g",
        ),
    ],
)
def test_lines_read_as_explain_writes_them(node: dict[str, Any], text: str) -> None:
    assert line(node) == text


def test_a_key_check_is_known_by_its_text_and_ran_after_the_statement() -> None:
    query = 'SELECT 1 FROM ONLY "public"."t" x WHERE "id" OPERATOR(pg_catalog.=) $1 FOR KEY SHARE'
    document = {"Query Text": query, "Plan": _scan(**{"Plan Rows": 1, "Actual Rows": 1})}
    message = f"duration: 0.1 ms  plan:\n{json.dumps(document, indent=2)}"
    assert is_plan(message)
    found = from_message(message, f'SQL statement "{query}"')
    assert (found.depth, found.separate) == (1, True)
    assert not is_plan("duration: 0.1 ms  plan:\nQuery Text: SELECT 1")

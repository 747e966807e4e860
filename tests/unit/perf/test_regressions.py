"""Results against baselines: what is red, what is better, what is neither."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from perfdata.perf.gate.baselines import Baseline
from perfdata.perf.gate.regressions import Threshold, compare_with_baseline
from perfdata.perf.model import Finding, FindingKind, PlanSource
from tests.unit.perf.parts import INDEX, SEQ, plan, result, statement

if TYPE_CHECKING:
    from perfdata.perf.model import ScenarioResult

OLD = result()


def found(new: ScenarioResult, old: ScenarioResult = OLD) -> list[Finding]:
    return compare_with_baseline(new, Baseline.of(old))


def kinds(findings: list[Finding]) -> list[tuple[str, bool]]:
    return [(one.kind.value, one.fails) for one in findings]


def test_the_same_counts_are_nothing_to_tell() -> None:
    assert found(result()) == []


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"calls": 3}, [("more_queries", True)]),
        ({"calls": 1, "rows": 11}, [("more_rows", True)]),
        ({"rows": 9}, [("fewer_rows", False)]),
        ({"plans": (plan(*INDEX, buffers=109),)}, [("more_buffers", True)]),
        ({"plans": (plan(*INDEX, buffers=108),)}, []),
        ({"plans": (plan(*INDEX, buffers=92),)}, []),
        ({"plans": (plan(*INDEX, buffers=91),)}, [("fewer_buffers", False)]),
        ({"plans": (plan(*INDEX, temp_blocks=1),)}, [("temp_blocks", True)]),
        ({"plans": (plan(*SEQ),)}, [("changed_plan", True)]),
        ({"plans": (plan(*INDEX, buffers=50), plan(*SEQ, buffers=50))}, [("changed_plan", True)]),
    ],
)
def test_what_one_statement_does_otherwise(
    given: dict[str, Any], expected: list[tuple[str, bool]]
) -> None:
    assert kinds(found(result(statement(**given)))) == expected


def test_a_finding_says_statement_and_old_and_new() -> None:
    (one,) = found(result(statement(calls=101)))
    assert one.message == "calls 1 → 101 (+10,000 %): SELECT a FROM t"
    assert (one.old, one.new, one.statement) == (1, 101, "SELECT a FROM t")
    (one,) = found(result(statement(plans=(plan(*SEQ),))))
    assert (one.message, one.old_plan, one.new_plan) == (
        "changed plan: SELECT a FROM t",
        INDEX,
        SEQ,
    )


def test_both_percent_and_blocks_must_be_exceeded() -> None:
    assert not Threshold().exceeded(1_000, 1_020)
    assert Threshold().exceeded(1_000, 1_021)
    assert not Threshold().exceeded(10, 18)
    assert Threshold().exceeded(10, 19)
    assert Threshold().exceeded(0, 9)
    assert not Threshold(percent=50, blocks=0).exceeded(10, 15)


def test_a_threshold_can_be_given() -> None:
    new = result(statement(plans=(plan(*INDEX, buffers=101),)))
    assert kinds(compare_with_baseline(new, Baseline.of(OLD), Threshold(0, 0))) == [
        ("more_buffers", True)
    ]


def test_temp_blocks_that_were_there_may_differ_as_buffers_may() -> None:
    old = result(statement(plans=(plan(*SEQ, temp_blocks=100),)))
    more = result(statement(plans=(plan(*SEQ, temp_blocks=105),)))
    most = result(statement(plans=(plan(*SEQ, temp_blocks=110),)))
    assert found(more, old) == []
    assert kinds(found(most, old)) == [("temp_blocks", True)]


def test_a_new_statement_is_shown_beside_the_one_that_it_came_from() -> None:
    lower = statement("SELECT a FROM t WHERE LOWER(name) = ?", plans=(plan(*SEQ),))
    plain = statement("SELECT a FROM t WHERE name = ?")
    other = statement("DELETE FROM elsewhere")
    new, gone = found(result(lower, other), result(plain, other))
    assert (new.kind, new.fails) == (FindingKind.NEW_STATEMENT, True)
    assert "instead of: SELECT a FROM t WHERE name = ?" in new.message
    assert (new.old_plan, new.new_plan) == (INDEX, SEQ)
    assert (gone.kind, gone.fails, gone.old, gone.new) == (
        *(FindingKind.VANISHED_STATEMENT, True, 1, 0),
    )


def test_a_new_statement_that_is_like_none_stands_alone() -> None:
    new, gone = found(result(statement("DELETE FROM u USING v")))
    assert (new.old_plan, gone.kind) == ((), FindingKind.VANISHED_STATEMENT)
    assert "instead of" not in new.message


def test_plans_of_functions_are_compared_with_their_like() -> None:
    inside = "SELECT b FROM inside"
    old = result(statement(plans=(plan(*INDEX), plan("Result", query=inside))))
    new = result(statement(plans=(plan(*INDEX), plan("Seq Scan on b", query=inside))))
    (one,) = found(new, old)
    assert one.kind is FindingKind.CHANGED_PLAN
    assert (one.old_plan, one.new_plan) == (("Result",), ("Seq Scan on b",))
    assert "inside: SELECT b FROM inside" in one.message


def test_a_plan_that_is_not_used_any_more_is_a_change() -> None:
    old = result(statement(plans=(plan(*INDEX), plan(*SEQ))))
    (one,) = found(result(statement(plans=(plan(*INDEX, buffers=200),))), old)
    assert (one.kind, one.old_plan, one.new_plan) == (FindingKind.CHANGED_PLAN, SEQ, INDEX)


def test_many_small_increases_are_found_together() -> None:
    def run(buffers: int) -> ScenarioResult:
        return result(
            *(statement(f"SELECT {n}", plans=(plan(*INDEX, buffers=buffers),)) for n in "abcde")
        )

    (one,) = found(run(108), run(100))
    assert (one.kind, one.fails, one.old, one.new) == (FindingKind.MORE_BUFFERS, True, 500, 540)
    assert "in total" in one.message


def test_something_harmless_hides_no_total() -> None:
    def run(buffers: int, rows: int) -> ScenarioResult:
        fewer = statement("SELECT z", rows=rows)
        many = (statement(f"SELECT {n}", plans=(plan(*INDEX, buffers=buffers),)) for n in "abcde")
        return result(fewer, *many)

    assert kinds(found(run(108, 9), run(100, 10))) == [
        ("more_buffers", True),
        ("fewer_rows", False),
    ]


def test_other_settings_are_told_as_the_likely_cause_of_what_is_red() -> None:
    other = {"jit": "off", "work_mem": "64"}
    assert found(result(settings=other)) == []
    spilled = statement(plans=(plan(*INDEX, temp_blocks=300),))
    red, hint = found(result(spilled, settings=other))
    assert red.kind is FindingKind.TEMP_BLOCKS
    assert (hint.kind, hint.fails) == (FindingKind.SETTINGS, False)
    assert "work_mem 4096 → 64" in hint.message
    assert "jit" not in hint.message
    sent = found(result(statement("SELECT b FROM t"), settings=other))
    assert {finding.kind for finding in sent} == {
        FindingKind.NEW_STATEMENT,
        FindingKind.VANISHED_STATEMENT,
    }


def test_a_changed_dataset_and_other_migrations_are_told_as_the_likely_cause() -> None:
    before = {"dataset": "a1", "migrations": "0003_index (0f)"}
    now = {"dataset": "b2", "migrations": "0004_more (1e)"}
    more, fewer = statement(rows=20), statement(rows=5)

    def told(one: ScenarioResult, data: dict[str, str]) -> list[str]:
        accepted = Baseline.of(result(data=data))
        return [
            one.message
            for one in compare_with_baseline(one, accepted)
            if one.kind is FindingKind.DATA
        ]

    for changed in (more, fewer):
        (said,) = told(result(changed, data=now), before)
        assert said == (
            "likely cause: since the baseline was accepted, the dataset 100_offices has changed "
            "(its definition or its code) and the migrations have changed "
            "(0003_index (0f) → 0004_more (1e))"
        )
    (said,) = told(result(more, data={**before, "dataset": "b2"}), before)
    assert "migrations" not in said
    assert told(result(more, data=before), before) == []
    assert told(result(data=now), before) == [], "what counts the same has no cause"
    other = statement("SELECT b FROM t")
    assert told(result(other, data=now), before) == [], "other code sends other statements"
    assert told(result(more, data=now), {}) == [], "a baseline of before does not say"
    assert told(result(more), before) == []


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"same_layout": False, "not_captured": ("no CREATEDB",)}, "no CREATEDB"),
        ({"plan_source": PlanSource.NONE, "not_captured": ("asyncpg",)}, "asyncpg"),
        (
            {"plan_source": PlanSource.EXPLAIN},
            "they come from explain, the baseline's from auto_explain; run with a role of the same "
            "rights (a superuser has auto_explain), or accept this run",
        ),
    ],
)
def test_what_could_not_be_compared_is_told_and_not_red(given: dict[str, object], why: str) -> None:
    other = statement(plans=(plan(*SEQ, buffers=9_000, temp_blocks=9),))
    (one,) = found(result(other, **given))
    assert (one.kind, one.fails) == (FindingKind.NOT_JUDGED, False)
    assert why in one.message
    red, _ = found(result(statement(calls=2), **given))
    assert red.kind is FindingKind.MORE_QUERIES


def test_a_baseline_without_plans_is_compared_by_what_it_has() -> None:
    old = result(plan_source=PlanSource.NONE)
    (one,) = found(result(statement(plans=(plan(*SEQ, buffers=9_000),))), old)
    assert (one.kind, one.fails) == (FindingKind.NOT_COMPARED, False)
    assert one.message.endswith("the baseline: it has none; accept this run, which has them")
    assert found(old, old) == []
    assert found(result(same_layout=False), old) == []

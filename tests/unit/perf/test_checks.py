"""Checks without a baseline, growth, and the marker that asks for them."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from perfdata import ConfigError, Dataset, Project
from perfdata.perf.gate.growth import Point, exponents, growth_findings, other_datasets
from perfdata.perf.gate.regressions import Threshold
from perfdata.perf.gate.verdict import check_result
from perfdata.perf.model import Budgets, FindingKind, Misestimate, PlanSource
from perfdata.pytest_plugin.marker import Marker
from tests.unit.perf.parts import result, source, statement


@pytest.mark.parametrize(
    ("calls", "different", "limit", "red"),
    [
        (9, 9, 9, False),
        (10, 10, 9, True),
        (100, 1, 9, False),
        (10, 10, 10, False),
        (99, 99, None, False),
    ],
)
def test_a_line_that_sends_a_statement_with_other_parameters_each_time(
    calls: int, different: int, limit: int | None, red: bool
) -> None:
    sent = statement(calls=calls, sources=(source(calls, different),))
    found = check_result(result(sent, budgets=Budgets(max_repeats=limit)))
    assert [one.fails for one in found] == [True] * red
    for one in found:
        assert one.kind is FindingKind.REPEATED
        assert f"N+1: app/mails.py:12 in due sent one statement {calls} times" in one.message


def test_the_usual_limit_is_ten_and_lines_are_not_added_up() -> None:
    assert check_result(result(statement(calls=18, sources=(source(9, 9), source(9, 9))))) == []
    assert (
        len(check_result(result(statement(calls=19, sources=(source(9, 9), source(10, 10)))))) == 1
    )


def test_batches_of_an_insert_are_no_repetition() -> None:
    text = "INSERT INTO t (a) VALUES (?)"
    batches = statement(text, calls=20, rows=20_000, sources=(source(20, 20),))
    single = statement(text, calls=20, rows=20, sources=(source(20, 20),))
    assert check_result(result(batches)) == []
    assert len(check_result(result(single))) == 1


def test_parts_of_a_list_are_no_repetition() -> None:
    assert check_result(result(statement(calls=30, sources=(source(30, 30, 21),)))) == []
    (one,) = check_result(result(statement(calls=31, sources=(source(31, 31, 21),))))
    assert (
        "sent one statement 31 times with 10 different parameters (max_repeats is 9)" in one.message
    )


def test_misestimates_are_told_and_never_red() -> None:
    wrong = statement(misestimates=(Misestimate("Seq Scan on t", 1, 5_000),))
    (one,) = check_result(result(wrong))
    assert (one.kind, one.fails, one.old, one.new) == (FindingKind.MISESTIMATE, False, 1, 5_000)
    assert "Seq Scan on t estimated 1 rows, returned 5,000" in one.message


def test_a_budget_of_what_was_not_counted_is_said_to_hold_for_nothing() -> None:
    budgets = Budgets(max_buffers=5, max_temp_blocks=0)
    blind = {"plan_source": PlanSource.NONE, "not_captured": ("no LOAD",)}
    (one,) = check_result(result(budgets=budgets, **blind))
    assert one.message == "max_buffers and max_temp_blocks could not be judged: no LOAD"
    (one,) = check_result(result(budgets=budgets, same_layout=False))
    assert one.message.startswith("max_buffers could not")
    assert (one.kind, one.fails) == (FindingKind.NOT_JUDGED, False)
    assert check_result(result(**blind)) == []


def test_a_budget_on_a_counter_that_lacks_something_is_not_judged() -> None:
    budgets = Budgets(max_queries=5, max_rows=1, max_temp_blocks=0)
    unseen = {
        "incomplete_counters": ("queries", "rows", "temp_blocks"),
        "not_captured": ("some statements used cursors",),
    }
    (one,) = check_result(result(budgets=budgets, **unseen))
    # 10 rows are more than one, however many there were.
    assert one.message == (
        "max_queries and max_temp_blocks could not be judged: some statements used cursors"
    )


def test_a_budget_of_memory_that_was_not_measured_is_not_judged() -> None:
    (one,) = check_result(result(budgets=Budgets(max_memory_mb=5)))
    assert one.message.startswith("max_memory_mb could not be judged: Python's memory was not")
    assert check_result(result(budgets=Budgets(max_memory_mb=5), memory_bytes=1)) == []


def points(*counts: dict[str, int]) -> list[Point]:
    return [Point(f"d{n}", 100 * 10**n, count) for n, count in enumerate(counts)]


def test_exponents() -> None:
    found = exponents(
        points(
            {"queries": 4, "rows": 0, "buffers": 7},
            {"queries": 4, "rows": 0, "buffers": 70},
            {"queries": 4, "rows": 0, "buffers": 700},
        )
    )
    assert found == {"queries": 0.0, "rows": 0.0, "buffers": 1.0}
    assert exponents(points({"queries": 1, "rows": 3}, {"queries": 2, "rows": 300})) == {
        "queries": 0.301,
        "rows": 2.0,
    }


def test_growth_needs_two_sizes() -> None:
    same = [Point("a", 5, {}), Point("b", 5, {})]
    with pytest.raises(ConfigError, match=r"a \(5 rows\) and b \(5 rows\)"):
        exponents(same)


def test_rows_and_buffers_may_grow_with_the_data_and_queries_may_not() -> None:
    n_plus_one = points({"queries": 11, "rows": 60}, {"queries": 101, "rows": 600})
    one, unknown = growth_findings(n_plus_one, 1.1)
    assert (one.kind, one.fails, one.new) == (FindingKind.GROWTH, True, 0.963)
    assert one.message == (
        "queries grow with exponent 0.96, max_growth is 0.1: 11 on d0, 101 on d1"
    )
    assert (unknown.kind, unknown.fails) == (FindingKind.NOT_JUDGED, False)
    assert list(growth_findings(n_plus_one, {"queries": 1, "rows": 1})) == []


def test_buffers_that_grow_where_they_should_not() -> None:
    reads_all = points(
        {"queries": 1, "rows": 1, "buffers": 4}, {"queries": 1, "rows": 1, "buffers": 40}
    )
    assert [one.message.split()[0] for one in growth_findings(reads_all, 0.5)] == ["buffers"]
    assert list(growth_findings(reads_all, 1)) == []


def test_growth_of_what_was_not_counted_is_said_to_be_limited_by_nothing() -> None:
    blind = points({"queries": 1, "rows": 1, "buffers": 4}, {"queries": 1, "rows": 1})
    (one,) = growth_findings(blind, 0.5, ["no LOAD"])
    assert (one.kind, one.fails) == (FindingKind.NOT_JUDGED, False)
    assert one.message == ("max_growth of buffers could not be judged: not counted on d1 (no LOAD)")
    assert list(growth_findings(blind, {"queries": 1})) == []


def dataset(name: str, offices: int, staff: int = 10) -> Dataset:
    parameters = {"offices": offices, "staff": staff}
    return Dataset(name=name, generate=iter, as_of=date(2026, 4, 1), parameters=parameters)  # type: ignore[arg-type]


SMALL, LARGE, WIDE = dataset("small", 10), dataset("large", 100), dataset("wide", 5, 50)
PROJECT = Project(name="shop", datasets=(LARGE, dataset("middle", 50), SMALL, WIDE))


def test_the_other_dataset_is_the_one_named_else_the_smallest_of_the_same_kind() -> None:
    assert other_datasets(LARGE, (), PROJECT) == ("small",)
    assert other_datasets(LARGE, ("wide", "large"), PROJECT) == ("wide",)
    with pytest.raises(ConfigError, match=r'perf\(growth="…"'):
        other_datasets(SMALL, (), PROJECT)
    with pytest.raises(ConfigError, match="a second dataset"):
        other_datasets(LARGE, (), None)


def test_a_marker_says_all_of_it() -> None:
    merged = Marker.merged(
        [
            ((), {"max_growth": 1.1, "growth": "10_offices", "buffers_percent": 5.5}),
            ((), {"on": "psycopg", "name": "mails", "max_repeats": 20, "max_growth": {"rows": 1}}),
        ]
    )
    assert merged == Marker(
        budgets=Budgets(max_growth=1.1, max_repeats=20),
        on="psycopg",
        name="mails",
        growth=("10_offices",),
        threshold=Threshold(percent=5.5),
    )
    assert Marker.merged([((), {"growth": ("a", "b")})]).growth == ("a", "b")
    assert Marker.merged([((), {"max_repeats": None})]).budgets.max_repeats is None


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"on": "sqlite"}, "takes one of 'session', 'engine', 'psycopg', not 'sqlite'"),
        ({"name": ""}, "takes a name"),
        ({"growth": ()}, "a tuple of names"),
        ({"growth": 5}, "a tuple of names"),
        ({"max_buffers": 1.5}, "an integer of at least 0"),
        ({"max_growth": -1}, "a number of at least 0"),
        ({"max_growth": True}, "a number of at least 0"),
        ({"max_growth": {"seconds": 1}}, "for queries, rows, buffers"),
        ({"buffers_percent": "2"}, "a number of at least 0"),
        ({"buffers_block": 2}, "did you mean buffers_blocks?"),
    ],
)
def test_what_a_marker_does_not_take(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Marker.merged([((), given)])
    assert said in str(caught.value)


def test_every_argument_is_documented() -> None:
    from perfdata.pytest_plugin import marker

    for name in marker.ARGUMENTS:
        assert name in (marker.__doc__ or "") or name.startswith("max_")


def test_on_another_dataset_only_what_does_not_hang_on_its_size_is_limited() -> None:
    given = {
        "dataset": "100_offices",
        "name": "a",
        "max_queries": 4,
        "max_repeats": 20,
        "max_buffers": 5,
        "max_growth": 1,
    }
    marker = Marker.merged([((), given)])
    assert marker.on_dataset("100_offices") is marker
    assert marker.on_dataset("10_offices") == Marker(
        dataset="10_offices", budgets=Budgets(max_queries=4, max_repeats=20), name="a"
    )

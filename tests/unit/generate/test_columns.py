"""The values of each kind of column: their range, their distribution, and what is refused."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfdata import ConfigError
from perfdata import generate as g
from tests.unit.generate.kinds import AS_OF, TEAMS, dataset_of, tables_of

if TYPE_CHECKING:
    from perfdata.generate import GeneratedTable

DATASET = dataset_of()


@cache
def people() -> list[dict[str, Any]]:
    return list(tables_of(DATASET)["people"].records())


def column(name: str) -> list[Any]:
    return [row[name] for row in people()]


def only(rows: int, **columns: object) -> list[dict[str, Any]]:
    return list(g.table(DATASET, "t", rows, **columns).records())


def test_keys_are_consecutive_or_unique_and_far_apart() -> None:
    assert column("id") == [*range(100, 5100)]
    keys = column("key")
    assert len(set(keys)) == 5000
    assert all(UUID(key).version == 4 and UUID(key).variant.startswith("spec") for key in keys)
    firsts = [key[0] for key in keys[:64]]
    assert len(set(firsts)) == 16  # consecutive keys are all over an index


@given(first=st.integers(0, 10**9), rows=st.integers(2, 5000))
def test_uuids_of_any_rows_are_unique(first: int, rows: int) -> None:
    keys = g.table(DATASET, "t", 0, id=g.uuid()).blocks.columns["id"]
    assert len(set(keys.at(range(first, first + rows)))) == rows  # type: ignore[attr-defined]


def test_numbers_fill_their_range_evenly() -> None:
    assert sorted(Counter(column("score"))) == [*range(-5, 6)]
    assert min(Counter(column("score")).values()) > 350  # 5,000 / 11 = 454
    prices = column("price")
    assert {price.as_tuple().exponent for price in prices} == {-2}
    assert Decimal("-1.50") <= min(prices) <= Decimal("-1.48")
    assert Decimal("2.48") <= max(prices) <= Decimal("2.50")
    assert max(column("big")) > 9 * 10**14


def test_unique_numbers_are_a_permutation_of_their_range() -> None:
    numbers = column("number")
    assert len(set(numbers)) == 5000
    assert 1 <= min(numbers) <= max(numbers) <= 20_000
    assert [row["n"] for row in only(0, n=1)] == []
    assert sorted(row["n"] for row in only(9, n=g.integer(1, 9, unique=True))) == [*range(1, 10)]
    assert {row["c"] for row in only(3, c=g.choice("abc", unique=True))} == {"a", "b", "c"}


def test_choices_follow_their_weights() -> None:
    states = Counter(column("state"))
    assert states.keys() == {"new", "sent"}
    assert 1150 < states["new"] < 1350
    assert 1150 < sum(column("active")) < 1350
    assert Counter(column("rare"))["often"] > 4990  # searched for: the weights sum up to a million


def test_parts_of_a_choice_go_together() -> None:
    assert {(row["team_code"], row["team"]) for row in people()} == set(TEAMS)


def test_one_column_used_twice_has_the_same_values() -> None:
    place = g.integer(0, 999)
    rows = only(100, a=place, b=place, c=g.integer(0, 999))
    assert all(row["a"] == row["b"] for row in rows)
    assert any(row["a"] != row["c"] for row in rows)


def test_nulls_and_patterns() -> None:
    notes = column("note")
    assert 550 < notes.count(None) < 700  # an eighth
    number, note = next((n, note) for n, note in enumerate(notes, 1) if note is not None)
    assert note == f"n°{number:05} {{{people()[number - 1]['state']}}}"
    assert only(2, _a=None, b=g.text("x{_a}")) == [{"b": None}] * 2


def test_a_value_where_a_condition_is_true() -> None:
    for number, row in enumerate(people(), 1):
        assert (row["ended"] > datetime(2026, 1, 1, tzinfo=UTC)) is not row["active"]
        assert row["reason"] == (f"{number}: {row['score']}" if row["score"] < 0 else None)
    assert only(2, a=g.where(lambda row: row > 1, 5, otherwise=0)) == [{"a": 0}, {"a": 5}]


def test_dates_keep_to_their_days_and_seasons() -> None:
    joined = column("joined")
    assert AS_OF - timedelta(days=900) <= min(joined)
    assert max(joined) < AS_OF
    assert {day.weekday() for day in joined} == {0, 1, 2, 3, 4}
    months = Counter(day.month for day in joined)
    assert months[12] > 3 * months[11]


def test_times_keep_to_their_hours_and_what_follows_comes_after() -> None:
    seen = column("seen")
    assert all(at.tzinfo is UTC and 9 <= at.hour < 17 for at in seen)
    assert max(seen) < datetime(2026, 1, 1, tzinfo=UTC)
    for row in people():
        assert timedelta(days=1) <= row["left"] - row["joined"] <= timedelta(days=30)
        assert timedelta() <= row["answered"] - row["seen"] <= timedelta(days=2)
        assert timedelta() <= row["called"].date() - row["left"] <= timedelta(days=2)
        assert row["called"].hour == 9
    spans = {row["answered"] - row["seen"] for row in people()}
    assert len(spans) > 4000  # to the second
    assert only(1, _a=None, b=g.date(1, 2, after="_a"), c=g.timestamp(1, 2, after="_a")) == [
        {"b": None, "c": None}
    ]


def test_json_varies_where_a_column_is() -> None:
    settings = column("settings")
    assert {json.dumps(each) for each in settings} == {
        json.dumps({"dark": dark, "tags": ["a", tag], "n": None})
        for dark in (True, False)
        for tag in ("é", '"')
    }


def test_functions_get_the_columns_that_they_name() -> None:
    assert "_secret" not in people()[0]
    assert {row["twice"] - 2 * row["score"] for row in people()} == set(range(10))
    assert only(3, n=lambda row: row * 10) == [{"n": 10}, {"n": 20}, {"n": 30}]


def test_an_earlier_row_of_the_table_is_referenced() -> None:
    bosses = column("boss")
    assert bosses[:2] == [None, 100]
    assert all(boss < row["id"] for boss, row in zip(bosses[1:], people()[1:], strict=True))
    assert len(set(bosses)) > 1500


def test_values_differ_by_seed_table_column_and_block() -> None:
    def numbers(table: GeneratedTable, name: str = "n") -> list[int]:
        return [row[name] for row in table.records()]

    columns = {"n": g.integer(0, 10**6), "m": g.integer(0, 10**6)}
    one = g.table(DATASET, "one", 8192, **columns)
    found = [
        numbers(one),
        numbers(one, "m"),
        numbers(g.table(DATASET, "two", 8192, **columns)),
        numbers(g.table(DATASET, "one", 8192, "again", **columns)),
        numbers(g.table(dataset_of(seed=2), "one", 8192, **columns)),
    ]
    blocks = [tuple(each[first : first + 4096]) for each in found for first in (0, 4096)]
    assert len(set(blocks)) == 10
    for one_block, other in pairwise(blocks):
        assert sum(a == b for a, b in zip(one_block, other, strict=True)) < 5


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"a": g.choice([])}, "column a: there is no value to choose"),
        ({"a": g.choice({"x": 0})}, "column a: there is no value to choose"),
        ({"a": g.choice({"x": -1})}, "a weight is not an integer from 0"),
        ({"a": g.integer(2, 1)}, "column a: no number is from 2 to 1"),
        ({"a": g.integer(1, 9, unique=True)}, "column a: from 1 to 9 are 9 unique numbers, the t"),
        ({"a": g.choice("ab", unique=True)}, "column a: there are 2 unique values, the table has"),
        ({"a": g.listed("ab")}, "column a: the list has 2 values, the table has 10 rows"),
        ({"a": g.choice(["x", "y"])[1]}, "column a: a value of the pool has no part 1"),
        ({"a": lambda b: b}, "column a: it uses b, which is no column of the table"),
        ({"a": g.text("{b}")}, "column a: it uses b, which is no column of the table"),
        ({"a": lambda b: b, "b": g.date(1, 2, after="a")}, "column a: it is computed from itself"),
        ({"a": g.where("b", 1)}, "column a: it uses b, which is no column of the table"),
        ({"a": g.where(lambda b: b, 1)}, "column a: it uses b, which is no column of the table"),
        ({"a": lambda: 1}, "column a: the function <lambda> has no parameters"),
        ({"a": g.parent()}, "column a: the table's rows have no parent"),
        ({"a": g.earlier()}, "column a: table t has no column of keys"),
        ({"a": g.date(2, 1)}, "column a: the last day is before the first"),
        ({"a": g.timestamp(0, 1, hours=(9, 25))}, "column a: hours are not two increasing hours"),
        ({"_a": 1}, "no column is loaded"),
    ],
)
def test_what_cannot_be_is_refused_before_any_row(columns: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        g.table(DATASET, "t", 10, **columns)
    assert str(caught.value).startswith("dataset kinds, table t: ")
    assert said in caught.value.reason
    assert caught.value.remedy


def test_a_value_without_a_text_names_its_type() -> None:
    table = g.table(DATASET, "t", 1, a=lambda row: {row})
    with pytest.raises(ConfigError, match=r"^dataset kinds, table t: column a: \{1\} is a set"):
        table.blocks.block(0)


def test_a_date_is_as_of_plus_days() -> None:
    assert only(1, a=g.date(7, 7)) == [{"a": date(2026, 1, 8)}]


def test_json_with_nulls_stays_json() -> None:
    """Also a list, which would be an array in another column."""
    table = g.table(DATASET, "t", 50, j=g.nullable(g.json([1, "x"]), 0.3))
    assert set(b"".join(table.blocks).splitlines()) == {b'[1, "x"]', b"\\N"}


def test_a_pattern_may_have_no_column() -> None:
    assert only(3, a=g.text("{{hello}}")) == [{"a": "{hello}"}] * 3


@pytest.mark.parametrize("pattern", ["{a", "{b:{c}}", "{b!r}"])
def test_a_pattern_that_cannot_be_read_names_its_column(pattern: str) -> None:
    with pytest.raises(ConfigError, match=r"table t: column a: the pattern .* can't be read"):
        only(3, a=g.text(pattern), b=g.serial(), c=g.serial())


def test_shares_and_unique_values_with_weights_are_refused() -> None:
    for share in (20, 1.5, -0.1):
        with pytest.raises(ConfigError, match=r"share .* is not from 0 to 1"):
            only(3, a=g.boolean(share))
    with pytest.raises(ConfigError, match="takes no weights"):
        g.choice({"a": 1, "b": 3}, unique=True)

"""References to rows of other tables, and tables whose rows belong to a parent."""

from __future__ import annotations

from collections import Counter
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfdata import ConfigError
from perfdata import generate as g
from tests.unit.generate.kinds import dataset_of, tables_of

if TYPE_CHECKING:
    from perfdata.generate import GeneratedTable

DATASET = dataset_of()


@cache
def rows() -> dict[str, list[dict[str, Any]]]:
    return {name: list(table.records()) for name, table in tables_of(DATASET).items()}


def parents(count: int) -> GeneratedTable:
    return g.table(DATASET, "parents", count, id=g.serial(), name=g.integer(0, 10**6))


def test_references_are_keys_of_the_table_and_bring_other_values_along() -> None:
    teams = {row["id"]: row["team"] for row in rows()["people"]}
    keys = {row["key"] for row in rows()["people"]}
    for row in rows()["things"]:
        assert row["owner_team"] == teams[row["owner"]]
        assert row["maker"] in keys
    countries = Counter(row["country"] for row in rows()["things"])
    assert sorted(countries) == ["FR", "JP", "NL"]
    assert min(countries.values()) > 900


def test_zipf_prefers_some_rows() -> None:
    owners = Counter(row["owner"] for row in rows()["things"]).most_common()
    assert owners[0][1] > 3000 * 0.12  # 1 / H(5000, 1.1) = 17 %
    assert owners[0][0] != 100  # not the first row: popular ones are anywhere
    assert 500 < len(owners) < 1500


def test_children_follow_their_parents() -> None:
    pets = rows()["pets"]
    joined = {row["id"]: row["joined"] for row in rows()["people"]}
    assert [row["owner"] for row in pets] == sorted(row["owner"] for row in pets)
    sizes = Counter(Counter(row["owner"] for row in pets).values())
    assert sizes.keys() == {1, 2, 3}
    assert min(sizes.values()) > 1100  # a quarter of the people has none
    for row, following in zip(pets, [*pets[1:], {"place": 1}], strict=True):
        assert row["owner_joined"] == joined[row["owner"]]
        assert row["youngest"] == (following["place"] == 1)


def test_a_link_table_has_no_pair_twice() -> None:
    links = rows()["links"]
    assert len(links) == 2 * 5000
    assert len({(row["person"], row["thing"]) for row in links}) == len(links)
    assert len({row["thing"] for row in links}) > 2500


def test_skewed_sizes_keep_their_total() -> None:
    sizes = Counter(row["country"] for row in rows()["skewed"])
    assert sum(sizes.values()) == 300
    assert sizes["JP"] > sizes["NL"] > sizes["FR"] > 60


@given(
    count=st.integers(1, 9000),
    low=st.integers(0, 3),
    more=st.integers(0, 5),
    zipf=st.sampled_from([None, None, 0.5, 1.3]),
)
def test_blocks_of_children_join_to_whole_families(
    count: int, low: int, more: int, zipf: float | None
) -> None:
    parent = parents(count)
    given_rows = g.per(parent, low, zipf=zipf) if zipf else g.per(parent, low, low + more)
    table = g.table(DATASET, "t", given_rows, p=g.parent(), n=g.position(), last=g.is_last())
    assert table.count == low * count or not zipf
    found: Counter[int] = Counter()
    latest = 0
    for row in table.records():
        assert row["p"] == latest or row["n"] == 1
        found[row["p"]] += 1
        assert row["n"] == found[row["p"]]
        latest = row["p"]
    assert sum(found.values()) == table.count
    if not zipf:
        assert all(low <= size <= low + more for size in found.values())


def test_a_smaller_dataset_is_the_beginning_of_the_larger_within_parents() -> None:
    small, large = tables_of(dataset_of(100)), tables_of(dataset_of(5000))
    for name in ("people", "pets"):
        content = b"".join(small[name].blocks)
        assert content
        assert b"".join(large[name].blocks).startswith(content)


def test_zipf_shares_are_those_of_the_law() -> None:
    from fractions import Fraction

    from perfdata.generate.zipf import Zipf

    for exponent in (0.7, 1.0, 1.1, 2.0):
        law = Zipf(10_000, Fraction(str(exponent)))
        total = sum(rank**-exponent for rank in range(1, 10_001))
        for rank in (1, 2, 10, 100, 1000, 9999):
            share = (law.before(rank) - law.before(rank - 1)) / law.total
            assert share == pytest.approx(rank**-exponent / total, rel=0.02)
        for point in (0, law.total // 3, law.total - 1):
            rank = law.rank(point)
            assert law.before(rank) <= point


@pytest.mark.parametrize(
    ("count", "column", "said"),
    [
        (0, "ref", "column a: there is no row of parents to refer to"),
        (3, "distinct", "column a: a parent has up to 4 rows, parents only 3"),
        (9, "zipf", "zipf is 1.25, not a number up to 5 with one decimal"),
        (9, "column", "column a: table parents has no column code"),
        (9, "both", "column a: distinct=True is without zipf"),
        (9, "parent", "column a: table parents has no column nme"),
    ],
)
def test_references_that_cannot_be_are_refused(count: int, column: str, said: str) -> None:
    table = parents(count)
    kinds = {
        "ref": g.ref(table),
        "distinct": g.ref(table, distinct=True),
        "zipf": g.ref(table, zipf=1.25),
        "column": g.ref(table, "code"),
        "both": g.ref(table, zipf=1, distinct=True),
        "parent": g.parent("nme"),
    }
    with pytest.raises(ConfigError, match="dataset kinds, table t") as caught:
        g.table(DATASET, "t", g.per(parents(5), 4), a=kinds[column])
    assert said in caught.value.reason


def test_keys_that_a_function_makes_of_the_row_are_references_too() -> None:
    table = g.table(DATASET, "parents", 9000, code=lambda row: f"C{row}")
    children = g.table(DATASET, "t", 100, code=g.ref(table), next=g.earlier(), id=g.serial())
    rows = list(children.records())
    assert all(1 <= int(row["code"].removeprefix("C")) <= 9000 for row in rows)
    assert all(row["next"] < row["id"] for row in rows[1:])


def test_a_number_of_rows_that_is_none_is_refused() -> None:
    for given_rows in (-1, g.per(parents(3), 2, 1), g.per(parents(3), 1, 2, zipf=1)):
        with pytest.raises(ConfigError, match="dataset kinds, table t: "):
            g.table(DATASET, "t", given_rows, a=1)


def test_a_constant_is_no_key() -> None:
    """Where a table has no id, the first column of keys is taken."""
    table = g.table(DATASET, "t", 4, tenant="A", code=g.serial(), before=g.earlier())
    first, *others = [row["before"] for row in table.records()]
    assert first is None
    assert set(others) <= {1, 2, 3}
    parent = g.table(DATASET, "p", 2, flag=True, code=g.serial(7))
    child = g.table(DATASET, "c", g.per(parent, 1), parent=g.parent())
    assert [row["parent"] for row in child.records()] == [7, 8]


def test_one_parent_of_several_blocks_has_its_rows_in_order() -> None:
    parent = g.table(DATASET, "p", 2, id=g.serial())
    child = g.table(
        DATASET, "c", g.per(parent, 9000), p=g.parent(), n=g.position(), last=g.is_last()
    )
    found = [(row["p"], row["n"], row["last"]) for row in child.records()]
    assert found == [(p, n, n == 9000) for p in (1, 2) for n in range(1, 9001)]


@given(st.integers(2, 12), st.integers(1, 6), st.sampled_from([0.1, 0.2, 0.5, 1.0]))
def test_links_of_skewed_parents_are_distinct_or_refused(count: int, low: int, zipf: float) -> None:
    """Rounding may give a later parent one row more than the first."""
    parent = g.table(DATASET, "p", count, id=g.serial())
    groups = g.table(DATASET, "g", low, id=g.serial())
    try:
        links = g.table(
            DATASET,
            "l",
            g.per(parent, low, zipf=zipf),
            p=g.parent(),
            g=g.ref(groups, distinct=True),
        )
    except ConfigError:
        return
    found = [(row["p"], row["g"]) for row in links.records()]
    assert len(set(found)) == len(found)


def test_parents_of_one_first_link_differ_in_the_others() -> None:
    parent = g.table(DATASET, "p", 4096, id=g.serial())
    groups = g.table(DATASET, "g", 1024, id=g.serial())
    links = g.table(DATASET, "l", g.per(parent, 3), p=g.parent(), g=g.ref(groups, distinct=True))
    sets: dict[int, list[int]] = {}
    for row in links.records():
        sets.setdefault(row["p"], []).append(row["g"])
    assert len({tuple(each) for each in sets.values()}) > 3000

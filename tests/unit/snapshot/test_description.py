"""Columns are counted exactly up to a limit, and estimated beyond it."""

from __future__ import annotations

import pytest

from perfdata import ProjectCodeError
from perfdata.snapshot.description.columns import (
    EXACT_DISTINCT,
    DistinctValues,
    TableCounter,
    text_rows,
)
from perfdata.tasks.dataset_output import _share

NULL = r"\N"


def counted(lines: list[str], columns: tuple[str, ...] = ("a", "b")) -> TableCounter:
    """Count lines, a thousand in a block."""
    counter = TableCounter(columns, "t")
    for first in range(0, len(lines), 1000):
        block = "".join(f"{line}\n" for line in lines[first : first + 1000]).encode()
        for rows in text_rows([block]):
            counter.add(rows)
    return counter


def test_nulls_and_distinct_values_are_exact() -> None:
    counter = counted([f"{n}\t{n % 3 or NULL}" for n in range(EXACT_DISTINCT)])
    a, b = counter.described()
    assert (counter.rows, a.nulls, a.distinct) == (20_000, 0, DistinctValues(20_000, 0.0))
    assert (b.name, b.nulls, b.distinct) == ("b", 6667, DistinctValues(2, 0.0))


def test_an_empty_text_is_a_value_and_the_text_backslash_n_is_no_null() -> None:
    a, b = counted(["\t\\\\N", "\t\\N"]).described()
    assert (a.nulls, a.distinct.count) == (0, 1)
    assert (b.nulls, b.distinct.count) == (1, 1)


@pytest.mark.parametrize("distinct", [EXACT_DISTINCT + 1, 50_000, 120_000])
def test_many_distinct_values_are_estimated_the_same_way_each_time(distinct: int) -> None:
    lines = [f"{n % distinct}\t{n * 7 % distinct}" for n in range(150_000)]
    a, b = counted(lines).described()
    assert a.distinct == b.distinct  # 7 and these numbers are coprime: the same values
    assert a.distinct.error == pytest.approx(0.0156, abs=1e-4)
    assert abs(a.distinct.count / distinct - 1) < 3 * a.distinct.error


def test_a_row_of_another_width_is_named() -> None:
    with pytest.raises(ProjectCodeError, match="t: row 3 has 1 values for 2 columns"):
        counted(["1\t2", "3\t4", "5"])


def test_columns_without_names_are_numbered() -> None:
    assert [column.name for column in counted(["1\t2"], ()).described()] == [
        "column 1",
        "column 2",
    ]


@pytest.mark.parametrize(
    ("nulls", "rows", "shown"),
    [
        (0, 0, "0 %"), (0, 9, "0 %"), (1, 3, "33.3 %"), (9, 9, "100 %"), (1, 10_000, "< 0.1 %"),
        (9_999, 10_000, "> 99.9 %"), (2, 4, "50 %"),
    ],
)  # fmt: skip
def test_none_and_all_are_exact(nulls: int, rows: int, shown: str) -> None:
    assert _share(nulls, rows) == shown

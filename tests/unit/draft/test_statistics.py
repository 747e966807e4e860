"""Statistics become shapes: rounded numbers, weights and exponents."""

from __future__ import annotations

import pytest

from perfdata.draft import statistics
from perfdata.draft.statistics import ColumnStatistics, _column, _exponent, _rounded


@pytest.mark.parametrize(
    ("number", "rounded"), [(0, 0), (7, 7), (99, 99), (101, 100), (12_345, 12_000), (996, 1000)]
)
def test_numbers_have_two_digits(number: int, rounded: int) -> None:
    assert _rounded(number) == rounded


def test_few_values_have_weights_and_many_a_number() -> None:
    assert _column(1000, 0.104, 2.0, [0.8, 0.1]) == ColumnStatistics(0.1, 2, (800, 100), None)
    assert _column(1000, 0.0, 250.0, []) == ColumnStatistics(0.0, 250, (), None)


def test_a_column_of_different_values_has_no_number_of_them() -> None:
    assert _column(1000, 0.0, -1.0, []).distinct == 0
    assert _column(1000, 0.25, -0.75, []).distinct == 0
    assert _column(1000, 0.0, -0.5, []).distinct == 500


@pytest.mark.parametrize("exponent", [0.5, 0.8, 1.1, 1.5])
def test_the_exponent_is_found_from_the_share_of_the_first(exponent: float) -> None:
    first = 1 / sum(rank**-exponent for rank in range(1, 1001))
    assert _exponent(1000, first) == exponent


def test_even_values_have_no_exponent() -> None:
    assert _exponent(1000, 0.0011) is None
    assert _exponent(1, 1.0) is None


def test_no_query_names_values_of_rows() -> None:
    queries = statistics._TABLES + statistics._COLUMNS
    for column in ("most_common_vals", "histogram_bounds", "most_common_elems", "*"):
        assert column not in queries

"""Excerpts of long statements: FROM and WHERE instead of every column."""

from __future__ import annotations

import pytest

from perfdata.perf.gate.excerpts import shorten

COLUMNS = ", ".join(f"orders.column_{number} AS orders_column_{number}" for number in range(30))
FIRST = "orders.column_0 AS orders_column_0, …"
LONG = "CASE WHEN orders.total > ? AND orders.paid_at IS NULL THEN ? ELSE ? END AS state"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SELECT a, b FROM t", "SELECT a, b FROM t"),
        (
            f"SELECT {COLUMNS} FROM orders WHERE orders.customer_id = ?",
            f"SELECT {FIRST} FROM orders WHERE orders.customer_id = ?",
        ),
        (
            f"SELECT DISTINCT {COLUMNS} FROM orders JOIN customers ON b = c WHERE d IN (?)",
            f"SELECT DISTINCT {FIRST} FROM orders JOIN customers ON b = c WHERE d IN (?)",
        ),
        (
            f"SELECT {LONG}, {COLUMNS} FROM orders WHERE a = ?",
            "SELECT … FROM orders WHERE a = ?",
        ),
        (
            f"SELECT a, EXTRACT(YEAR FROM b), (SELECT {COLUMNS} FROM c WHERE d = ?), e IS NOT "
            f"DISTINCT FROM f, {COLUMNS} FROM orders WHERE a = ?",
            "SELECT a, … FROM orders WHERE a = ?",
        ),
        (
            f"WITH r AS (SELECT {COLUMNS} FROM orders WHERE a > ?) SELECT {COLUMNS} FROM r",
            f"WITH r AS (SELECT {FIRST} FROM orders WHERE a > ?) SELECT {FIRST} FROM r",
        ),
        (
            f'SELECT "a from, b", {COLUMNS} FROM orders',
            'SELECT "a from, b", … FROM orders',
        ),
        (
            f"UPDATE orders SET {COLUMNS} WHERE orders.id = ? RETURNING orders.id",
            f"UPDATE orders SET {FIRST} WHERE orders.id = ? RETURNING orders.id",
        ),
        (
            f"SELECT {COLUMNS} FROM orders UNION ALL SELECT {COLUMNS} FROM old WHERE a = ?",
            f"SELECT {FIRST} FROM orders UNION ALL SELECT {FIRST} FROM old WHERE a = ?",
        ),
    ],
)
def test_a_list_of_columns_is_cut_to_its_first(text: str, expected: str) -> None:
    assert shorten(text) == expected


def test_between_from_and_where_the_middle_is_left_out() -> None:
    joins = " ".join(f"JOIN table_{number} ON a = b" for number in range(30))
    short = shorten(f"SELECT a, b FROM orders {joins} WHERE orders.customer_id = ?")
    assert short.startswith("SELECT … FROM orders JOIN table_0 ON a = b")
    assert short.endswith("… WHERE orders.customer_id = ?")
    assert len(short) < 160


@pytest.mark.parametrize(
    "text", ["VACUUM " + "x" * 500, f"SELECT {'x' * 500}", "INSERT INTO t (" + "a, " * 200 + "b)"]
)
def test_other_text_is_cut_at_its_end(text: str) -> None:
    assert shorten(text) == f"{text[:160]}…"

"""A shop whose orders have the flag; tables without it that reference them; real rows beside."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import TYPE_CHECKING

import pytest

from perfdata import Dataset, Project, TableRows, Target
from perfdata.postgres.url import normalise_url
from tests.integration.databases import run
from tests.integration.inner import entry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from perfdata import Settings

THROUGH = ("lines.order_id", "audit.log.line_id")
TABLES = (
    "CREATE SCHEMA audit",
    "CREATE TABLE products (id int PRIMARY KEY, is_test_data boolean)",
    "CREATE TABLE orders (id int PRIMARY KEY, is_test_data boolean)",
    "CREATE TABLE lines (id int PRIMARY KEY, order_id int REFERENCES orders ON DELETE CASCADE,"
    " product_id int REFERENCES products)",
    "CREATE TABLE audit.log (id int PRIMARY KEY, line_id int REFERENCES lines, said text)",
)
REAL = (
    "INSERT INTO products VALUES (1, null)",
    "INSERT INTO orders VALUES (1, false), (2, null)",
    "INSERT INTO lines VALUES (1, 1, 1), (2, 2, 1), (3, null, null)",
    "INSERT INTO audit.log VALUES (1, 1, 'a real line'), (2, 3, 'a line without an order'),"
    " (3, null, 'nothing')",
)
# What somebody wrote in the application for an order of the dataset.
ADDED = (
    "INSERT INTO lines VALUES (900, 101, 1)",
    "INSERT INTO audit.log VALUES (900, 900, 'a tester'), (901, 101, 'a tester')",
)
# What leaves the real rows alone.
EMPTIED = (
    "DELETE FROM audit.log WHERE id > 100",
    "DELETE FROM orders WHERE is_test_data",
)


def _rows(key: str, columns: str, rows: list[str]) -> TableRows:
    return TableRows(key, tuple(columns.split()), [f"{row}\n".encode() for row in rows])


def generate(dataset: Dataset) -> Iterator[TableRows]:
    """Yield orders from 101 on, each with a line, and a log of each line."""
    ids = range(101, 101 + dataset.parameters["orders"])
    yield _rows("orders", "id is_test_data", [f"{n}\tt" for n in ids])
    yield _rows("lines", "id order_id", [f"{n}\t{n}" for n in ids])
    yield _rows("audit.log", "id line_id said", [f"{n}\t{n}\tshop" for n in ids])


def _of_real_order(_dataset: Dataset) -> Iterator[TableRows]:
    """Yield a line of a real order."""
    yield _rows("lines", "id order_id", ["800\t1"])


def _of_missing_order(_dataset: Dataset) -> Iterator[TableRows]:
    """Yield the order that a real line references, which did not exist."""
    yield _rows("orders", "id is_test_data", ["77\tt"])


def _dataset(name: str, orders: int = 0, **fields: object) -> Dataset:
    dataset = Dataset(
        name=name, generate=generate, as_of=date(2026, 1, 1), parameters={"orders": orders}
    )
    return replace(dataset, **fields)  # type: ignore[arg-type]


project = Project(
    name="shop",
    datasets=(
        _dataset("10", 10),
        _dataset("100", 100),
        _dataset("of_real_order", generate=_of_real_order),
        _dataset("of_missing_order", generate=_of_missing_order),
    ),
)


@pytest.fixture
def covered_shop(empty_url: str, settings: Settings, tmp_path: Path) -> Target:
    """The shop with its real rows, in a database that is allowed and not owned."""
    run(empty_url, *TABLES, *REAL)
    own = replace(
        settings,
        home=tmp_path / "home",
        project="tests.integration.covered_shop:project",
        allow=(entry(empty_url),),
        flag_through=THROUGH,
    )
    return Target(own, normalise_url(empty_url), embedded=False)

"""A shop without the flag anywhere: its tables, its project, and a database that perfdata owns."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import TYPE_CHECKING

import pytest

from perfdata import Dataset, Project, TableRows, Target
from perfdata.postgres.url import normalise_url
from tests.integration.databases import mark_owned, run
from tests.integration.inner import entry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from perfdata import Settings

TABLES = (
    "CREATE TABLE country (code text PRIMARY KEY)",
    "CREATE TABLE customer (id serial PRIMARY KEY, name text NOT NULL)",
    'CREATE TABLE "order" (id serial PRIMARY KEY, customer_id int NOT NULL REFERENCES customer)',
    "CREATE TABLE note (id serial PRIMARY KEY, text text)",
    "INSERT INTO country VALUES ('jp'), ('at')",
)


def customers(count: int) -> TableRows:
    lines = (f"{n}\tcustomer {n}\n".encode() for n in range(1, count + 1))
    return TableRows("customer", ("id", "name"), lines)


def generate(dataset: Dataset) -> Iterator[TableRows]:
    """Yield orders before customers, whose rows decide how many orders there are."""
    count = dataset.parameters["customers"]
    ids: list[int] = []

    def lines() -> Iterator[bytes]:
        for n in range(1, count + 1):
            ids.append(n)
            yield f"{n}\tcustomer {n}\n".encode()

    yield TableRows("customer", ("id", "name"), lines())
    yield TableRows("order", ("id", "customer_id"), (f"{n}\t{n}\n".encode() for n in ids))


def generate_customers(dataset: Dataset) -> Iterator[TableRows]:
    """Yield no orders."""
    yield customers(dataset.parameters["customers"])


def generate_flagged(dataset: Dataset) -> Iterator[TableRows]:
    """Yield flagged customers only."""
    count = dataset.parameters["customers"]
    lines = (f"{n}\tcustomer {n}\tt\n".encode() for n in range(1, count + 1))
    yield TableRows("customer", ("id", "name", "is_test_data"), lines)


def _dataset(name: str, count: int, **fields: object) -> Dataset:
    dataset = Dataset(
        name=name, generate=generate, as_of=date(2026, 1, 1), parameters={"customers": count}
    )
    return replace(dataset, **fields)  # type: ignore[arg-type]


project = Project(
    name="shop",
    datasets=(
        _dataset("100", 100),
        _dataset("10", 10),
        _dataset("customers", 5, generate=generate_customers),
        _dataset("flagged", 20, generate=generate_flagged),
    ),
)


@pytest.fixture
def shop_elsewhere(empty_url: str, settings: Settings, tmp_path: Path) -> Target:
    """The shop in a database that is allowed and not owned."""
    run(empty_url, *TABLES)
    own = replace(
        settings,
        home=tmp_path / "home",
        project="tests.integration.unflagged_shop:project",
        allow=(entry(empty_url),),
    )
    return Target(own, normalise_url(empty_url), embedded=False)


@pytest.fixture
def owned_shop(shop_elsewhere: Target) -> Target:
    """The shop in a database that perfdata owns."""
    mark_owned(shop_elsewhere.conninfo)
    return shop_elsewhere

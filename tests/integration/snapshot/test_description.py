"""A description says what the database would hold, and needs none."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import TYPE_CHECKING

import psycopg
import pytest

from perfdata import (
    Dataset,
    Project,
    ProjectCodeError,
    TableRows,
    Target,
    build_dataset,
    create_snapshot,
    describe_dataset,
)
from perfdata.project import load_project
from perfdata.snapshot.checks.state import State, snapshot_state
from perfdata.snapshot.description.columns import binary_rows
from tests.integration.databases import run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from perfdata import Settings

COUNTS = """
SELECT count(*), count(*) FILTER (WHERE "{0}" IS NULL), count(DISTINCT "{0}"::text) FROM "{1}"
"""


def generate(_dataset: Dataset) -> Iterator[TableRows]:
    """Yield rows whose text needs the tables' columns."""
    rows = TableRows("country", ("code",), [b"fr\n", b"it\n"])
    object.__setattr__(rows, "rows", [{"code": "fr"}, {"code": "it"}])
    yield rows


def broken(_dataset: Dataset) -> Iterator[TableRows]:
    """Yield fewer values than columns."""
    yield TableRows("country", ("code", "name"), [b"fr\n"])


project = Project(
    name="python",
    datasets=(
        Dataset(name="python", generate=generate, as_of=date(2026, 1, 1)),
        Dataset(name="broken", generate=broken, as_of=date(2026, 1, 1)),
    ),
)


def test_rows_nulls_and_distinct_values_are_those_of_the_database(
    loaded_url: Callable[[str], str], settings: Settings
) -> None:
    url = loaded_url("10_offices")
    build_dataset(Target(settings, url, embedded=True), "10_offices")
    described = describe_dataset("10_offices", settings=settings)
    assert described.rows == 411
    assert described.measured
    for table in described.tables:
        for column in table.columns:
            found = run(url, COUNTS.format(column.name, table.table))
            assert found == [(table.rows, column.nulls, column.distinct.count)], column


def test_copy_text_is_described_without_a_database(settings: Settings, tmp_path: Path) -> None:
    nowhere = replace(settings, home=tmp_path / "home")
    described = describe_dataset("10_offices", settings=nowhere)
    assert (described.snapshot.state, described.measured) == (State.NONE, False)
    assert 10_000 < described.snapshot_bytes < 40_000
    assert described.database_bytes > 8_000_000
    assert described.fingerprint == load_project(settings).dataset("10_offices").fingerprint()
    assert not (nowhere.home / "server").exists()


def test_the_database_is_opened_for_python_values(shop_elsewhere: Target) -> None:
    settings = replace(
        shop_elsewhere.settings,
        project="tests.integration.snapshot.test_description:project",
        database_url=shop_elsewhere.conninfo,
    )
    (country,) = describe_dataset("python", settings=settings).tables
    assert (country.table, country.rows, country.columns[0].distinct.count) == ("country", 2, 2)
    with pytest.raises(ProjectCodeError, match="country: row 1 has 1 values for 2 columns"):
        describe_dataset("broken", settings=settings)


@pytest.mark.parametrize("size", [1, 7, 100, 10_000])
def test_binary_rows_are_read_wherever_blocks_end(empty_url: str, size: int) -> None:
    query = "SELECT g, nullif(g % 3, 0)::text, repeat('x', g) FROM generate_series(1, 50) g"
    with (
        psycopg.connect(empty_url) as connection,
        connection.cursor().copy(f"COPY ({query}) TO STDOUT (FORMAT binary)") as copy,
    ):
        data = b"".join(copy)
    blocks = [data[:19], *(data[at : at + size] for at in range(19, len(data), size))]
    rows = [row for block in binary_rows(blocks) for row in block]
    assert rows == [
        [n.to_bytes(4, "big"), str(n % 3).encode() if n % 3 else None, b"x" * n]
        for n in range(1, 51)
    ]


def test_the_state_of_a_snapshot_says_why_it_is_not_current(owned_shop: Target) -> None:
    settings, shop = owned_shop.settings, owned_shop.project
    assert shop is not None

    def state(project: Project = shop) -> tuple[State, str]:
        return snapshot_state("10", project, settings)[:2]

    assert state() == (State.NONE, "")
    built = build_dataset(owned_shop, "10").snapshot
    assert built is not None
    assert state() == (State.CURRENT, "")
    other = replace(shop, datasets=(replace(shop.dataset("10"), seed=1),))
    assert state(other) == (
        State.STALE,
        "snapshot 10 was made from another definition of its dataset",
    )
    create_snapshot(owned_shop.conninfo, "10", replace=True, settings=settings)
    assert state() == (State.BY_HAND, "snapshot 10 was created by hand")
    built.path.write_bytes(b"x")
    assert state()[0] is State.DAMAGED

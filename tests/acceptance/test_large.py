"""Large tables and rows: what takes seconds to make, and would fill a memory."""

from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING

import pytest

from perfdata import LoadError, create_snapshot, diff_snapshots
from tests.integration.databases import run

if TYPE_CHECKING:
    from perfdata import Settings

NAME = "large"


def test_memory_does_not_grow_with_the_rows(empty_url: str, settings: Settings) -> None:
    """All rows of 200,000 differ; their hashes alone as Python's numbers would be 25 MB."""
    run(
        empty_url,
        "CREATE TABLE many (id bigint PRIMARY KEY, v text)",
        "INSERT INTO many SELECT n, md5(n::text) FROM generate_series(1, 200000) n",
    )
    create_snapshot(empty_url, NAME, all_rows=True, replace=True, settings=settings)
    run(empty_url, "UPDATE many SET v = v || 'x' WHERE id % 2 = 0")
    run(empty_url, "UPDATE many SET id = -id WHERE id % 2 = 1")
    tracemalloc.start()
    found = diff_snapshots(NAME, database=empty_url, settings=settings)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    (table,) = found.tables
    assert (table.added, table.removed, table.changed) == (100_000, 100_000, 100_000)
    assert peak < 20_000_000


def test_the_table_of_a_row_that_is_too_long_is_named(empty_url: str, settings: Settings) -> None:
    """A server makes no JSON of over 1 GB: a character that JSON writes as six makes it so."""
    run(
        empty_url,
        "CREATE TABLE long (id int PRIMARY KEY, t text)",
        "INSERT INTO long VALUES (1, 'short'), (77, repeat(E'\\x01', 180000000)), (3, 'x')",
    )
    with pytest.raises(LoadError, match="long: a row is too long to be saved"):
        create_snapshot(empty_url, NAME, all_rows=True, replace=True, settings=settings)

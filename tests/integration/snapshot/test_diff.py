"""Which rows differ: between two snapshots, and between one and the database."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from perfdata import (
    ConfigError,
    Difference,
    Settings,
    SnapshotDamagedError,
    TableDifference,
    create_snapshot,
    diff_snapshots,
)
from tests.integration.databases import run

if TYPE_CHECKING:
    from collections.abc import Callable

ZOO = (
    "CREATE TABLE keyed (b text, a int, v text, is_test_data boolean DEFAULT true,"
    " PRIMARY KEY (a, b))",
    "CREATE TABLE loose (v text, w text, is_test_data boolean DEFAULT true)",
    "CREATE TABLE same (id int PRIMARY KEY, is_test_data boolean DEFAULT true)",
    """INSERT INTO keyed VALUES ('x,"y', 1, 'one'), (E'\\n\\\\', 1, 'two'), ('z', 2, NULL)""",
    "INSERT INTO loose VALUES ('a', 'b'), ('a', 'b'), (NULL, ''), (NULL, NULL)",
    "INSERT INTO same SELECT n FROM generate_series(1, 100) n",
)


def counts(found: Difference) -> dict[str, tuple[int, int, int]]:
    return {one.table: (one.added, one.removed, one.changed) for one in found.tables}


def table(found: Difference, key: str) -> TableDifference:
    return next(one for one in found.tables if one.table == key)


@pytest.fixture
def zoo(empty_url: str, settings: Settings) -> str:
    run(empty_url, *ZOO)
    create_snapshot(empty_url, "before", replace=True, settings=settings)
    return empty_url


@pytest.fixture(params=["database", "snapshot"])
def diff(request: pytest.FixtureRequest, zoo: str, settings: Settings) -> Callable[..., Difference]:
    """Compare with what the database holds now: directly, and by a snapshot of it."""

    def compare(limit: int = 5) -> Difference:
        if request.param == "database":
            return diff_snapshots("before", database=zoo, limit=limit, settings=settings)
        create_snapshot(zoo, "after", replace=True, settings=settings)
        return diff_snapshots("before", "after", limit=limit, settings=settings)

    return compare


def test_the_same_is_told(diff: Callable[..., Difference]) -> None:
    found = diff()
    assert found.same
    assert found.tables == ()


def test_rows_are_added_removed_and_changed_by_key(
    zoo: str, diff: Callable[..., Difference]
) -> None:
    run(
        zoo,
        "UPDATE keyed SET v = 'new' WHERE a = 1 AND b = 'x,\"y'",
        "DELETE FROM keyed WHERE b = E'\\n\\\\'",
        "INSERT INTO keyed VALUES ('q', 9, 'nine')",
    )
    found = diff()
    assert not found.same
    assert counts(found) == {"keyed": (1, 1, 1)}
    samples = table(found, "keyed").samples
    assert [one.key for one in samples["added"]] == [{"a": "9", "b": "q"}]
    assert [one.key for one in samples["removed"]] == [{"a": "1", "b": "\n\\"}]
    changed = samples["changed"][0]
    assert changed.key == {"a": "1", "b": 'x,"y'}
    assert changed.changed == {"v": ("one", "new")}
    assert (table(found, "keyed").rows_before, table(found, "keyed").rows_after) == (3, 3)


def test_tables_without_a_key_are_multisets(zoo: str, diff: Callable[..., Difference]) -> None:
    run(zoo, "INSERT INTO loose VALUES ('a', 'b'), ('', NULL)", "DELETE FROM loose WHERE w = ''")
    found = diff()
    assert counts(found) == {"loose": (2, 1, 0)}
    assert {one.key["v"] for one in table(found, "loose").samples["added"]} == {"a", ""}
    assert table(found, "loose").samples["removed"][0].key == {
        "v": None, "w": "", "is_test_data": "true",
    }  # fmt: skip


def test_samples_are_limited_and_counts_are_not(zoo: str, diff: Callable[..., Difference]) -> None:
    run(zoo, "DELETE FROM same WHERE id > 10")
    found = diff(limit=3)
    assert counts(found) == {"same": (0, 90, 0)}
    assert len(table(found, "same").samples["removed"]) == 3
    assert table(diff(limit=0), "same").samples == {}


def test_other_tables_and_columns_are_named_and_common_columns_compared(
    zoo: str, diff: Callable[..., Difference]
) -> None:
    run(
        zoo,
        "ALTER TABLE keyed DROP COLUMN v, ADD COLUMN w text",
        "UPDATE keyed SET w = 'anything'",
        "DROP TABLE loose",
        "CREATE TABLE more (is_test_data boolean)",
        "INSERT INTO more VALUES (true), (NULL)",
        "DELETE FROM keyed WHERE a = 2",
    )
    found = diff()
    assert counts(found) == {"keyed": (0, 1, 0), "loose": (0, 4, 0), "more": (1, 0, 0)}
    keyed, loose, more = found.tables
    assert (keyed.columns_added, keyed.columns_removed) == (["w"], ["v"])
    assert (loose.rows_before, loose.rows_after) == (4, None)
    assert (more.rows_before, more.rows_after) == (None, 1)


def test_a_table_without_columns_is_compared_by_its_rows(
    empty_url: str, settings: Settings
) -> None:
    run(empty_url, "CREATE TABLE bare ()", "INSERT INTO bare DEFAULT VALUES")
    create_snapshot(empty_url, "bare", all_rows=True, replace=True, settings=settings)
    assert diff_snapshots("bare", database=empty_url, settings=settings).same
    run(empty_url, "INSERT INTO bare DEFAULT VALUES")
    found = diff_snapshots("bare", database=empty_url, settings=settings)
    assert counts(found) == {"bare": (1, 0, 0)}


def test_one_of_the_two_is_to_be_named(zoo: str, settings: Settings) -> None:
    with pytest.raises(ConfigError, match="Name one"):
        diff_snapshots("before", settings=settings)
    with pytest.raises(ConfigError, match="Name one"):
        diff_snapshots("before", "before", database=zoo, settings=settings)


def test_a_damaged_file_is_found_first(zoo: str, settings: Settings) -> None:
    path = create_snapshot(zoo, "hurt", replace=True, settings=settings).path
    data = bytearray(path.read_bytes())
    data[-20] ^= 1
    path.write_bytes(data)
    with pytest.raises(SnapshotDamagedError):
        diff_snapshots("hurt", database=zoo, settings=settings)
    path.unlink()

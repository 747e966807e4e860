"""A snapshot's file against a database's rows, by digests of tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest

from perfdata import (
    ConnectError,
    Settings,
    SnapshotDiffersError,
    aio,
    create_snapshot,
    restore_snapshot,
    verify_snapshot,
)
from tests.integration.databases import run

if TYPE_CHECKING:
    from collections.abc import Callable

REAL = (
    "INSERT INTO staffs (id, email, hashed_password, full_name, role) VALUES"
    " ('00000000-0000-4000-8000-000000000001', 'real@real.test', 'x', 'r', 'owner')"
)


@pytest.fixture
def loaded(loaded_url: Callable[[str], str], settings: Settings) -> str:
    url = loaded_url("10_offices")
    create_snapshot(url, "verified", replace=True, settings=settings)
    return url


def differing(database: object, settings: Settings, name: str = "verified") -> dict[str, str]:
    with pytest.raises(SnapshotDiffersError) as caught:
        verify_snapshot(name, settings, database=database)
    assert f"snapshot.diff --name {name}" in str(caught.value)
    assert all(table in str(caught.value) for table in caught.value.tables)
    return caught.value.tables


def test_where_it_came_from_and_where_it_went_are_the_same(
    loaded: str, database_url: str, settings: Settings
) -> None:
    assert verify_snapshot("verified", settings, database=loaded).manifest.rows == 411
    restore_snapshot(database_url, "verified", settings=settings)
    assert verify_snapshot("verified", settings, database=database_url).name == "verified"


def test_one_value_of_one_row_is_found_and_its_table_named(loaded: str, settings: Settings) -> None:
    run(loaded, "UPDATE offices SET name = name || ' ' WHERE id = (SELECT id FROM offices LIMIT 1)")
    assert differing(loaded, settings) == {"offices": "10 rows in both, not all the same"}


def test_rows_that_are_missing_or_too_many_are_counted(loaded: str, settings: Settings) -> None:
    run(loaded, "DELETE FROM support_plan_cycles WHERE id = 1")
    found = differing(loaded, settings)
    assert found == {"support_plan_cycles": "100 rows in the snapshot, 99 in the database"}


def test_two_rows_that_change_values_are_found(loaded: str, settings: Settings) -> None:
    """A sum over columns, or over values, would be the same."""
    run(
        loaded,
        "UPDATE support_plan_cycles a SET created_at = b.created_at FROM support_plan_cycles b"
        " WHERE (a.id, b.id) IN ((1, 2), (2, 1))",
    )
    assert list(differing(loaded, settings)) == ["support_plan_cycles"]


def test_the_order_of_rows_and_of_columns_does_not_matter(loaded: str, settings: Settings) -> None:
    run(
        loaded,
        "CREATE TABLE moved AS SELECT * FROM support_plan_cycles ORDER BY id DESC",
        "DELETE FROM support_plan_cycles",
        "ALTER TABLE support_plan_cycles DROP COLUMN cycle_number",
        "ALTER TABLE support_plan_cycles ADD COLUMN cycle_number integer",
        "INSERT INTO support_plan_cycles SELECT (json_populate_record(NULL::support_plan_cycles,"
        " row_to_json(m))).* FROM moved m",
        "DROP TABLE moved",
    )
    verify_snapshot("verified", settings, database=loaded)


def test_rows_that_are_not_test_data_do_not_count(loaded: str, settings: Settings) -> None:
    run(loaded, REAL)
    verify_snapshot("verified", settings, database=loaded)


def test_an_all_rows_snapshot_is_compared_with_all_rows(loaded: str, settings: Settings) -> None:
    create_snapshot(loaded, "all_rows", all_rows=True, replace=True, settings=settings)
    verify_snapshot("all_rows", settings, database=loaded)
    run(loaded, REAL)
    found = differing(loaded, settings, "all_rows")
    assert found == {"staffs": "51 rows in the snapshot, 52 in the database"}


def test_other_tables_and_columns_are_named(loaded: str, settings: Settings) -> None:
    run(
        loaded,
        "ALTER TABLE offices ADD COLUMN extra text",
        "CREATE TABLE more (is_test_data boolean)",
        "DROP TABLE office_staffs",
    )
    assert differing(loaded, settings) == {
        "offices": "only one of them has extra",
        "more": "not in the snapshot",
        "office_staffs": "not in the database",
    }


def test_a_callers_transaction_is_joined_and_left_as_it_was(
    loaded: str, settings: Settings
) -> None:
    with psycopg.connect(loaded) as connection:
        connection.execute("DELETE FROM support_plan_cycles")
        assert list(differing(connection, settings)) == ["support_plan_cycles"]
        connection.rollback()
        connection.execute("SET datestyle = 'German, DMY'")
        connection.execute("SET extra_float_digits = -15")
        verify_snapshot("verified", settings, database=connection)
        assert connection.execute("SHOW datestyle").fetchone() == ("German, DMY",)


def test_a_database_that_is_not_there_is_told(loaded: str, settings: Settings) -> None:
    with pytest.raises(ConnectError):
        verify_snapshot("verified", settings, database=loaded.replace("/test_", "/no_"))


@pytest.mark.asyncio
async def test_the_same_for_asynchronous_callers(loaded: str, settings: Settings) -> None:
    await aio.verify_snapshot("verified", settings, database=loaded)
    run(loaded, "DELETE FROM support_plan_cycles WHERE id = 1")
    with pytest.raises(SnapshotDiffersError):
        await aio.verify_snapshot("verified", settings, database=loaded)
    async with await psycopg.AsyncConnection.connect(loaded) as connection:
        found = await aio.diff_snapshots("verified", database=connection, settings=settings)
    assert [one.removed for one in found.tables] == [1]

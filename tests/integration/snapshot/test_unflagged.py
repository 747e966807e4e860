"""Tables without the flag: replaced in owned databases while they hold what perfdata loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from perfdata import (
    BoundaryError,
    LoadError,
    RefusedError,
    SchemaError,
    build_dataset,
    create_snapshot,
    provide_dataset,
    restore_snapshot,
)
from perfdata.templates.provenance import recorded_migration
from tests.integration.databases import mark_owned, run

if TYPE_CHECKING:
    from collections.abc import Callable

    from perfdata import PerfdataError, Target

    State = Callable[[str], Any]


def counts(target: Target) -> tuple[int, ...]:
    """Return the numbers of customers, orders, countries and notes."""
    tables = ("customer", '"order"', "country", "note")
    query = f"SELECT {', '.join(f'(SELECT count(*) FROM {table})' for table in tables)}"
    return tuple(run(target.conninfo, query)[0])


def restore(target: Target, name: str, **options: Any) -> Any:
    return restore_snapshot(target.conninfo, name, settings=target.settings, **options)


def refuse(
    target: Target, state: State, error: type[PerfdataError], said: str, **options: Any
) -> None:
    """Check that neither a restore nor a build of 100 touches anything."""
    before = state(target.conninfo)
    with pytest.raises(error, match=said):
        restore(target, "100", **options)
    if not options:
        with pytest.raises(error, match=said):
            build_dataset(target, "100")
    assert state(target.conninfo) == before


def test_a_dataset_fills_and_replaces_tables_without_the_flag(owned_shop: Target) -> None:
    built = build_dataset(owned_shop, "100")
    assert built.rows == {"customer": 100, "order": 100}
    assert built.strategy == "whole tables"
    assert built.snapshot
    assert built.snapshot.manifest.whole_tables == ["customer", "order"]
    assert provide_dataset(owned_shop, "100").reason == "current"
    assert provide_dataset(owned_shop, "10").built
    assert counts(owned_shop) == (10, 10, 2, 0)
    assert provide_dataset(owned_shop, "100").restored
    assert counts(owned_shop) == (100, 100, 2, 0)


def test_a_table_that_only_the_last_dataset_filled_is_emptied(owned_shop: Target) -> None:
    build_dataset(owned_shop, "100")
    build_dataset(owned_shop, "customers")
    assert counts(owned_shop) == (5, 0, 2, 0)
    assert build_dataset(owned_shop, "100", snapshot=False).rows["order"] == 100
    restore(owned_shop, "customers")
    assert counts(owned_shop) == (5, 0, 2, 0)


OTHERS = {
    "inserted": "INSERT INTO customer VALUES (1000, 'a real one')",
    "updated": "UPDATE customer SET name = 'a real one' WHERE id = 3",
}


@pytest.mark.parametrize("other", OTHERS)
def test_a_row_of_somebody_elses_is_refused_and_kept_aside(
    owned_shop: Target, state: State, other: str, databases: Any
) -> None:
    build_dataset(owned_shop, "10")
    build_dataset(owned_shop, "100")
    run(owned_shop.conninfo, OTHERS[other], "VACUUM (FREEZE) customer")
    refuse(owned_shop, state, RefusedError, r"would be lost: customer: 1.*Restore with fresh=True")
    done = restore(owned_shop, "10", fresh=True)
    assert counts(owned_shop) == (10, 10, 2, 0)
    (note,) = [note for note in done.notes if "which only" in note]
    kept = note.split("which only ")[1].split()[0]
    databases.made.append(kept)
    name = conninfo_name(owned_shop)
    rows = run(
        owned_shop.conninfo.replace(name, kept), "SELECT name FROM customer WHERE name ~ 'real'"
    )
    assert rows == [("a real one",)]
    restore(owned_shop, "100")  # the clone's rows are perfdata's own


def conninfo_name(target: Target) -> str:
    with psycopg.connect(target.conninfo) as connection:
        return connection.info.dbname


def test_a_row_that_the_snapshot_has_unchanged_is_not_lost(owned_shop: Target) -> None:
    build_dataset(owned_shop, "100")
    run(owned_shop.conninfo, "UPDATE customer SET name = name WHERE id = 3")
    restore(owned_shop, "100")
    assert counts(owned_shop)[0] == 100


def test_rows_deleted_by_others_come_back(owned_shop: Target) -> None:
    build_dataset(owned_shop, "100")
    run(owned_shop.conninfo, 'DELETE FROM "order" WHERE id < 5')
    restore(owned_shop, "100")
    assert counts(owned_shop)[1] == 100


PETS = {
    "of an emptied table": ("order", ""),
    "by an unchecked key": ("customer", " NOT VALID"),
}


@pytest.mark.parametrize("kind", PETS)
def test_real_rows_that_reference_loaded_ones_are_refused(
    owned_shop: Target, state: State, kind: str
) -> None:
    build_dataset(owned_shop, "customers")
    build_dataset(owned_shop, "100")
    parent, unchecked = PETS[kind]
    run(
        owned_shop.conninfo,
        "CREATE TABLE pet (id int PRIMARY KEY, of int)",
        f'ALTER TABLE pet ADD FOREIGN KEY (of) REFERENCES "{parent}"{unchecked}',
        "INSERT INTO pet VALUES (1, 2)",
    )
    before = state(owned_shop.conninfo)
    with pytest.raises(BoundaryError, match=r"1 of pet, e\.g\. 1"):
        restore(owned_shop, "customers")
    assert state(owned_shop.conninfo) == before


def test_real_rows_may_reference_rows_that_come_back(owned_shop: Target, state: State) -> None:
    build_dataset(owned_shop, "10")
    build_dataset(owned_shop, "100")
    run(
        owned_shop.conninfo,
        "CREATE TABLE pet (id int PRIMARY KEY, of int REFERENCES customer)",
        "INSERT INTO pet VALUES (1, 2), (2, 100)",
    )
    restore(owned_shop, "100")
    before = state(owned_shop.conninfo)
    with pytest.raises(LoadError, match="everything was rolled back"):
        restore(owned_shop, "10")
    assert state(owned_shop.conninfo) == before


def test_a_tables_rows_before_the_first_load_are_somebody_elses(
    owned_shop: Target, state: State
) -> None:
    run(owned_shop.conninfo, OTHERS["inserted"])
    before = state(owned_shop.conninfo)
    with pytest.raises(RefusedError, match=r"no column is_test_data, and rows .*: customer: 1"):
        build_dataset(owned_shop, "100")
    assert state(owned_shop.conninfo) == before


def test_rows_of_a_migration_are_perfdatas_own(owned_shop: Target) -> None:
    with recorded_migration(owned_shop.conninfo):
        run(owned_shop.conninfo, OTHERS["inserted"])
    build_dataset(owned_shop, "100")
    with recorded_migration(owned_shop.conninfo):
        run(owned_shop.conninfo, "ALTER TABLE customer ALTER name TYPE varchar(40)",
            "UPDATE customer SET name = upper(name)")  # fmt: skip
    build_dataset(owned_shop, "10")
    assert counts(owned_shop) == (10, 10, 2, 0)


def test_a_migration_is_not_told_from_others_that_are_connected(
    owned_shop: Target, state: State
) -> None:
    with psycopg.connect(owned_shop.conninfo), recorded_migration(owned_shop.conninfo):
        run(owned_shop.conninfo, OTHERS["inserted"])
    before = state(owned_shop.conninfo)
    with pytest.raises(RefusedError, match="customer: 1"):
        build_dataset(owned_shop, "100")
    assert state(owned_shop.conninfo) == before


def test_a_callers_transaction_is_recorded_and_taken_back_with_it(
    owned_shop: Target, state: State
) -> None:
    build_dataset(owned_shop, "10")
    build_dataset(owned_shop, "100")
    before = state(owned_shop.conninfo)
    with psycopg.connect(owned_shop.conninfo) as connection:
        connection.execute("SELECT 1")
        restore_snapshot(connection, "10", settings=owned_shop.settings)
        connection.rollback()
        assert state(owned_shop.conninfo) == before
        connection.execute("SELECT 1")
        restore_snapshot(connection, "10", settings=owned_shop.settings)
    assert counts(owned_shop)[0] == 10
    restore(owned_shop, "100")


def test_without_any_flag_all_rows_are_saved_and_restored(owned_shop: Target, state: State) -> None:
    build_dataset(owned_shop, "100")
    run(owned_shop.conninfo, "INSERT INTO note (text) VALUES ('mine')")
    made = create_snapshot(owned_shop.conninfo, "mine", settings=owned_shop.settings)
    assert made.manifest.all_rows
    assert made.manifest.rows == 203
    restore(owned_shop, "mine")
    build_dataset(owned_shop, "10")
    assert counts(owned_shop) == (10, 10, 2, 1)
    restore(owned_shop, "mine")
    assert counts(owned_shop) == (100, 100, 2, 1)
    run(owned_shop.conninfo, "INSERT INTO note (text) VALUES ('another')")
    before = state(owned_shop.conninfo)
    with pytest.raises(RefusedError, match="note: 1, "):
        restore(owned_shop, "mine")
    assert state(owned_shop.conninfo) == before


def test_a_mixed_schema_saves_flagged_rows_and_what_the_dataset_filled(owned_shop: Target) -> None:
    run(owned_shop.conninfo, "CREATE TABLE tag (id int, is_test_data boolean)",
        "INSERT INTO tag VALUES (1, true), (2, false)",
        "INSERT INTO note (text) VALUES ('mine')")  # fmt: skip
    build_dataset(owned_shop, "100")
    assert counts(owned_shop) == (100, 100, 2, 1)
    run(owned_shop.conninfo, "INSERT INTO tag VALUES (3, true)")
    made = create_snapshot(owned_shop.conninfo, "mine", settings=owned_shop.settings)
    assert made.manifest.stats == {"customer": 100, "order": 100, "tag": 1}
    assert made.manifest.left_out == ["country", "note"]
    restore(owned_shop, "mine")
    assert run(owned_shop.conninfo, "SELECT id FROM tag ORDER BY 1") == [(2,), (3,)]


def test_added_rows_do_not_replace_a_loads(owned_shop: Target, state: State) -> None:
    build_dataset(owned_shop, "10")
    build_dataset(owned_shop, "100", snapshot=False)
    before = state(owned_shop.conninfo)
    with pytest.raises(RefusedError, match="customer: 90"):
        restore(owned_shop, "10", clean_existing=False)
    assert state(owned_shop.conninfo) == before


def test_elsewhere_tables_without_the_flag_are_not_filled(
    shop_elsewhere: Target, state: State
) -> None:
    before = state(shop_elsewhere.conninfo)
    with pytest.raises(SchemaError, match=r"customer, which has no column is_test_data .*Add the "
                       r"column; or restore the dataset with fresh=True, .*db\.adopt.*leave the "
                       r"table out"):  # fmt: skip
        build_dataset(shop_elsewhere, "100")
    assert state(shop_elsewhere.conninfo) == before
    mark_owned(shop_elsewhere.conninfo)
    build_dataset(shop_elsewhere, "100")
    run(shop_elsewhere.conninfo, f'COMMENT ON DATABASE "{conninfo_name(shop_elsewhere)}" IS NULL')
    refuse_restore = state(shop_elsewhere.conninfo)
    with pytest.raises(RefusedError, match=r"whole_tables does not name that here\. Name it there"):
        restore(shop_elsewhere, "100")
    assert state(shop_elsewhere.conninfo) == refuse_restore


def test_a_dataset_built_for_a_fresh_database_leaves_the_old_one_as_it_was(
    shop_elsewhere: Target, databases: Any, digests: State
) -> None:
    """Nothing is owned here, and one row is somebody else's: the old database keeps it."""
    run(shop_elsewhere.conninfo, OTHERS["inserted"])
    before, name = digests(shop_elsewhere.conninfo), conninfo_name(shop_elsewhere)
    provided = provide_dataset(shop_elsewhere, "100", fresh=True)
    assert provided.built
    assert provided.restored
    assert counts(shop_elsewhere) == (100, 100, 2, 0)
    (kept,) = [
        one
        for (one,) in run(shop_elsewhere.conninfo, "SELECT datname FROM pg_database")
        if one.startswith(f"{name}_before_")
    ]
    databases.made.append(kept)
    assert digests(shop_elsewhere.conninfo.replace(name, kept)) == before
    provide_dataset(shop_elsewhere, "10")  # perfdata owns the new one
    assert counts(shop_elsewhere) == (10, 10, 2, 0)

"""Tables without the flag: replaced in owned databases while they hold what perfdata loaded."""

from __future__ import annotations

import re
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo
from psycopg.errors import DivisionByZero

from perfdata import (
    BoundaryError,
    LoadError,
    RefusedError,
    SchemaError,
    build_dataset,
    create_snapshot,
    provide_dataset,
    restore_snapshot,
    snapshot_exists,
)
from perfdata.migrations.history import migrate
from perfdata.postgres.connection import open_link
from perfdata.postgres.url import normalise_url
from perfdata.progress import silent
from perfdata.server.binaries import find_binaries
from perfdata.snapshot.build import preview_build
from perfdata.snapshot.checks.staleness import check_flagged
from perfdata.snapshot.options import RestoreOptions
from perfdata.snapshot.perf_clones import Clones
from perfdata.target.garbage import collect_databases
from perfdata.templates.provenance import find_owned, recorded_migration
from perfdata.welfare import project as welfare
from tests.integration.databases import mark_owned, run

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from perfdata import PerfdataError, Settings, Target
    from perfdata.progress import Event

    State = Callable[[str], Any]


@pytest.fixture
def state(settings: Settings) -> State:
    """Return a function from a database to all that pg_dump writes of it."""
    program = find_binaries(settings).bin / "pg_dump"

    def dump(url: str) -> str:
        done = subprocess.run([program, url], check=True, capture_output=True, text=True)
        # 18.6 puts a key of its own into every dump.
        return re.sub(r"^\\(un)?restrict .*$", "", done.stdout, flags=re.MULTILINE)

    return dump


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
    check_flagged(built.snapshot)
    assert provide_dataset(owned_shop, "100").reason == "current"
    assert provide_dataset(owned_shop, "10").built
    assert counts(owned_shop) == (10, 10, 2, 0)
    assert provide_dataset(owned_shop, "100").restored
    assert counts(owned_shop) == (100, 100, 2, 0)


def test_perf_tests_need_nothing_of_the_owned_databases_rows(
    owned_shop: Target, state: State
) -> None:
    run(owned_shop.conninfo, OTHERS["inserted"])
    before = state(owned_shop.conninfo)
    with Clones(owned_shop, {}, silent) as clones:
        prepared = clones.template("10")
        clone = clones.make(prepared.template)
        assert run(clone, "SELECT count(*) FROM customer") == [(10,)]
    assert prepared.built
    assert state(owned_shop.conninfo) == before


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
    with pytest.raises(RefusedError, match=r"replaced whole, and rows .*: customer: 1"):
        build_dataset(owned_shop, "100")
    assert state(owned_shop.conninfo) == before


@pytest.fixture
def own_rows(owned_shop: Target) -> Target:
    """The owned shop, without rows that somebody else inserted."""
    run(owned_shop.conninfo, "TRUNCATE country")
    return owned_shop


def migrations_of(target: Target) -> Any:
    """Return the transactions of migrations in the mark of a target."""
    with open_link(target.conninfo) as link:
        owned = find_owned(link)
    assert owned
    return owned.mark.migrations


def test_rows_of_a_migration_are_perfdatas_own(own_rows: Target) -> None:
    with recorded_migration(own_rows.conninfo, "is_test_data"):
        run(own_rows.conninfo, OTHERS["inserted"])
    build_dataset(own_rows, "100")
    with recorded_migration(own_rows.conninfo, "is_test_data"):
        run(own_rows.conninfo, "ALTER TABLE customer ALTER name TYPE varchar(40)",
            "UPDATE customer SET name = upper(name)")  # fmt: skip
    build_dataset(own_rows, "10")
    assert counts(own_rows) == (10, 10, 0, 0)


REWRITES = {
    "updated": "UPDATE customer SET name = upper(name)",
    "rewritten": "ALTER TABLE customer ALTER id TYPE int USING id + 0",
    "copied": "CREATE TABLE copy AS SELECT * FROM customer",
}


@pytest.mark.parametrize("kind", REWRITES)
def test_a_migration_does_not_make_others_rows_perfdatas_own(
    own_rows: Target, kind: str, databases: Any
) -> None:
    build_dataset(own_rows, "100")
    run(own_rows.conninfo, OTHERS["inserted"])
    with recorded_migration(own_rows.conninfo, "is_test_data"):
        run(own_rows.conninfo, REWRITES[kind])
    assert migrations_of(own_rows) == ()
    before = counts(own_rows)
    for attempt in (lambda: build_dataset(own_rows, "100"), lambda: restore(own_rows, "100")):
        with pytest.raises(RefusedError, match=r"would be lost: customer: 1"):
            attempt()
    assert counts(own_rows) == before
    done = restore(own_rows, "100", fresh=True)
    (note,) = [note for note in done.notes if "which only" in note]
    kept = note.split("which only ")[1].split()[0]
    databases.made.append(kept)
    given = replace(own_rows.settings, database_url=own_rows.conninfo)
    collected = collect_databases(own_rows.conninfo, given)
    assert any(line.startswith(f"{kept}: has rows that") for line in collected.left)
    query = "SELECT id FROM customer WHERE name ILIKE '%real%'"
    assert run(databases.url(kept), query) == [(1000,)]


def test_what_a_migration_wrote_before_it_failed_is_perfdatas_own(own_rows: Target) -> None:
    url = own_rows.conninfo
    with pytest.raises(DivisionByZero), recorded_migration(url, "is_test_data"):
        run(url, OTHERS["inserted"], "SELECT 1 / 0")
    build_dataset(own_rows, "100")


def test_a_migration_without_rows_is_not_recorded(own_rows: Target, maintenance: str) -> None:
    with recorded_migration(own_rows.conninfo, "is_test_data"):
        run(maintenance, "SELECT pg_current_xact_id()")
    assert migrations_of(own_rows) == ()


def test_a_migration_is_run_although_a_table_can_not_be_read(own_rows: Target) -> None:
    name, role = conninfo_name(own_rows), "shop_migrator"
    run(own_rows.conninfo, f"CREATE ROLE {role} LOGIN", f"ALTER DATABASE {name} OWNER TO {role}",
        f"ALTER SCHEMA public OWNER TO {role}")  # fmt: skip
    plain = make_conninfo(own_rows.conninfo, user=role, dbname=name)
    try:
        with recorded_migration(plain, "is_test_data"):
            run(plain, "CREATE TABLE made AS SELECT 1 AS id")
        assert migrations_of(own_rows) == ()
    finally:
        run(own_rows.conninfo, f"REASSIGN OWNED BY {role} TO perfdata", f"DROP ROLE {role}")


def test_a_migration_is_not_told_from_others_that_are_connected(
    own_rows: Target, state: State
) -> None:
    url = own_rows.conninfo
    with psycopg.connect(url), recorded_migration(url, "is_test_data"):
        run(url, OTHERS["inserted"])
    before = state(url)
    with pytest.raises(RefusedError, match="customer: 1"):
        build_dataset(own_rows, "100")
    assert state(url) == before


def test_a_callers_transaction_is_recorded_and_taken_back_with_it(
    owned_shop: Target, state: State
) -> None:
    build_dataset(owned_shop, "100")
    build_dataset(owned_shop, "10")
    before = state(owned_shop.conninfo)
    with psycopg.connect(owned_shop.conninfo) as connection:
        connection.execute("CREATE TEMP TABLE written (id int)")
        restore_snapshot(connection, "100", settings=owned_shop.settings)
        connection.rollback()
        assert state(owned_shop.conninfo) == before
        connection.execute("CREATE TEMP TABLE written (id int)")
        restore_snapshot(connection, "100", settings=owned_shop.settings)
    assert counts(owned_shop)[0] == 100
    restore(owned_shop, "10")  # so the other 90 were recorded as perfdata's


def test_a_load_is_recorded_while_others_write_elsewhere(owned_shop: Target) -> None:
    """The number of a load is not the next after the last that has ended."""
    with psycopg.connect(owned_shop.conninfo) as other:
        other.execute("CREATE TABLE other (id int)")
        other.execute("SAVEPOINT s")
        other.execute("INSERT INTO other VALUES (1)")
        build_dataset(owned_shop, "100")
        build_dataset(owned_shop, "10")


@pytest.mark.parametrize("use", ["build", "restore"])
def test_a_load_that_is_interrupted_once_it_is_committed_is_recorded(
    owned_shop: Target, use: str
) -> None:
    """ANALYZE, which comes after the commit, computes the index's expression."""
    build_dataset(owned_shop, "100")
    build_dataset(owned_shop, "10")
    run(
        owned_shop.conninfo,
        """CREATE FUNCTION unless_analysed(i int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS
        $$BEGIN
          IF pg_catalog.current_query() LIKE 'VACUUM%ANALYZE%' THEN
            PERFORM pg_catalog.pg_terminate_backend(pg_catalog.pg_backend_pid());
          END IF;
          RETURN i;
        END$$""",
        "CREATE INDEX analysed ON customer (unless_analysed(id))",
    )
    if use == "build":
        done = build_dataset(owned_shop, "100", snapshot=False)
    else:
        done = restore(owned_shop, "100")
    assert any("VACUUM or ANALYZE failed: terminating connection" in note for note in done.notes)
    assert counts(owned_shop)[0] == 100
    run(owned_shop.conninfo, "DROP INDEX analysed")
    build_dataset(owned_shop, "10")


def test_restores_at_once_wait_for_one_another(owned_shop: Target) -> None:
    """The rows of the first, which ends while the second waits, are not somebody else's."""
    build_dataset(owned_shop, "100")
    build_dataset(owned_shop, "10")
    told: list[str] = []
    waiting = threading.Event()

    def tell(event: Event) -> None:
        told.append(event.text)
        waiting.set()

    with ThreadPoolExecutor() as pool:
        others: list[Future[Any]] = []

        def start_another(_: Event) -> None:
            if not others:
                others.append(pool.submit(restore, owned_shop, "10", report=tell))
                assert waiting.wait(10)

        restore(owned_shop, "100", report=start_another)
        assert others[0].result().rows["customer"] == 10
    assert told[0].startswith("waiting for another load")
    assert counts(owned_shop)[0] == 10


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


def test_without_any_flag_nothing_is_saved_of_a_database_of_others(shop_elsewhere: Target) -> None:
    """One wrong flag_column must not copy production data."""
    run(shop_elsewhere.conninfo, "CREATE TABLE tag (id int, is_fake boolean)")
    said = "no table with a column is_test_data.*Set flag_column .*all_rows=True"
    with pytest.raises(SchemaError, match=said):
        create_snapshot(shop_elsewhere.conninfo, "mine", settings=shop_elsewhere.settings)
    assert not snapshot_exists("mine", shop_elsewhere.settings)
    made = create_snapshot(
        shop_elsewhere.conninfo, "mine", all_rows=True, settings=shop_elsewhere.settings
    )
    assert made.manifest.stats["country"] == 2


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
    with pytest.raises(SchemaError, match="customer, which has no column is_test_data"):
        preview_build(shop_elsewhere, "100", RestoreOptions())
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


def test_a_role_that_can_not_clone_builds_in_place_and_keeps_real_rows(
    owned_shop: Target, state: State
) -> None:
    """A build for a fresh database that can't be made must not take the target for a clone."""
    name, role = conninfo_name(owned_shop), "shop_owner"
    run(owned_shop.conninfo, f"CREATE ROLE {role} LOGIN", f"ALTER DATABASE {name} OWNER TO {role}",
        f"ALTER SCHEMA public OWNER TO {role}",
        *(f'ALTER TABLE "{table}" OWNER TO {role}'
          for table in ("country", "customer", "note", "order")))  # fmt: skip
    plain = replace(owned_shop, conninfo=make_conninfo(owned_shop.conninfo, user=role, dbname=name))
    try:
        provided = provide_dataset(plain, "10", fresh=True)
        assert provided.restored
        assert "restored without fresh=True" in provided.restored.notes[0]
        run(owned_shop.conninfo, OTHERS["inserted"])
        before = state(owned_shop.conninfo)
        with pytest.raises(RefusedError, match="customer: 1"):
            provide_dataset(plain, "100", fresh=True)
        assert state(owned_shop.conninfo) == before
    finally:
        run(owned_shop.conninfo, f"REASSIGN OWNED BY {role} TO perfdata", f"DROP ROLE {role}")


def test_partitions_and_children_are_told_by_their_own_rows(
    owned_shop: Target, state: State
) -> None:
    url = owned_shop.conninfo
    run(url, "CREATE TABLE part (id int, n int) PARTITION BY RANGE (id)",
        "CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM (1) TO (10)",
        "CREATE TABLE heir () INHERITS (note)",
        "INSERT INTO part SELECT g, g FROM generate_series(1, 5) g",
        "INSERT INTO heir (text) VALUES ('heir')")  # fmt: skip
    create_snapshot(url, "mine", settings=owned_shop.settings)
    run(url, "DELETE FROM part", "DELETE FROM heir")
    restore(owned_shop, "mine")
    run(url, "DELETE FROM heir", "DELETE FROM part WHERE id > 2")
    create_snapshot(url, "less", settings=owned_shop.settings)
    restore(owned_shop, "mine")
    restore(owned_shop, "less")  # all rows are those of the restore before
    restore(owned_shop, "mine")
    for statement, found in {
        "INSERT INTO part VALUES (6, 6)": "part: 1",
        "UPDATE heir SET text = 'another'": "heir: 1",
    }.items():
        run(url, statement)
        before = state(url)
        with pytest.raises(RefusedError, match=f"{found}, e"):
            restore(owned_shop, "less")
        assert state(url) == before
        run(url, "DELETE FROM part WHERE id = 6")


def test_rows_are_told_after_vacuum_and_a_rewrite(owned_shop: Target) -> None:
    build_dataset(owned_shop, "10")
    build_dataset(owned_shop, "100")
    run(owned_shop.conninfo, "VACUUM (FREEZE) customer", "VACUUM FULL customer",
        'CLUSTER "order" USING order_pkey')  # fmt: skip
    restore(owned_shop, "10")
    assert counts(owned_shop)[0] == 10


def test_a_forged_or_foreign_record_counts_for_nothing(owned_shop: Target, state: State) -> None:
    """Spans that are no numbers void the mark; those of long ago name no transaction of today."""
    run(owned_shop.conninfo, OTHERS["inserted"])
    ((comment,),) = run(owned_shop.conninfo, "SELECT shobj_description(oid, 'pg_database')"
                        " FROM pg_database WHERE datname = current_database()")  # fmt: skip
    before = state(owned_shop.conninfo)
    for spans, error in (
        ('[["1", "2"]]', SchemaError),
        ("[[1]]", SchemaError),
        ("7", SchemaError),
        (f"[[{-(1 << 32)}, {-1}]]", RefusedError),
        (f"[[3, {1 << 33}]]", RefusedError),
    ):
        forged = comment[:-1] + f', "loads": {spans}}}'
        for text in (forged, comment):
            run(owned_shop.conninfo, sql.SQL("COMMENT ON DATABASE {} IS {}").format(
                sql.Identifier(conninfo_name(owned_shop)), sql.Literal(text)))  # fmt: skip
            if text == forged:
                with pytest.raises(error):
                    build_dataset(owned_shop, "100")
        assert state(owned_shop.conninfo) == before


def test_migrating_records_what_it_wrote(empty_url: str) -> None:
    mark_owned(empty_url)
    migrate(normalise_url(empty_url), welfare)
    with open_link(empty_url) as link:
        owned = find_owned(link)
        assert owned
        assert len(owned.provenance.migrations) == 1
        query = sql.SQL("SELECT count(*), count(*) FILTER (WHERE {}) FROM public.alembic_version")
        assert link.rows(query.format(owned.provenance.written())) == [(1, 1)]

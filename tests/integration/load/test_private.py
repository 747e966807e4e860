"""Private databases: filled and checked over two connections."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from perfdata import (
    LoadError,
    Restored,
    Settings,
    create_snapshot,
    restore_snapshot,
)
from perfdata.snapshot.format.reader import SnapshotFile
from perfdata.snapshot.format.writer import manifest_frame
from tests.integration.databases import run
from tests.integration.fresh_shop import (
    MADE,
    NAME,
    count,
    database_of,
    others,
    state,
)

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.slow


@pytest.fixture(params=[10_000, 200_000])
def over_two_connections(request: pytest.FixtureRequest, shop: str, settings: Settings) -> None:
    """So many rows that a second connection fills tables, or checks foreign keys too."""
    run(shop, "CREATE TABLE bulk (id int PRIMARY KEY, is_test_data boolean)",
        f"INSERT INTO bulk SELECT g, true FROM generate_series(1, {request.param}) g")  # fmt: skip
    create_snapshot(shop, NAME, settings=settings, replace=True)


@pytest.mark.usefixtures("over_two_connections")
def test_two_load_what_one_does(
    fresh: Callable[..., Restored], shop: str, settings: Settings, maintenance: str
) -> None:
    run(shop, "CREATE TABLE big (id bigserial PRIMARY KEY, parent bigint REFERENCES big,"
        " note text UNIQUE, is_test_data boolean)",
        "INSERT INTO big (parent, note, is_test_data)"
        " SELECT g, g::text, true FROM generate_series(1, 5000) g",
        "CREATE TABLE part (id int PRIMARY KEY, is_test_data boolean) PARTITION BY RANGE (id)",
        "CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM (0) TO (100)",
        "CREATE TABLE of_part (id int REFERENCES part, is_test_data boolean)",
        "INSERT INTO part SELECT g, true FROM generate_series(0, 99) g",
        "INSERT INTO of_part SELECT g, true FROM generate_series(0, 99) g",
        "ALTER TABLE orders ADD CONSTRAINT loose FOREIGN KEY (customer_id) REFERENCES customers"
        " NOT VALID",
        "CREATE MATERIALIZED VIEW total AS SELECT count(*) AS n FROM big")  # fmt: skip
    create_snapshot(shop, NAME, settings=settings, replace=True)
    before = state(shop, maintenance)
    rows = run(shop, "SELECT count(*), sum(hashtextextended(b::text, 0)) FROM big b")
    run(shop, "TRUNCATE big, of_part, part, orders, customers", "REFRESH MATERIALIZED VIEW total")
    assert fresh().strategy == MADE
    assert state(shop, maintenance) == before
    assert run(shop, "SELECT count(*), sum(hashtextextended(b::text, 0)) FROM big b") == rows
    assert count(shop, "of_part") == 100
    assert run(shop, "SELECT n FROM total") == [(5000,)]
    assert run(shop, "INSERT INTO big (is_test_data) VALUES (true) RETURNING id") == [(5001,)]


@pytest.mark.usefixtures("over_two_connections")
def test_rows_that_reference_none_are_refused_by_both(
    fresh: Callable[..., Restored], shop: str, settings: Settings, maintenance: str
) -> None:
    run(shop, "ALTER TABLE orders DROP CONSTRAINT orders_customer_id_fkey",
        "UPDATE orders SET customer_id = 77 WHERE id = 1")  # fmt: skip
    create_snapshot(shop, NAME, settings=settings, replace=True)
    run(shop, "UPDATE orders SET customer_id = 1 WHERE id = 1",
        "ALTER TABLE orders ADD FOREIGN KEY (customer_id) REFERENCES customers")  # fmt: skip
    before = state(shop, maintenance)
    with pytest.raises(LoadError, match="orders_customer_id_fkey"):
        fresh()
    assert state(shop, maintenance) == before
    assert others(maintenance, shop) == {}


@pytest.mark.usefixtures("over_two_connections")
def test_no_event_trigger_fires_in_a_fresh_database(
    fresh: Callable[..., Restored], shop: str
) -> None:
    """From 17 on a superuser keeps them quiet, in every session that fills."""
    run(shop, "CREATE TABLE seen (tag text)",
        "CREATE FUNCTION see() RETURNS event_trigger LANGUAGE plpgsql AS"
        " $$ BEGIN INSERT INTO public.seen VALUES (tg_tag); END $$",
        "CREATE EVENT TRIGGER watch ON ddl_command_end EXECUTE FUNCTION see()")  # fmt: skip
    done = fresh()
    assert done.strategy == MADE
    ((fired, version),) = run(
        shop, "SELECT count(*) > 0, current_setting('server_version_num')::int FROM seen"
    )
    assert fired == (version < 170000)
    assert fired == any("watch" in note for note in done.notes)


@pytest.mark.usefixtures("over_two_connections")
def test_keys_that_rest_on_empty_tables_stay_as_they_are(
    fresh: Callable[..., Restored], shop: str
) -> None:
    states = "SELECT tgrelid::regclass, tgfoid::regproc, tgenabled FROM pg_trigger ORDER BY 1, 2, 3"
    disable = "ALTER TABLE {} DISABLE TRIGGER ALL"
    run(shop, "TRUNCATE customers, orders", *map(disable.format, ("customers", "orders")))
    before = run(shop, states)
    assert fresh().strategy == MADE
    assert count(shop) == count(shop, "orders") == 20
    assert run(shop, states) == before


@pytest.mark.usefixtures("over_two_connections")
def test_a_role_that_may_have_no_second_connection_does_without(
    plain_role: Callable[[str], str], allowed: Settings
) -> None:
    url = plain_role("CREATEDB CONNECTION LIMIT 2")
    assert restore_snapshot(url, NAME, fresh=True, settings=allowed).strategy == MADE
    assert count(url) == count(url, "orders") == 20


@pytest.mark.usefixtures("over_two_connections")
def test_what_a_role_is_set_to_counts_for_nothing(
    plain_role: Callable[[str], str],
    maintenance: str,
    shop: str,
    allowed: Settings,
) -> None:
    """Its tablespace is not where the indexes go."""
    url = plain_role("CREATEDB")
    role, space = f"plain_{database_of(shop)}", f"space_of_{database_of(shop)}"
    run(maintenance, "SET allow_in_place_tablespaces = on",
        f"CREATE TABLESPACE {space} LOCATION ''",
        f"GRANT CREATE ON TABLESPACE {space} TO {role}",
        f"ALTER ROLE {role} SET default_tablespace = '{space}'")  # fmt: skip
    assert restore_snapshot(url, NAME, fresh=True, settings=allowed).strategy == MADE
    assert run(shop, "SELECT relname FROM pg_class WHERE reltablespace <> 0 AND oid > 16384") == []
    run(maintenance, f"REVOKE ALL ON TABLESPACE {space} FROM {role}", f"DROP TABLESPACE {space}")


@pytest.mark.usefixtures("over_two_connections")
def test_an_error_of_the_second_connection_ends_the_restore(
    fresh: Callable[..., Restored], shop: str, settings: Settings, maintenance: str
) -> None:
    """It fills the smaller tables: their rows are too many for what the manifest says."""
    path = settings.home / "snapshots" / f"{NAME}.json.zst"
    file = SnapshotFile.open(path)
    stats = {**file.manifest.stats, "customers": 19}
    body = path.read_bytes()[file.body_at :]
    path.write_bytes(manifest_frame(replace(file.manifest, stats=stats)) + body)
    before = state(shop, maintenance)
    with pytest.raises(LoadError, match="customers: expected 19 rows, received 20"):
        fresh()
    assert state(shop, maintenance) == before
    assert others(maintenance, shop) == {}


def test_rows_without_the_flag_end_the_restore(
    fresh: Callable[..., Restored], shop: str, settings: Settings, maintenance: str
) -> None:
    """A file that says that all its rows have it."""
    run(shop, "DROP TABLE countries CASCADE")
    before = state(shop, maintenance)
    run(shop, "INSERT INTO customers VALUES (1000, 'a real one', false)")
    path = create_snapshot(shop, NAME, all_rows=True, settings=settings, replace=True).path
    run(shop, "DELETE FROM customers WHERE id = 1000")
    file = SnapshotFile.open(path)
    manifest = replace(file.manifest, all_rows=False, flag_column="is_test_data", sequences={})
    body = path.read_bytes()[file.body_at :]
    path.write_bytes(manifest_frame(manifest) + body)
    with pytest.raises(LoadError, match="customers: 1 of the loaded rows have no true"):
        fresh()
    assert state(shop, maintenance) == before
    assert others(maintenance, shop) == {}

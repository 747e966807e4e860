"""Fresh restores: templates, clones, swaps, and what becomes of everything around them."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import psycopg
import pytest
import sqlalchemy
from psycopg.conninfo import conninfo_to_dict, make_conninfo

import perfdata.aio
from perfdata import (
    ConfigError,
    Event,
    GuardError,
    RefusedError,
    Restored,
    Settings,
    Target,
    create_snapshot,
    find_snapshot,
    restore_snapshot,
)
from perfdata.postgres.drivers import PsycopgLink
from perfdata.postgres.url import normalise_url
from perfdata.snapshot.options import RestoreOptions
from perfdata.snapshot.preview import preview_restore
from perfdata.target.garbage import collect_databases
from perfdata.templates.databases import list_databases, mark_made
from perfdata.templates.marks import Kind
from tests.integration.databases import run
from tests.integration.fresh_shop import (
    CLONED,
    KILLED,
    MADE,
    NAME,
    REAL,
    SHOP,
    count,
    database_of,
    fresh_settings,
    others,
    properties,
    state,
)
from tests.integration.inner import entry

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.integration.conftest import Databases

pytestmark = pytest.mark.slow


def test_the_second_restore_is_a_clone_and_a_swap(
    fresh: Callable[..., Restored], shop: str, maintenance: str
) -> None:
    before = run(shop, "SELECT * FROM customers ORDER BY 1")
    first = fresh()
    assert (first.strategy, first.rows) == (MADE, {"customers": 20, "orders": 20})
    run(shop, "DELETE FROM orders", "UPDATE customers SET name = 'changed'")
    seen: list[Event] = []
    again = fresh(report=seen.append)
    assert again.strategy == CLONED
    assert [event for event in seen if event.total is not None] == []  # no rows were sent
    assert run(shop, "SELECT * FROM customers ORDER BY 1") == before
    assert count(shop, "orders") == 20
    found = others(maintenance, shop)
    assert len(found[Kind.TEMPLATE]) == 1
    assert Kind.WORK not in found


def test_the_file_is_not_needed_once_there_is_a_template(
    fresh: Callable[..., Restored], settings: Settings
) -> None:
    fresh()
    path = find_snapshot(NAME, settings).path
    path.write_bytes(path.read_bytes()[:-10])
    assert fresh().strategy == CLONED


def test_a_template_is_sealed_frozen_and_has_statistics(
    fresh: Callable[..., Restored], shop: str, maintenance: str
) -> None:
    fresh()
    (template,) = others(maintenance, shop)[Kind.TEMPLATE]
    assert run(
        maintenance,
        f"SELECT datistemplate, datallowconn FROM pg_database WHERE datname = '{template}'",
    ) == [(True, False)]
    assert len(template.encode()) < 63
    assert run(shop, "SELECT relallvisible = relpages, reltuples FROM pg_class"
                     " WHERE relname = 'customers'") == [(True, 20)]  # fmt: skip
    assert run(shop, "SELECT count(*) > 0 FROM pg_stats WHERE tablename = 'customers'") == [(True,)]


@pytest.mark.parametrize(
    "change",
    [
        "CREATE INDEX another ON customers (name)",
        "CREATE VIEW seen AS SELECT * FROM customers",
        "CREATE FUNCTION one() RETURNS int LANGUAGE sql RETURN 1",
        "ALTER TABLE orders ALTER customer_id SET DEFAULT 7",
        "INSERT INTO countries VALUES ('de')",
        "COMMENT ON TABLE customers IS 'those who buy'",
        "CREATE SEQUENCE numbers",
        "GRANT SELECT ON customers TO PUBLIC",
        "GRANT USAGE ON SCHEMA public TO pg_monitor",
        "ALTER TABLE orders DISABLE TRIGGER ALL",
    ],
)
def test_what_else_is_in_the_database_is_part_of_the_templates_key(
    fresh: Callable[..., Restored], shop: str, change: str
) -> None:
    fresh()
    run(shop, change)
    assert fresh().strategy == MADE
    assert fresh().strategy == CLONED


def test_an_ordinary_restore_in_between_costs_no_template(
    fresh: Callable[..., Restored], shop: str, settings: Settings
) -> None:
    fresh()
    restore_snapshot(shop, NAME, settings=settings)
    assert fresh().strategy == CLONED


def test_rows_of_tables_that_are_left_out_come_back(
    fresh: Callable[..., Restored], shop: str
) -> None:
    fresh()
    run(shop, "INSERT INTO countries VALUES ('de')")
    fresh()
    assert count(shop, "countries") == 3


def test_only_the_two_templates_last_used_stay(
    fresh: Callable[..., Restored], shop: str, maintenance: str
) -> None:
    fresh()
    (oldest,) = others(maintenance, shop)[Kind.TEMPLATE]
    for table in ("a", "b"):
        run(shop, f"CREATE TABLE {table} (id int)")
        fresh()
    templates = others(maintenance, shop)[Kind.TEMPLATE]
    assert len(templates) == 2
    assert oldest not in templates


def test_what_a_database_has_beside_its_content_stays(
    fresh: Callable[..., Restored], shop: str, maintenance: str
) -> None:
    name = database_of(shop)
    made = [f"{role}_{name}" for role in ("owner", "reader", "granted")]
    owner, reader, granted = made
    try:
        run(
            maintenance,
            *(f"CREATE ROLE {role}" for role in made),
            f'ALTER DATABASE "{name}" OWNER TO {owner}',
            f'REVOKE ALL ON DATABASE "{name}" FROM PUBLIC',
            f'GRANT CONNECT ON DATABASE "{name}" TO {reader} WITH GRANT OPTION',
            f'GRANT TEMPORARY ON DATABASE "{name}" TO {granted}',
            f'SET ROLE {reader}; GRANT CONNECT ON DATABASE "{name}" TO {granted}; RESET ROLE',
            f"ALTER DATABASE \"{name}\" SET search_path TO '$user', 'public', 'odd, \"name\"'",
            f"ALTER DATABASE \"{name}\" SET work_mem TO '8MB'",
            f"ALTER DATABASE \"{name}\" SET my.own TO 'it''s'",
            f"ALTER ROLE {owner} IN DATABASE \"{name}\" SET search_path TO ''",
            f"ALTER ROLE {reader} IN DATABASE \"{name}\" SET statement_timeout TO '5s'",
            f'ALTER DATABASE "{name}" CONNECTION LIMIT 7',
            f"COMMENT ON DATABASE \"{name}\" IS E'the shop''s\\nown'",
        )
        before = properties(shop, maintenance)
        fresh()
        assert properties(shop, maintenance) == before
        fresh()
        assert properties(shop, maintenance) == before
        assert run(shop, "SHOW my.own") == [("it's",)]
    finally:
        # Roles are the whole server's: nothing may hang on them when they go.
        collect_databases(maintenance, fresh_settings(fresh))
        run(maintenance, f'ALTER DATABASE "{name}" OWNER TO CURRENT_USER')
        run(shop, *(f"DROP OWNED BY {role}" for role in made))
        run(maintenance, *(f"DROP ROLE {role}" for role in made))


def test_encoding_and_locale_stay(
    databases: Databases, settings: Settings, maintenance: str
) -> None:
    run(maintenance, "DROP DATABASE IF EXISTS latin", "CREATE DATABASE latin TEMPLATE template0"
        " ENCODING 'LATIN1' LOCALE_PROVIDER 'libc' LOCALE 'C'")  # fmt: skip
    databases.made.append("latin")
    url = databases.url("latin")
    run(url, *SHOP, "UPDATE customers SET name = 'ünïcode' WHERE id = 1")
    create_snapshot(url, NAME, settings=settings, replace=True)
    before = properties(url, maintenance)
    assert restore_snapshot(url, NAME, fresh=True, settings=settings).strategy == MADE
    assert properties(url, maintenance) == before
    assert run(url, "SELECT name FROM customers WHERE id = 1") == [("ünïcode",)]
    collect_databases(maintenance, settings)


def test_unflagged_rows_are_not_lost(
    fresh: Callable[..., Restored], shop: str, maintenance: str
) -> None:
    run(shop, REAL)
    before = state(shop, maintenance)
    with pytest.raises(RefusedError, match=r"rows that are not test data.*customers: 1.*not made"):
        fresh()
    assert state(shop, maintenance) == before
    assert others(maintenance, shop) == {}


def test_a_database_that_is_allowed_by_its_full_name_is_replaced_and_kept(
    fresh: Callable[..., Restored],
    shop: str,
    settings: Settings,
    maintenance: str,
    allowed: Settings,
) -> None:
    run(shop, REAL)
    with pytest.raises(RefusedError, match="no wildcard"):
        fresh(settings=replace(settings, allow=(entry(shop, "*"),)))
    done = fresh(settings=allowed)
    (kept,) = others(maintenance, shop)[Kind.BEFORE]
    assert kept in " ".join(done.notes)
    assert count(shop) == 20
    assert run(make_conninfo(shop, dbname=kept), "SELECT name FROM customers WHERE id = 1000") == [
        ("a real one",)
    ]
    fresh(settings=allowed)  # what perfdata itself made goes at the next time; the first stays
    fresh(settings=allowed)
    assert kept in others(maintenance, shop)[Kind.BEFORE]
    assert len(others(maintenance, shop)[Kind.BEFORE]) == 2


def test_a_database_that_perfdata_made_may_be_replaced(
    fresh: Callable[..., Restored], shop: str, maintenance: str
) -> None:
    run(shop, REAL)
    with psycopg.connect(maintenance, autocommit=True) as connection:
        mark_made(PsycopgLink(connection), database_of(shop))
    assert fresh().strategy == MADE
    assert count(shop) == 20


def test_all_rows_go_into_a_database_that_is_not_empty(
    shop: str, settings: Settings, fresh: Callable[..., Restored], allowed: Settings
) -> None:
    run(shop, REAL)
    create_snapshot(shop, NAME, settings=settings, all_rows=True, replace=True)
    run(shop, "INSERT INTO countries VALUES ('ch')")
    with pytest.raises(
        RefusedError, match=r"or not as they are here .countries: 1, e.g. .*ch.*PERFDATA_ALLOW"
    ):
        fresh()
    run(shop, "DELETE FROM orders", "DELETE FROM customers WHERE id = 1000")
    assert fresh(settings=allowed).strategy == MADE
    assert (count(shop), count(shop, "countries")) == (21, 2)
    assert fresh().strategy == CLONED  # it is perfdata's now


def test_rows_that_the_snapshot_has_are_no_loss(
    shop: str, settings: Settings, fresh: Callable[..., Restored]
) -> None:
    run(shop, REAL)
    create_snapshot(shop, NAME, settings=settings, all_rows=True, replace=True)
    run(shop, "DELETE FROM countries WHERE code = 'jp'", "DELETE FROM orders")
    assert fresh().strategy == MADE
    assert (count(shop), count(shop, "countries")) == (21, 2)


def test_rows_that_need_unflagged_ones_are_refused(
    shop: str, settings: Settings, maintenance: str, allowed: Settings
) -> None:
    run(shop, REAL, "INSERT INTO orders (customer_id, is_test_data) VALUES (1000, true)")
    create_snapshot(shop, NAME, settings=settings, replace=True)
    before = state(shop, maintenance)
    with pytest.raises(RefusedError, match="orders_customer_id_fkey"):
        restore_snapshot(shop, NAME, fresh=True, settings=allowed)
    assert state(shop, maintenance) == before


def test_the_guard_holds(fresh: Callable[..., Restored], settings: Settings) -> None:
    elsewhere = replace(settings, home=settings.home / "elsewhere")
    (elsewhere.home / "snapshots").mkdir(parents=True)
    path = find_snapshot(NAME, settings).path
    (elsewhere.home / "snapshots" / path.name).write_bytes(path.read_bytes())
    with pytest.raises(GuardError, match="PERFDATA_ALLOW"):
        fresh(settings=elsewhere)


def test_open_sessions_are_named(
    fresh: Callable[..., Restored], shop: str, maintenance: str
) -> None:
    before = state(shop, maintenance)
    with psycopg.connect(shop, application_name="the shop") as connection:
        pid = connection.info.backend_pid
        with pytest.raises(
            RefusedError, match=rf"pid {pid} \(the shop, user perfdata\).*terminate=True"
        ):
            fresh()
    assert state(shop, maintenance) == before
    assert others(maintenance, shop) == {}
    fresh()
    with (
        psycopg.connect(shop, application_name="the shop"),
        pytest.raises(RefusedError, match="the shop"),
    ):
        fresh()
    assert Kind.WORK not in others(maintenance, shop)


def test_open_sessions_are_ended_where_that_is_asked_for(
    fresh: Callable[..., Restored], shop: str
) -> None:
    for strategy in (MADE, CLONED):
        with psycopg.connect(shop, autocommit=True) as connection:
            assert fresh(terminate=True).strategy == strategy
            with pytest.raises(psycopg.OperationalError, match="terminating connection"):
                connection.execute("SELECT 1")


def test_sessions_that_come_again_and_again_do_not_hinder_it(
    fresh: Callable[..., Restored], shop: str
) -> None:
    done = threading.Event()

    def connect() -> None:
        while not done.is_set():
            try:
                with psycopg.connect(shop, autocommit=True) as connection:
                    connection.execute("SELECT pg_sleep(0.01)")
            except psycopg.OperationalError:
                time.sleep(0.001)

    with ThreadPoolExecutor(2) as pool:
        for _ in range(2):
            pool.submit(connect)
        try:
            assert fresh(terminate=True).strategy == MADE
            assert fresh(terminate=True).strategy == CLONED
        finally:
            done.set()


def test_connections_of_the_callers_own_are_refused(
    fresh: Callable[..., Restored], shop: str, maintenance: str
) -> None:
    before = state(shop, maintenance)
    engine = sqlalchemy.create_engine(shop.replace("postgresql://", "postgresql+psycopg://"))
    with psycopg.connect(shop) as connection, pytest.raises(RefusedError, match="in use"):
        fresh(database=connection)
    with engine.connect() as inside, pytest.raises(RefusedError, match="give a URL or an Engine"):
        fresh(database=inside)
    assert state(shop, maintenance) == before
    assert fresh(database=engine).strategy == MADE  # its idle connection was closed
    with engine.connect() as works_again:
        assert works_again.scalar(sqlalchemy.text("SELECT count(*) FROM customers")) == 20
    engine.dispose()


@pytest.mark.asyncio
async def test_asynchronous_callers_have_it_too(shop: str, settings: Settings) -> None:
    from sqlalchemy.ext.asyncio import create_async_engine

    engine = create_async_engine(shop.replace("postgresql://", "postgresql+asyncpg://"))
    async with engine.connect() as inside:
        assert await inside.scalar(sqlalchemy.text("SELECT count(*) FROM customers")) == 20
        with pytest.raises(RefusedError, match="AsyncConnection"):
            await perfdata.aio.restore_snapshot(inside, NAME, fresh=True, settings=settings)
    done = await perfdata.aio.restore_snapshot(engine, NAME, fresh=True, settings=settings)
    assert done.strategy == MADE
    await engine.dispose()


def test_what_does_not_go_together_is_refused(fresh: Callable[..., Restored], shop: str) -> None:
    with pytest.raises(ConfigError, match="keeps nothing"):
        fresh(clean_existing=False)
    with pytest.raises(ConfigError, match="goes with fresh=True"):
        restore_snapshot(shop, NAME, terminate=True, settings=fresh_settings(fresh))


def test_a_role_without_createdb_restores_in_the_ordinary_way_and_is_told(
    plain_role: Callable[[str], str], maintenance: str, shop: str, allowed: Settings
) -> None:
    url = plain_role("")
    done = restore_snapshot(url, NAME, fresh=True, settings=allowed)
    assert done.strategy == "whole tables"
    assert "without fresh=True" in done.notes[0]
    assert "CREATEDB" in done.notes[0]
    assert others(maintenance, shop) == {}


def test_a_refusal_for_want_of_createdb_names_the_role_and_the_statement(
    plain_role: Callable[[str], str], shop: str, allowed: Settings
) -> None:
    """A restore in place is refused, and fresh=True, which would be the way, was asked for."""
    url = plain_role("")
    create_snapshot(url, NAME, all_rows=True, replace=True, settings=allowed)
    role = conninfo_to_dict(url)["user"]
    expected = (
        rf"fresh=True is not possible: role {role} may not create databases; a superuser can "
        rf"allow it with: ALTER ROLE \"{role}\" CREATEDB;"
    )
    with pytest.raises(RefusedError, match=expected) as caught:
        restore_snapshot(url, NAME, fresh=True, settings=allowed)
    assert "Use fresh=True" not in str(caught.value)
    target = Target(allowed, normalise_url(url), embedded=False)
    with pytest.raises(RefusedError, match=expected):
        preview_restore(target, NAME, RestoreOptions(fresh=True), lambda _: None, may_build=False)
    assert count(shop) == 20


def test_a_role_that_may_create_databases_and_owns_this_one_is_enough(
    plain_role: Callable[[str], str], allowed: Settings
) -> None:
    url = plain_role("CREATEDB")
    assert restore_snapshot(url, NAME, fresh=True, settings=allowed).strategy == MADE
    assert restore_snapshot(url, NAME, fresh=True, settings=allowed).strategy == CLONED
    assert count(url) == 20


def test_settings_that_the_role_may_not_give_are_found_before_anything_is_made(
    plain_role: Callable[[str], str],
    maintenance: str,
    shop: str,
    allowed: Settings,
) -> None:
    url = plain_role("CREATEDB")
    run(maintenance, f"ALTER DATABASE \"{database_of(shop)}\" SET log_statement TO 'ddl'")
    done = restore_snapshot(url, NAME, fresh=True, settings=allowed)
    assert "log_statement" in done.notes[0]
    assert done.strategy == "whole tables"
    assert others(maintenance, shop) == {}


@pytest.mark.parametrize(
    ("module", "function", "when"),
    [
        ("templates", "create_clone", "after"),  # made, and not marked yet
        ("template", "open_work", "after"),
        ("template", "load_private", "before"),
        ("template", "load_private", "after"),
        ("private", "copy_table", "before"),
        ("private", "copy_table", "after"),
        ("template", "seal_template", "before"),
        ("swap", "swap", "before"),
        ("swap", "apply_properties", "after"),  # in the middle of the swap
        ("fresh", "_kept_notes", "before"),  # swapped, and told to nobody
    ],
)
def test_what_a_killed_run_left_is_removed_by_the_next(
    fresh: Callable[..., Restored],
    shop: str,
    settings: Settings,
    maintenance: str,
    module: str,
    function: str,
    when: str,
) -> None:
    before = state(shop, maintenance)
    arguments = [module, function, when, shop, str(settings.root), str(settings.home)]
    died = subprocess.run([sys.executable, "-c", KILLED, *arguments], check=False)
    assert died.returncode == -signal.SIGKILL
    assert state(shop, maintenance) == before
    fresh()
    found = others(maintenance, shop)
    assert Kind.WORK not in found
    assert len(found[Kind.TEMPLATE]) == 1
    assert state(shop, maintenance) == before
    with psycopg.connect(maintenance) as connection:
        names = [one.name for one in list_databases(PsycopgLink(connection))]
    assert not [name for name in names if name.startswith("perfdata_work_")]


def test_two_at_once_wait_for_each_other(shop: str, settings: Settings, maintenance: str) -> None:
    def restore(_number: int) -> str:
        return restore_snapshot(shop, NAME, fresh=True, terminate=True, settings=settings).strategy

    with ThreadPoolExecutor(2) as pool:
        strategies = sorted(pool.map(restore, range(2)))
    assert strategies == [CLONED, MADE]
    assert count(shop) == 20
    assert Kind.WORK not in others(maintenance, shop)

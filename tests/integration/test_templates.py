"""Fresh databases: templates, clones, swaps, and what becomes of everything around them."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
import sqlalchemy
from psycopg.conninfo import conninfo_to_dict, make_conninfo

import perfdata.aio
from perfdata import (
    ConfigError,
    Event,
    GuardError,
    LoadError,
    RefusedError,
    Restored,
    Settings,
    create_snapshot,
    find_snapshot,
    open_target,
    provide_dataset,
    restore_snapshot,
)
from perfdata.postgres.drivers import PsycopgLink
from perfdata.server.embedded import EmbeddedServer
from perfdata.snapshot.format.reader import SnapshotFile
from perfdata.snapshot.format.writer import manifest_frame
from perfdata.target.garbage import collect_databases
from perfdata.templates.databases import list_databases, lock_number, mark_made
from perfdata.templates.marks import Kind, parse_mark
from tests.integration.inner import entry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.integration.conftest import Databases

NAME = "fresh"
CLONED = "a clone of its template"
MADE = "a new template and its clone"
SHOP = (
    "CREATE TABLE customers (id int PRIMARY KEY, name text, is_test_data boolean NOT NULL)",
    "CREATE TABLE orders (id serial PRIMARY KEY, customer_id int REFERENCES customers,"
    " is_test_data boolean NOT NULL)",
    "CREATE TABLE countries (code text PRIMARY KEY)",
    "CREATE INDEX orders_customer ON orders (customer_id)",
    "INSERT INTO countries VALUES ('jp'), ('at')",
    "INSERT INTO customers SELECT g, 'customer ' || g, true FROM generate_series(1, 20) g",
    "INSERT INTO orders (customer_id, is_test_data) SELECT g, true FROM generate_series(1, 20) g",
)
REAL = "INSERT INTO customers VALUES (1000, 'a real one', false)"


def run(url: str, *statements: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


def count(url: str, table: str = "customers") -> int:
    return int(run(url, f"SELECT count(*) FROM {table}")[0][0])


@pytest.fixture
def maintenance(server: EmbeddedServer) -> str:
    return server.conninfo("postgres")


@pytest.fixture
def shop(empty_url: str, settings: Settings, maintenance: str) -> Iterator[str]:
    """A database with 20 flagged customers, and their snapshot; nothing is left of it after."""
    run(empty_url, *SHOP)
    create_snapshot(empty_url, NAME, settings=settings, replace=True)
    yield empty_url
    (settings.home / "snapshots" / f"{NAME}.json.zst").unlink(missing_ok=True)
    name = database_of(empty_url)
    with psycopg.connect(maintenance, autocommit=True) as connection:
        for one in list_databases(PsycopgLink(connection)):
            unfinished = one.unfinished_for(lock_number(name))
            if unfinished or (one.name != name and one.mark and one.mark.target == name):
                connection.execute(f'ALTER DATABASE "{one.name}" IS_TEMPLATE false')
                connection.execute(f'DROP DATABASE "{one.name}" WITH (FORCE)')


@pytest.fixture
def allowed(shop: str, settings: Settings) -> Settings:
    """Settings that list the shop by its full name."""
    return replace(settings, allow=(entry(shop),))


@pytest.fixture
def fresh(shop: str, settings: Settings) -> Callable[..., Restored]:
    def restore(**options: Any) -> Restored:
        return restore_snapshot(
            options.pop("database", shop), NAME, fresh=True, **{"settings": settings, **options}
        )

    return restore


def database_of(url: str) -> str:
    return str(conninfo_to_dict(url)["dbname"])


def others(maintenance: str, shop: str) -> dict[Kind, list[str]]:
    """The databases that perfdata made for the shop, by what for."""
    found: dict[Kind, list[str]] = {}
    for name, comment in run(
        maintenance,
        "SELECT datname, shobj_description(oid, 'pg_database') FROM pg_database ORDER BY datname",
    ):
        mark = parse_mark(comment)
        if mark is not None and mark.target == database_of(shop):
            found.setdefault(mark.kind, []).append(name)
    return found


def state(url: str, maintenance: str) -> list[list[tuple[Any, ...]]]:
    """Rows, definitions, and the database's own properties."""
    queries = (
        "SELECT count(*), sum(hashtextextended(t::text, 0)) FROM customers t",
        "SELECT count(*), sum(hashtextextended(t::text, 0)) FROM orders t",
        "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint ORDER BY 1, 2",
        "SELECT last_value, is_called FROM orders_id_seq",
    )
    return [run(url, query) for query in queries] + [properties(url, maintenance)]


def properties(url: str, maintenance: str) -> list[tuple[Any, ...]]:
    return run(
        maintenance,
        "SELECT pg_get_userbyid(datdba), datacl::text[], datconnlimit, datistemplate, datallowconn,"
        " pg_encoding_to_char(encoding), datcollate, datctype,"
        " nullif(regexp_replace(shobj_description(d.oid, 'pg_database'),"
        "   E'\\n?perfdata: [^\\n]*$', ''), ''),"
        " ARRAY(SELECT concat(pg_get_userbyid(nullif(setrole, 0)), setconfig)"
        "       FROM pg_db_role_setting WHERE setdatabase = d.oid ORDER BY 1)"
        f" FROM pg_database d WHERE datname = '{database_of(url)}'",
    )


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


def fresh_settings(fresh: Callable[..., Restored]) -> Settings:
    """The settings that the fixture restores with."""
    cells = dict(zip(fresh.__code__.co_freevars, fresh.__closure__ or (), strict=True))
    found = cells["settings"].cell_contents
    assert isinstance(found, Settings)
    return found


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
        with pytest.raises(RefusedError, match=rf"pid {pid} \(the shop, user perfdata\).*--term"):
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


@pytest.fixture
def plain_role(maintenance: str, shop: str) -> Iterator[Callable[[str], str]]:
    """Make a role that owns the shop and all in it; return the URL for it."""
    role = f"plain_{database_of(shop)}"

    def make(options: str) -> str:
        name = database_of(shop)
        run(
            maintenance,
            f"CREATE ROLE {role} LOGIN {options}",
            f'ALTER DATABASE "{name}" OWNER TO {role}',
        )
        tables = run(shop, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        run(shop, *(f"ALTER TABLE {table} OWNER TO {role}" for (table,) in tables),
            f"ALTER SCHEMA public OWNER TO {role}")  # fmt: skip
        return shop.replace("perfdata@", f"{role}@", 1)

    yield make
    run(maintenance, *(f'DROP DATABASE "{one}"' for one in others(maintenance, shop).get(
        Kind.BEFORE, ())), f'DROP DATABASE "{database_of(shop)}"')  # fmt: skip
    for template in others(maintenance, shop).get(Kind.TEMPLATE, ()):
        run(maintenance, f'ALTER DATABASE "{template}" IS_TEMPLATE false',
            f'DROP DATABASE "{template}"')  # fmt: skip
    run(maintenance, f"DROP ROLE {role}")


def test_a_role_without_createdb_restores_in_the_ordinary_way_and_is_told(
    plain_role: Callable[[str], str], maintenance: str, shop: str, allowed: Settings
) -> None:
    url = plain_role("")
    done = restore_snapshot(url, NAME, fresh=True, settings=allowed)
    assert done.strategy == "whole tables"
    assert "without fresh=True" in done.notes[0]
    assert "CREATEDB" in done.notes[0]
    assert others(maintenance, shop) == {}


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


KILLED = """
import os, signal, sys
from pathlib import Path
from perfdata import Settings, restore_snapshot
from perfdata.templates import swap
from perfdata.templates import template as templates
from perfdata.load import private
from perfdata.snapshot import fresh, template

def dies(module, name, before):
    function = getattr(module, name)
    def instead(*args, **kwargs):
        if not before:
            function(*args, **kwargs)
        os.kill(os.getpid(), signal.SIGKILL)
    setattr(module, name, instead)

module, name, before, url, root, home = sys.argv[1:]
modules = {
    "templates": templates, "fresh": fresh, "template": template, "swap": swap, "private": private
}
dies(modules[module], name, before == "before")
settings = Settings.load(Path(root), {"PERFDATA_HOME": home})
restore_snapshot(url, "fresh", fresh=True, settings=settings)
"""


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
        ("fresh", "swap", "before"),
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


def test_collecting_removes_what_is_marked_and_nothing_else(
    fresh: Callable[..., Restored],
    shop: str,
    settings: Settings,
    maintenance: str,
    databases: Databases,
) -> None:
    fresh()
    databases.make("template0", "perfdata_work_of_mine")
    databases.make("template0", f"{database_of(shop)}_before_me")
    arguments = ["fresh", "swap", "before", shop, str(settings.root), str(settings.home)]
    subprocess.run([sys.executable, "-c", KILLED, *arguments], check=False)
    (kept,) = others(maintenance, shop)[Kind.BEFORE]
    (left,) = others(maintenance, shop)[Kind.WORK]
    would = collect_databases(maintenance, settings, dry=True)
    assert {kept, left} <= {one.name for one in would.removed}
    assert {Kind.BEFORE, Kind.WORK} <= others(maintenance, shop).keys()
    done = collect_databases(maintenance, settings)
    assert {one.name: one.reason for one in done.removed if one.name in {kept, left}} == {
        kept: f"was replaced by a restore of {database_of(shop)}",
        left: "left by a restore that was killed",
    }
    assert done.size_bytes > 10_000_000
    assert others(maintenance, shop).keys() == {Kind.MADE, Kind.TEMPLATE}
    assert count(databases.url("perfdata_work_of_mine"), "pg_class") > 0
    assert count(databases.url(f"{database_of(shop)}_before_me"), "pg_class") > 0


def test_what_somebody_looks_at_is_left_and_named(
    fresh: Callable[..., Restored], shop: str, settings: Settings, maintenance: str
) -> None:
    fresh()
    (kept,) = others(maintenance, shop)[Kind.BEFORE]
    with psycopg.connect(make_conninfo(shop, dbname=kept)):
        done = collect_databases(maintenance, settings)
        assert any(kept in line and "accessed" in line for line in done.left)
    assert kept in others(maintenance, shop)[Kind.BEFORE]


def test_templates_of_a_database_that_is_gone_are_collected(
    fresh: Callable[..., Restored],
    shop: str,
    settings: Settings,
    maintenance: str,
    databases: Databases,
) -> None:
    fresh()
    databases.drop(database_of(shop))
    collect_databases(maintenance, settings)
    assert others(maintenance, shop) == {}


def test_two_at_once_wait_for_each_other(shop: str, settings: Settings, maintenance: str) -> None:
    def restore(_number: int) -> str:
        return restore_snapshot(shop, NAME, fresh=True, terminate=True, settings=settings).strategy

    with ThreadPoolExecutor(2) as pool:
        strategies = sorted(pool.map(restore, range(2)))
    assert strategies == [CLONED, MADE]
    assert count(shop) == 20
    assert Kind.WORK not in others(maintenance, shop)


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


@pytest.fixture
def own_settings(settings: Settings, tmp_path: Path) -> Iterator[Settings]:
    """A server of the test's own: its database is not the one that other tests clone."""
    own = replace(settings, home=tmp_path / "home")
    yield own
    server = EmbeddedServer(own)
    server.stop()
    shutil.rmtree(server.status().data.parent, ignore_errors=True)


def test_the_tasks(own_settings: Settings, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    """On the embedded database itself, which is marked as perfdata's own."""
    from invoke.context import Context

    from perfdata.tasks import db, snapshot

    monkeypatch.chdir(own_settings.root)
    monkeypatch.setenv("PERFDATA_HOME", str(own_settings.home))
    snapshot.restore(Context(), name="10_offices", fresh=True)
    out, _ = capfd.readouterr()
    assert "built" in out
    assert "(a new template and its clone)" in out
    snapshot.restore(Context(), name="10_offices", fresh=True)
    out, _ = capfd.readouterr()
    assert "(a clone of its template)" in out
    assert "is kept as perfdata_before_" in out
    db.gc(Context(), json=True)
    facts = json.loads(capfd.readouterr()[0])
    assert any(one["name"].startswith("perfdata_before_") for one in facts["removed"])
    assert facts["size_bytes"] > 0
    db.gc(Context())
    assert "freed 0 B" in capfd.readouterr()[0]
    opened = open_target(own_settings)
    assert provide_dataset(opened, "10_offices", fresh=True).restored is not None

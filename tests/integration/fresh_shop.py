"""A shop whose database is replaced by fresh restores: its fixtures, and what is made for it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from perfdata import (
    Restored,
    Settings,
    create_snapshot,
    restore_snapshot,
)
from perfdata.postgres.drivers import PsycopgLink
from perfdata.templates.databases import list_databases, lock_number
from perfdata.templates.marks import Kind, parse_mark
from tests.integration.databases import run
from tests.integration.inner import entry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from perfdata.server.embedded import EmbeddedServer


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
# A restore with a function that dies; argv: module, function, before or after, URL, root, home.
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
            mark = one.mark or one.invalid_mark
            unfinished = one.unfinished_for(lock_number(name))
            if unfinished or (one.name != name and mark and mark.target == name):
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


def fresh_settings(fresh: Callable[..., Restored]) -> Settings:
    """The settings that the fixture restores with."""
    cells = dict(zip(fresh.__code__.co_freevars, fresh.__closure__ or (), strict=True))
    found = cells["settings"].cell_contents
    assert isinstance(found, Settings)
    return found


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

"""Builds in a clone that replaces the database: when, what becomes of everything, what is kept."""

from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from perfdata import (
    Built,
    GuardError,
    TableRows,
    Target,
    build_dataset,
    restore_snapshot,
    verify_snapshot,
)
from perfdata.templates.marks import Kind
from tests.integration.databases import run
from tests.integration.fresh_shop import CLONED, MADE, database_of, others, properties
from tests.integration.unflagged_shop import generate, project

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from perfdata import Dataset, Restored
    from perfdata.server.embedded import EmbeddedServer

pytestmark = pytest.mark.slow

OID = "SELECT oid::bigint FROM pg_database WHERE datname = current_database()"
COUNTS = 'SELECT (SELECT count(*) FROM customer), (SELECT count(*) FROM "order")'
# A build with a function that dies; argv: module, function, before or after, URL, root, home.
KILLED = """
import importlib, os, signal, sys
from pathlib import Path
from perfdata import Settings, Target, build_dataset

module, name, before, snapshot, url, root, home = sys.argv[1:]
module = importlib.import_module(module)
function = getattr(module, name)

def instead(*args, **kwargs):
    if before != "before":
        function(*args, **kwargs)
    os.kill(os.getpid(), signal.SIGKILL)

setattr(module, name, instead)
environ = {"PERFDATA_HOME": home, "PERFDATA_PROJECT": "tests.integration.unflagged_shop:project"}
environ["PERFDATA_ALLOW"] = os.environ["ALLOWED"]
settings = Settings.load(Path(root), environ)
target = Target(settings, url, embedded=False)
build_dataset(target, "100", snapshot=snapshot == "snapshot", fresh=True)
"""


KEPT = "the replaced database"


@pytest.fixture
def maintenance(server: EmbeddedServer) -> str:
    return server.conninfo("postgres")


@pytest.fixture
def shop(owned_shop: Target, maintenance: str) -> Iterator[Target]:
    """A database that perfdata owns; nothing else is left of it afterwards."""
    yield owned_shop
    for kind, names in others(maintenance, owned_shop.conninfo).items():
        for name in names if kind is not Kind.MADE else ():
            run(maintenance, f'ALTER DATABASE "{name}" IS_TEMPLATE false',
                f'DROP DATABASE "{name}" WITH (FORCE)')  # fmt: skip


def oid(target: Target) -> int:
    return int(run(target.conninfo, OID)[0][0])


def restore(target: Target) -> Restored:
    return restore_snapshot(target.conninfo, "100", fresh=True, settings=target.settings)


def in_place(built: Built) -> str:
    """Return the note that says why a build was made in place."""
    assert built.strategy in {"whole tables", "beside other data"}
    (note,) = [note for note in built.notes if note.startswith("built in place: ")]
    return note


def test_a_build_replaces_the_database_and_the_next_restore_clones_its_template(
    shop: Target, maintenance: str
) -> None:
    before = oid(shop)
    built = build_dataset(shop, "100", fresh=True)
    assert (built.strategy, built.rows) == (MADE, {"customer": 100, "order": 100})
    assert [note.partition(" is kept as ")[0] for note in built.notes] == [KEPT]
    assert oid(shop) != before
    found = others(maintenance, shop.conninfo)
    assert {kind: len(names) for kind, names in found.items()} == {
        Kind.MADE: 1, Kind.TEMPLATE: 1, Kind.BEFORE: 1
    }  # fmt: skip
    verify_snapshot("100", database=shop.conninfo, settings=shop.settings)
    run(shop.conninfo, 'DELETE FROM "order"')
    assert restore(shop).strategy == CLONED
    verify_snapshot("100", database=shop.conninfo, settings=shop.settings)
    assert run(shop.conninfo, COUNTS) == [(100, 100)]
    assert run(shop.conninfo, "INSERT INTO customer (name) VALUES ('x') RETURNING id") == [(101,)]


def test_a_template_holds_what_a_restore_of_the_file_does(
    shop: Target, digests: Callable[[str], dict[str, object]]
) -> None:
    build_dataset(shop, "100", fresh=True)
    assert restore(shop).strategy == CLONED
    cloned = digests(shop.conninfo)
    restore_snapshot(shop.conninfo, "100", settings=shop.settings)
    assert digests(shop.conninfo) == cloned


def test_the_rows_of_a_build_count_as_perfdatas_own(shop: Target) -> None:
    """So the next build replaces the tables, and empties those that it does not fill."""
    assert build_dataset(shop, "100", fresh=True).strategy == MADE
    assert build_dataset(shop, "customers", fresh=True).strategy == MADE
    assert run(shop.conninfo, COUNTS) == [(5, 0)]
    fresh = restore_snapshot(shop.conninfo, "customers", fresh=True, settings=shop.settings)
    assert fresh.strategy == CLONED
    assert build_dataset(shop, "10", snapshot=False, fresh=True).strategy == "a clone"
    assert run(shop.conninfo, COUNTS) == [(10, 10)]


def test_a_second_build_of_the_same_rows_uses_the_template_of_the_first(
    shop: Target, maintenance: str
) -> None:
    first = build_dataset(shop, "100", fresh=True)
    run(shop.conninfo, 'DELETE FROM "order"')
    assert build_dataset(shop, "100", fresh=True).rows == first.rows
    assert run(shop.conninfo, COUNTS) == [(100, 100)]
    found = others(maintenance, shop.conninfo)
    assert {kind: len(names) for kind, names in found.items()} == {
        Kind.MADE: 1, Kind.TEMPLATE: 1, Kind.BEFORE: 1
    }  # fmt: skip
    assert restore(shop).strategy == CLONED


def test_a_build_without_a_snapshot_leaves_no_template(shop: Target, maintenance: str) -> None:
    name = database_of(shop.conninfo)
    run(maintenance, f"ALTER DATABASE \"{name}\" SET work_mem TO '8MB'")
    before = properties(shop.conninfo, maintenance)
    for _ in range(2):
        built = build_dataset(shop, "100", snapshot=False, fresh=True)
        assert (built.strategy, built.snapshot) == ("a clone", None)
        found = others(maintenance, shop.conninfo)
        assert {kind: len(names) for kind, names in found.items()} == {
            Kind.MADE: 1, Kind.BEFORE: 1
        }  # fmt: skip
    assert run(shop.conninfo, COUNTS) == [(100, 100)]
    after = properties(shop.conninfo, maintenance)
    # Nobody but everybody's default privileges are there; they may be written out.
    default = "SELECT acldefault('d', datdba)::text[] FROM pg_database WHERE datname = '{}'"
    ((acl,),) = run(maintenance, default.format(name))
    assert [sorted(row[1] or acl) for row in after] == [sorted(row[1] or acl) for row in before]
    assert [row[:1] + row[2:] for row in after] == [row[:1] + row[2:] for row in before]


def test_only_a_build_that_saves_its_snapshot_analyses_every_row(
    shop: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The statistics that a snapshot carries must not depend on a sample; others may."""
    dataset = replace(project.dataset("customers"), parameters={"customers": 40_000})
    monkeypatch.setattr("tests.integration.unflagged_shop.project", replace(
        project, datasets=(dataset,)))  # fmt: skip
    bounds = (
        "SELECT cardinality(histogram_bounds::text::int[]) FROM pg_stats"
        " WHERE (tablename, attname) = ('customer', 'id')"
    )
    build_dataset(shop, "customers", snapshot=False, fresh=True)
    assert run(shop.conninfo, bounds) == [(101,)]  # those of the default statistics target
    build_dataset(shop, "customers", fresh=True)
    assert run(shop.conninfo, bounds) == [(135,)]
    with psycopg.connect(shop.conninfo):  # so the next ones are made in place
        build_dataset(shop, "customers", snapshot=False, fresh=True)
        assert run(shop.conninfo, bounds) == [(101,)]
        build_dataset(shop, "customers", fresh=True)
        assert run(shop.conninfo, bounds) == [(135,)]


def test_a_session_in_the_database_is_named_and_the_build_is_made_in_place(shop: Target) -> None:
    before = oid(shop)
    with psycopg.connect(shop.conninfo, application_name="the shop") as connection:
        built = build_dataset(shop, "100", fresh=True)
        note = in_place(built)
        assert f"pid {connection.info.backend_pid} (the shop" in note
        assert run(shop.conninfo, COUNTS) == [(100, 100)]
    assert oid(shop) == before


def test_rows_that_are_not_test_data_stay(shop: Target) -> None:
    run(shop.conninfo, "ALTER TABLE customer ADD is_test_data boolean NOT NULL DEFAULT false",
        "INSERT INTO customer VALUES (1000, 'a real one')")  # fmt: skip
    assert "customer: 1" in in_place(build_dataset(shop, "flagged", fresh=True))
    assert run(shop.conninfo, "SELECT count(*) FROM customer") == [(21,)]


def test_a_database_that_perfdata_does_not_own_is_never_replaced(shop_elsewhere: Target) -> None:
    run(shop_elsewhere.conninfo, "ALTER TABLE customer ADD is_test_data boolean NOT NULL")
    before = oid(shop_elsewhere)
    assert build_dataset(shop_elsewhere, "flagged", fresh=True).strategy == "whole tables"
    assert oid(shop_elsewhere) == before


@pytest.fixture
def plain(shop: Target, maintenance: str) -> Iterator[Target]:
    """The shop for a role that owns its database and the tables that a dataset fills."""
    name = database_of(shop.conninfo)
    role = f"plain_{name}"
    run(maintenance, f"CREATE ROLE {role} LOGIN", "GRANT pg_read_all_settings TO " + role,
        f'ALTER DATABASE "{name}" OWNER TO {role}')  # fmt: skip
    run(shop.conninfo, *(f'ALTER TABLE "{table}" OWNER TO {role}' for table in
                         ("customer", "order")))  # fmt: skip
    yield replace(shop, conninfo=make_conninfo(shop.conninfo, user=role))
    run(maintenance, f'ALTER DATABASE "{name}" OWNER TO CURRENT_USER')
    run(shop.conninfo, f"REASSIGN OWNED BY {role} TO CURRENT_USER", f"DROP OWNED BY {role}")
    run(maintenance, f"DROP ROLE {role}")


def test_a_database_whose_sessions_write_uncounted_is_built_in_place(
    shop: Target, maintenance: str
) -> None:
    """What they write while rows are generated would be lost with the replaced database."""
    setting = f'ALTER DATABASE "{database_of(shop.conninfo)}" SET track_counts TO off'
    run(maintenance, setting)
    assert "would not be noticed" in in_place(build_dataset(shop, "100", fresh=True))
    assert run(shop.conninfo, COUNTS) == [(100, 100)]


def test_only_a_fresh_build_replaces_the_database(shop: Target) -> None:
    before = oid(shop)
    assert build_dataset(shop, "100").strategy == "whole tables"
    assert oid(shop) == before


def test_a_role_that_may_not_create_databases_builds_in_place(plain: Target) -> None:
    assert "CREATEDB" in in_place(build_dataset(plain, "100", fresh=True))


def test_a_role_that_may_not_read_every_table_leaves_no_template(
    plain: Target, shop: Target, maintenance: str
) -> None:
    run(maintenance, f'ALTER ROLE "plain_{database_of(shop.conninfo)}" CREATEDB')
    built = build_dataset(plain, "100", fresh=True)
    assert built.strategy == "a clone"
    assert built.snapshot
    found = others(maintenance, shop.conninfo)
    assert found.keys() == {Kind.MADE, Kind.BEFORE}
    assert run(shop.conninfo, COUNTS) == [(100, 100)]
    run(maintenance, f'DROP DATABASE "{found[Kind.BEFORE][0]}"')  # in which the role has rights


@pytest.mark.parametrize("snapshot", [True, False])
def test_what_is_written_during_a_build_is_not_lost(
    shop: Target, monkeypatch: pytest.MonkeyPatch, maintenance: str, *, snapshot: bool
) -> None:
    """The dataset's code writes to the database, as anybody could meanwhile."""
    written: list[int] = []

    def lines(conninfo: str) -> Iterator[bytes]:
        run(conninfo, f"INSERT INTO note VALUES ({len(written)}, 'a real one')")
        written.append(1)
        yield b"1\tcustomer\tt\n"

    def writes(_: Dataset) -> Iterator[TableRows]:
        yield TableRows("customer", ("id", "name", "is_test_data"), lines(shop.conninfo))

    run(shop.conninfo, *(f"ALTER TABLE {table} ADD is_test_data boolean"
                         for table in ("country", "customer", '"order"')))  # fmt: skip
    dataset = replace(project.dataset("flagged"), generate=writes)
    monkeypatch.setattr("tests.integration.unflagged_shop.project", replace(
        project, datasets=(dataset,)))  # fmt: skip
    run(shop.conninfo, "UPDATE country SET is_test_data = true")
    assert "written to" in in_place(build_dataset(shop, "flagged", snapshot=snapshot, fresh=True))
    assert run(shop.conninfo, "SELECT count(*) FROM note") == [(len(written),)]
    assert others(maintenance, shop.conninfo).keys() <= {Kind.MADE, Kind.TEMPLATE}


@pytest.mark.parametrize("snapshot", [True, False])
def test_a_session_that_begins_during_a_build_keeps_its_database(
    shop: Target, monkeypatch: pytest.MonkeyPatch, maintenance: str, *, snapshot: bool
) -> None:
    """It is found when the loaded clone would take the name: the rows are then loaded in place."""
    sessions: list[psycopg.Connection] = []

    def connects(dataset: Dataset) -> Iterator[TableRows]:
        tables = [
            TableRows(table.table, table.columns, list(table.blocks)) for table in generate(dataset)
        ]
        if not sessions:
            sessions.append(psycopg.connect(shop.conninfo, autocommit=True))
        yield from tables

    tables = ("country", "customer", '"order"', "note")
    run(shop.conninfo, *(
        f"ALTER TABLE {table} ADD is_test_data boolean DEFAULT true" for table in tables
    ))  # fmt: skip
    dataset = replace(project.dataset("100"), generate=connects)
    monkeypatch.setattr("tests.integration.unflagged_shop.project", replace(
        project, datasets=(dataset,)))  # fmt: skip
    before = oid(shop)
    built = build_dataset(shop, "100", snapshot=snapshot, fresh=True)
    pid = sessions[0].info.backend_pid
    assert f"pid {pid}" in in_place(built)
    assert sessions[0].execute(COUNTS).fetchall() == [(100, 100)]
    sessions[0].close()
    assert oid(shop) == before
    expected = {Kind.MADE, Kind.TEMPLATE} if snapshot else {Kind.MADE}
    assert others(maintenance, shop.conninfo).keys() == expected


def test_a_database_that_perfdata_restore_protects_is_not_replaced(
    shop: Target, maintenance: str
) -> None:
    name = database_of(shop.conninfo)
    run(maintenance, f"ALTER DATABASE \"{name}\" SET perfdata.restore TO 'never'")
    before = oid(shop)
    with pytest.raises(GuardError, match=r"perfdata\.restore"):
        build_dataset(shop, "100", fresh=True)
    assert oid(shop) == before


def test_an_error_of_the_rows_leaves_everything_as_it_was(
    shop: Target, monkeypatch: pytest.MonkeyPatch, maintenance: str
) -> None:
    def dangling(dataset: Dataset) -> Iterator[TableRows]:
        customers, _ = generate(dataset)
        yield customers
        yield TableRows("order", ("id", "customer_id"), [b"1\t4711\n"])

    dataset = replace(project.dataset("100"), generate=dangling)
    monkeypatch.setattr("tests.integration.unflagged_shop.project", replace(
        project, datasets=(dataset,)))  # fmt: skip
    before = oid(shop)
    with pytest.raises(Exception, match="order_customer_id_fkey"):
        build_dataset(shop, "100", fresh=True)
    assert (oid(shop), run(shop.conninfo, COUNTS)) == (before, [(0, 0)])
    assert others(maintenance, shop.conninfo).keys() == {Kind.MADE}


@pytest.mark.parametrize(
    ("module", "function", "when", "snapshot"),
    [
        ("perfdata.load.private", "copy_table", "after", "snapshot"),
        ("perfdata.snapshot.clone", "seal_template", "before", "snapshot"),
        ("perfdata.snapshot.clone", "close_work", "after", "none"),
        ("perfdata.templates.swap", "apply_properties", "after", "none"),  # in the swap
    ],
)
def test_a_build_that_is_killed_leaves_the_database_as_before_or_after(
    shop: Target, maintenance: str, module: str, function: str, when: str, snapshot: str
) -> None:
    before = oid(shop)
    settings = shop.settings
    arguments = [module, function, when, snapshot, shop.conninfo]
    died = subprocess.run(
        [sys.executable, "-c", KILLED, *arguments, str(settings.root), str(settings.home)],
        check=False,
        env={"ALLOWED": settings.allow[0], "PATH": "/usr/bin:/bin"},
        cwd=settings.root,
    )
    assert died.returncode == -signal.SIGKILL
    assert oid(shop) == before
    assert run(shop.conninfo, COUNTS) == [(0, 0)]
    build_dataset(shop, "10", snapshot=False, fresh=True)
    assert run(shop.conninfo, COUNTS) == [(10, 10)]
    found = others(maintenance, shop.conninfo)
    assert Kind.WORK not in found

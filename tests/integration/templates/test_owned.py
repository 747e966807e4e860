"""What perfdata takes for its own: a mark holds for one database of one server."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from perfdata import RefusedError, Settings, create_snapshot, open_target, restore_snapshot
from perfdata.postgres.connection import open_link
from perfdata.postgres.drivers import PsycopgLink
from perfdata.server.embedded import EmbeddedServer
from perfdata.target.garbage import collect_databases
from perfdata.templates.databases import list_databases
from perfdata.templates.marks import Kind, Mark, format_comment, parse_mark
from perfdata.templates.provenance import find_owned
from tests.homes import discard_server
from tests.integration.databases import mark_owned, run
from tests.integration.inner import entry

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "owned"
SHOP = (
    "CREATE TABLE item (id int PRIMARY KEY, is_test_data boolean)",
    "INSERT INTO item VALUES (1, true)",
)
REAL = "INSERT INTO item VALUES (2, false)"
OTHER = "shop_before_20261124_120501"


def comment_on(url: str, name: str, comment: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            psycopg.sql.SQL("COMMENT ON DATABASE {} IS {}").format(
                psycopg.sql.Identifier(name), psycopg.sql.Literal(comment)
            )
        )


def marks(url: str) -> dict[str, tuple[int, str]]:
    """Return the oid and the comment of each database that has one."""
    found = run(
        url,
        "SELECT datname, oid::bigint, shobj_description(oid, 'pg_database') FROM pg_database"
        " WHERE shobj_description(oid, 'pg_database') LIKE '%%perfdata: %%'",
    )
    return {name: (oid, comment) for name, oid, comment in found}


@pytest.fixture(scope="module")
def second(
    tmp_path_factory: pytest.TempPathFactory, settings: Settings
) -> Iterator[EmbeddedServer]:
    """Another cluster, with a home of its own."""
    own = replace(settings, home=tmp_path_factory.mktemp("second"))
    server = EmbeddedServer(own)
    server.start()
    yield server
    discard_server(own)


@pytest.fixture
def copied(server: EmbeddedServer, second: EmbeddedServer) -> Iterator[str]:
    """As ``pg_dump -C`` carries them: the databases of the first cluster, marks and all.

    With the very oids, which a fresh cluster hands out again. The maintenance database's conninfo.
    """
    here, there = server.conninfo("postgres"), second.conninfo("postgres")
    names = ("shop", OTHER)
    run(here, *(f"CREATE DATABASE {name}" for name in names))
    mark_owned(server.conninfo("shop"))
    oids = dict(run(here, "SELECT datname, oid::bigint FROM pg_database"))
    ((identifier,),) = run(here, "SELECT system_identifier FROM pg_control_system()")
    before = Mark(Kind.BEFORE, oids[OTHER], "shop", used=1.0, server=identifier)
    comment_on(here, OTHER, format_comment("", before))
    for name in names:
        oid, comment = marks(here)[name]
        run(there, f"CREATE DATABASE {name} OID = {oid}")
        comment_on(there, name, comment)
        assert marks(there)[name] == (oid, comment)
    yield there
    for conninfo in (here, there):
        run(conninfo, *(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)" for name in names))


def test_a_database_copied_from_another_cluster_is_not_perfdatas(
    copied: str, server: EmbeddedServer, settings: Settings, second: EmbeddedServer
) -> None:
    """Real rows in it are not lost to a fresh one; its copies are not collected."""
    shop = second.conninfo("shop")
    allowed = replace(settings, allow=(entry(shop, "*"),), database_url=shop)
    run(shop, *SHOP)
    made = create_snapshot(shop, NAME, settings=settings)
    run(shop, REAL)
    with open_link(server.conninfo("shop")) as original, open_link(shop) as copy:
        assert find_owned(original)
        assert not find_owned(copy)
    with pytest.raises(RefusedError, match=r"item: 1.* it was not made by perfdata"):
        restore_snapshot(shop, NAME, settings=allowed, fresh=True)
    collected = collect_databases(shop, allowed)
    assert collected.removed == ()
    assert [line for line in collected.left if line.startswith(f"{OTHER}: carries a mark (before)")]
    assert OTHER in marks(copied)
    made.path.unlink()


def without_server(name: str, oid: int, kind: Kind = Kind.MADE) -> str:
    """Write a comment as perfdata did before marks named their server."""
    return format_comment("mine", Mark(kind, oid, name, used=1.0))


def test_a_mark_without_the_server_counts_on_the_embedded_one_and_is_completed(
    server: EmbeddedServer, settings: Settings
) -> None:
    conninfo = server.conninfo("postgres")
    oid = run(conninfo, "CREATE DATABASE shop", "SELECT oid::bigint FROM pg_database"
                        " WHERE datname = 'shop'")[0][0]  # fmt: skip
    try:
        comment_on(conninfo, "shop", without_server("shop", oid))
        open_target(settings)
        ((identifier,),) = run(conninfo, "SELECT system_identifier FROM pg_control_system()")
        _, comment = marks(conninfo)["shop"]
        mark = parse_mark(comment)
        assert mark is not None
        assert (mark.kind, mark.oid, mark.server) == (Kind.MADE, oid, identifier)
        assert comment.startswith("mine\n")
        with open_link(server.conninfo("shop")) as link:
            assert find_owned(link)
    finally:
        run(conninfo, "DROP DATABASE shop")


def test_a_mark_without_the_server_counts_for_nothing_on_a_server_by_url(
    second: EmbeddedServer, settings: Settings
) -> None:
    """What carries it is not owned, not removed, and named."""
    conninfo, shop = second.conninfo("postgres"), second.conninfo("shop")
    run(conninfo, "CREATE DATABASE shop", f"CREATE DATABASE {OTHER}")
    try:
        for name, kind in (("shop", Kind.MADE), (OTHER, Kind.BEFORE)):
            ((oid,),) = run(
                conninfo, f"SELECT oid::bigint FROM pg_database WHERE datname = '{name}'"
            )
            comment_on(conninfo, name, without_server("shop", oid, kind))
        allowed = replace(settings, allow=(entry(shop, "*"),), database_url=shop)
        with open_link(shop) as link:
            assert not find_owned(link)
        collected = collect_databases(shop, allowed)
        assert collected.removed == ()
        assert "without the server's identifier" in collected.left[0]
        assert OTHER in marks(conninfo)
    finally:
        run(conninfo, "DROP DATABASE shop", f"DROP DATABASE {OTHER}")


def test_a_work_database_with_another_clusters_mark_is_not_one_that_lacks_its_own(
    second: EmbeddedServer,
) -> None:
    """By name and limit alone it would pass for one whose run was killed before it marked it."""
    conninfo, name = second.conninfo("postgres"), "perfdata_work_0badcafe_1"
    run(conninfo, f"CREATE DATABASE {name} CONNECTION LIMIT {0x70657266}")
    try:
        number = int.from_bytes(bytes.fromhex("0badcafe"), signed=True)
        for comment, unfinished in ((None, True), (without_server("shop", 7, Kind.WORK), False)):
            if comment is not None:
                comment_on(conninfo, name, comment)
            with psycopg.connect(conninfo, autocommit=True) as connection:
                (one,) = [x for x in list_databases(PsycopgLink(connection)) if x.name == name]
            assert one.unfinished_for(number) is unfinished
    finally:
        run(conninfo, f"DROP DATABASE {name}")


def test_a_role_that_may_not_read_the_identifier_replaces_no_database(
    second: EmbeddedServer, settings: Settings
) -> None:
    """Its marks could not be told from another server's: it restores in the ordinary way."""
    conninfo, shop = second.conninfo("postgres"), second.conninfo("shop")
    run(conninfo, "CREATE ROLE blind LOGIN CREATEDB", "CREATE DATABASE shop OWNER blind",
        "REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC")  # fmt: skip
    try:
        url = make_conninfo(shop, user="blind")
        run(shop, "REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC",
            "GRANT ALL ON SCHEMA public TO blind")  # fmt: skip
        run(url, *SHOP)
        made = create_snapshot(url, NAME, settings=settings)
        allowed = replace(settings, allow=(entry(shop),))
        done = restore_snapshot(url, NAME, settings=allowed, fresh=True)
        assert "pg_control_system() TO the role" in done.notes[0]
        made.path.unlink()
    finally:
        run(conninfo, "DROP DATABASE shop", "DROP ROLE blind",
            "GRANT EXECUTE ON FUNCTION pg_control_system() TO PUBLIC")  # fmt: skip

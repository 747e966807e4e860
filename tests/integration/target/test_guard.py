"""Which databases may be changed: what the client dials, what the server says, what its DBA set."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from perfdata import (
    GuardError,
    Settings,
    Target,
    build_dataset,
    create_snapshot,
    restore_snapshot,
)
from perfdata.addresses import default_folder
from perfdata.aio import restore_snapshot as restore_snapshot_async
from perfdata.libpq import libpq_defaults
from perfdata.progress import silent
from perfdata.snapshot.perf_clones import Clones
from perfdata.target.garbage import collect_databases
from tests.integration.databases import mark_owned, run
from tests.integration.forwarder import forwarder
from tests.integration.inner import entry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from perfdata import Restored
    from perfdata.server.embedded import EmbeddedServer
    from perfdata.target.garbage import Collected

NAME = "guarded"
IDENTIFIER = "SELECT system_identifier FROM pg_control_system()"


@pytest.fixture
def stranger(settings: Settings, tmp_path: Path) -> Settings:
    """Settings whose embedded server is another one: this one counts as anybody's."""
    return replace(settings, home=tmp_path / "home", configured=False)


@pytest.fixture
def shop(empty_url: str, stranger: Settings) -> str:
    """A database with a flagged row, and its snapshot."""
    run(
        empty_url,
        "CREATE TABLE item (id int PRIMARY KEY, is_test_data boolean)",
        "INSERT INTO item VALUES (1, true)",
    )
    create_snapshot(empty_url, NAME, settings=stranger)
    return empty_url


@pytest.fixture
def name(shop: str) -> str:
    return str(conninfo_to_dict(shop)["dbname"])


@pytest.fixture
def socket_file(server: EmbeddedServer) -> str:
    return str(server.status().socket / ".s.PGSQL.5432")


@pytest.fixture
def port(socket_file: str) -> Iterator[int]:
    """A port that is forwarded to the server."""
    with forwarder(socket_file) as port:
        yield port


@pytest.fixture
def restore(stranger: Settings) -> Callable[..., Restored]:
    """Return a function that restores into a database where these entries are listed."""

    def attempt(url: str, *allow: str, **options: Any) -> Restored:
        listing = replace(stranger, allow=allow)
        return restore_snapshot(url, NAME, settings=listing, **options)

    return attempt


def over_tcp(port: int, name: str, **parts: Any) -> str:
    """Write how libpq reaches a forwarder: it asks for no encryption."""
    dialled = {"host": "127.0.0.1", "port": port, "user": "perfdata", "dbname": name, **parts}
    return make_conninfo("", sslmode="disable", gssencmode="disable", **dialled)


def test_a_forwarder_on_another_port_is_another_database(
    restore: Callable[..., Restored], socket_file: str, port: int, name: str
) -> None:
    """The refusal names the old entry with its new form, and the line to add."""
    url, listed = over_tcp(port, name), f"127.0.0.1:{port}/{name}"
    with forwarder(socket_file) as other, pytest.raises(GuardError, match=r"is not\. The list has"):
        restore(url, f"127.0.0.1:{other}/{name}")
    with pytest.raises(GuardError) as caught:
        restore(url, f"127.0.0.1/{name}")
    said = str(caught.value)
    assert f"'127.0.0.1/{name}' no longer matches: write '{listed}'" in said
    assert f'set PERFDATA_ALLOW={listed} or, in pyproject.toml, [tool.perfdata] allow = ["' in said
    assert restore(url, listed).rows == {"item": 1}


def test_the_socket_of_another_folder_is_not_local(
    restore: Callable[..., Restored], shop: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the URL names the folder or the environment does."""
    written = entry(shop)
    with pytest.raises(GuardError, match=f"'local/{name}' no longer matches: write '{written}'"):
        restore(shop, f"local/{name}")
    folder = written.partition(":")[0]
    monkeypatch.setenv("PGHOST", folder)
    with pytest.raises(
        GuardError, match=f"'local/test_.' no longer matches: write '{folder}:5432/test_.'"
    ):
        restore(f"postgresql://perfdata@/{name}", "local/test_*")
    assert restore(f"postgresql://perfdata@/{name}", written).rows == {"item": 1}


def test_a_link_to_a_folder_is_the_folder_that_it_leads_to(
    restore: Callable[..., Restored], shop: str, name: str, tmp_path: Path
) -> None:
    link = tmp_path / "link"
    link.symlink_to(entry(shop).partition(":")[0])
    url = make_conninfo(shop, host=str(link))
    with pytest.raises(GuardError, match=f"PERFDATA_ALLOW={entry(shop)} "):
        restore(url, f"{link}:5432/{name}")
    assert restore(url, entry(shop)).rows == {"item": 1}


@pytest.mark.parametrize(
    ("variable", "value"),
    [("PGHOST", "/nowhere"), ("PGHOSTADDR", "127.0.0.1"), ("PGSERVICE", "no_such_service")],
)
def test_local_is_the_folder_that_libpq_was_compiled_with(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    """Not what the environment names, which is dialled like any other, and never to find this."""
    with pytest.raises(psycopg.OperationalError) as caught:
        psycopg.connect("host='' port=1")
    folder = str(caught.value).partition('socket "')[2].partition("/.s.PGSQL.1")[0]
    assert folder.startswith("/")
    monkeypatch.setenv(variable, value)
    libpq_defaults.cache_clear()
    assert default_folder() == os.path.realpath(folder)
    assert os.environ[variable] == value


@pytest.mark.parametrize("named", ["/nowhere", "no-such-host.invalid"])
def test_what_goes_elsewhere_by_hostaddr_counts_as_that_address(
    restore: Callable[..., Restored], port: int, name: str, named: str
) -> None:
    """Whatever host it names, a socket's folder too."""
    url = over_tcp(port, name, host=named, hostaddr="127.0.0.1")
    allow = (f"local/{name}", f"local:{port}/{name}", f"{named}:{port}/{name}", f"{named}/{name}")
    with pytest.raises(GuardError, match=f"PERFDATA_ALLOW=127.0.0.1:{port}/{name} "):
        restore(url, *allow)
    assert restore(url, f"127.0.0.1:{port}/{name}").rows == {"item": 1}


def test_hostaddr_of_the_environment_counts_too(
    restore: Callable[..., Restored], port: int, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGHOSTADDR", "127.0.0.1")
    url = over_tcp(port, name, host="db.example.invalid")
    with pytest.raises(GuardError, match=rf"PERFDATA_ALLOW=127\.0\.0\.1:{port}/{name} "):
        restore(url, f"db.example.invalid:{port}/{name}", f"db.example.invalid/{name}")


def test_a_poolers_alias_is_not_the_databases_name(
    restore: Callable[..., Restored], socket_file: str, name: str
) -> None:
    """What it is called the server is asked; nothing is replaced through an alias as a whole."""
    with forwarder(socket_file, {"playground": name}) as port:
        url, listed = over_tcp(port, "playground"), f"127.0.0.1:{port}/{name}"
        with pytest.raises(GuardError, match=f"PERFDATA_ALLOW={listed} "):
            restore(url, f"127.0.0.1:{port}/playground")
        assert restore(url, listed).rows == {"item": 1}
        done = restore(url, listed, fresh=True)
    assert "restored without fresh=True: the server has no database playground" in done.notes[0]


def test_an_alias_of_another_database_of_the_server_is_not_replaced(
    restore: Callable[..., Restored], socket_file: str, name: str, databases: Any
) -> None:
    """The name that the client gives is there, and it is another database than the one reached."""
    other = databases.make("template0")
    named = other.rpartition("/")[2].partition("?")[0]
    with forwarder(socket_file, {named: name}) as port:
        done = restore(over_tcp(port, named), f"127.0.0.1:{port}/{name}", fresh=True)
    assert "by way of a pooler" in done.notes[0]


@pytest.mark.parametrize("pattern", ["*/*", "127.*:{port}/*", "127.0.0.1:*/{name}", "*"])
def test_wildcards_match_names_of_databases_only(
    restore: Callable[..., Restored], port: int, name: str, pattern: str
) -> None:
    url = over_tcp(port, name)
    with pytest.raises(GuardError, match="wildcards in the database's name only"):
        restore(url, pattern.format(port=port, name=name))
    assert restore(url, f"127.0.0.1:{port}/{name[:-1]}*").rows == {"item": 1}


def test_an_old_entry_with_a_wildcard_in_its_host_is_named_with_the_exact_one(
    restore: Callable[..., Restored], port: int, name: str
) -> None:
    new = f"127.0.0.1:{port}/{name}"
    with pytest.raises(GuardError, match=rf"'\*/test_\*' no longer matches: write '{new}'"):
        restore(over_tcp(port, name), "*/test_*")


def test_an_entry_with_an_identifier_holds_on_that_server_alone(
    restore: Callable[..., Restored], shop: str
) -> None:
    ((identifier,),) = run(shop, IDENTIFIER)
    with pytest.raises(GuardError, match=f"This server's identifier is {identifier}"):
        restore(shop, f"{entry(shop)}@{identifier + 1}")
    assert restore(shop, f"{entry(shop)}@{identifier}").rows == {"item": 1}
    run(
        shop,
        "REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC",
        "CREATE ROLE blind LOGIN",
    )
    try:
        with pytest.raises(GuardError, match="may not read the server's identifier: GRANT EXEC"):
            restore(make_conninfo(shop, user="blind"), f"{entry(shop)}@{identifier}")
    finally:
        run(shop, "DROP ROLE blind")


def test_a_name_that_looks_like_a_pattern_is_allowed_as_it_is(
    restore: Callable[..., Restored], shop: str, databases: Any, name: str
) -> None:
    odd = databases.make(name, "od[d]?")
    with pytest.raises(GuardError, match=r"PERFDATA_ALLOW='.*:5432/od\[d\]\?' "):
        restore(odd, entry(shop))
    assert restore(odd, entry(odd)).rows == {"item": 1}


@pytest.mark.asyncio
async def test_an_asynchronous_driver_dials_the_same_address(
    shop: str, stranger: Settings, port: int, name: str
) -> None:
    """A socket's folder and port, a host's port: asyncpg tells them in other words."""
    from sqlalchemy.ext.asyncio import create_async_engine

    folder = entry(shop).partition(":")[0]
    for driver in ("asyncpg", "psycopg"):
        for place, query, listed in (
            ("", f"host={folder}", entry(shop)),
            (f"127.0.0.1:{port}", "", f"127.0.0.1:{port}/{name}"),
        ):
            url = f"postgresql+{driver}://perfdata@{place}/{name}?{query}"
            options = {"sslmode": "disable", "gssencmode": "disable"}
            arguments = {"ssl": False} if driver == "asyncpg" else options
            engine = create_async_engine(url, connect_args=arguments)
            try:
                with pytest.raises(GuardError, match=f"PERFDATA_ALLOW={listed} "):
                    await restore_snapshot_async(engine, NAME, settings=stranger)
                allowed = replace(stranger, allow=(listed,))
                done = await restore_snapshot_async(engine, NAME, settings=allowed)
                assert done.rows == {"item": 1}
            finally:
                await engine.dispose()


SET_BY = {
    "database": "ALTER DATABASE {name} SET perfdata.restore = 'never'",
    "database, misspelt": "ALTER DATABASE {name} SET perfdata.restore = 'Newer'",
    "role in it": "ALTER ROLE perfdata IN DATABASE {name} SET perfdata.restore = 'never'",
    "both, one of them empty": (
        "ALTER DATABASE {name} SET perfdata.restore = 'never';"
        "ALTER ROLE perfdata IN DATABASE {name} SET perfdata.restore = ''"
    ),
}


@pytest.fixture
def own_snapshot(shop: str, settings: Settings) -> Iterator[None]:
    """The snapshot for the embedded server's own settings too."""
    made = create_snapshot(shop, NAME, settings=settings, replace=True)
    yield
    made.path.unlink()


@pytest.mark.usefixtures("own_snapshot")
@pytest.mark.parametrize("set_by", SET_BY)
def test_never_wins_over_everything(
    restore: Callable[..., Restored], shop: str, name: str, settings: Settings, set_by: str
) -> None:
    """Also over the embedded server, an owned database, and what a session sets for itself."""
    run(shop, *SET_BY[set_by].format(name=name).split(";"))
    mark_owned(shop)
    target = Target(settings, make_conninfo(shop), embedded=True)
    hidden = make_conninfo(shop, options="-c perfdata.restore=")
    attempts: list[Callable[[], Any]] = [
        lambda: restore(shop, entry(shop)),
        lambda: restore(hidden, entry(shop)),
        lambda: restore_snapshot(shop, NAME, settings=settings),
        lambda: restore_snapshot(shop, NAME, settings=settings, fresh=True),
        lambda: build_dataset(target, "10_offices"),
        lambda: Clones(target, {}, silent).__enter__(),
        lambda: collect_databases(shop, replace(settings, database_url=shop)),
    ]
    for attempt in attempts:
        with pytest.raises(GuardError, match=r"whatever is allowed: perfdata\.restore is set"):
            attempt()
    for reset in ("DATABASE {}", "ROLE perfdata IN DATABASE {}"):
        run(shop, f"ALTER {reset.format(name)} RESET ALL")
    assert restore_snapshot(shop, NAME, settings=settings).rows == {"item": 1}


def test_what_the_server_is_configured_to_counts_too(
    restore: Callable[..., Restored], shop: str
) -> None:
    """As postgresql.conf would set it: the session has it, and pg_db_role_setting does not."""
    configured = make_conninfo(shop, options="-c perfdata.restore=never")
    with pytest.raises(GuardError, match=r"perfdata\.restore is set to never"):
        restore(configured, entry(shop))


@pytest.mark.usefixtures("own_snapshot")
def test_what_belongs_to_a_protected_database_is_not_collected(
    shop: str, name: str, settings: Settings, server: EmbeddedServer
) -> None:
    """Nor is a protected copy of one that is not."""
    maintenance = server.conninfo("postgres")
    restore_snapshot(shop, NAME, settings=settings, fresh=True)
    copies = f"SELECT datname FROM pg_database WHERE datname LIKE '{name}_before_%' ORDER BY 1"
    ((copy,),) = run(maintenance, copies)

    def collected() -> Collected:
        return collect_databases(maintenance, settings, lost_rows=True)

    run(maintenance, f"ALTER DATABASE {name} SET perfdata.restore = 'never'")
    assert f"what belongs to {name}: perfdata.restore is set in it" in collected().left
    run(maintenance, f"ALTER DATABASE {name} RESET ALL",
        f"ALTER DATABASE {copy} SET perfdata.restore = 'never'")  # fmt: skip
    assert f"{copy}: perfdata.restore is set in it" in collected().left
    assert run(maintenance, copies) == [(copy,)]
    run(maintenance, f"ALTER DATABASE {copy} RESET ALL")
    assert copy in {one.name for one in collected().removed}
    run(maintenance, f"DROP DATABASE {name}")
    collected()

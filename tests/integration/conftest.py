"""Fixtures on a real embedded server: one server a session, a database of its own a test."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from perfdata import (
    Settings,
    Target,
    build_dataset,
    create_snapshot,
    open_target,
    restore_snapshot,
)
from perfdata.server.binaries import find_binaries
from perfdata.server.embedded import EmbeddedServer
from tests.homes import discard_server, project_home
from tests.integration.covered_shop import covered_shop  # noqa: F401  fixture
from tests.integration.databases import mark_owned
from tests.integration.fresh_shop import (  # noqa: F401  fixtures
    allowed,
    fresh,
    maintenance,
    plain_role,
    shop,
)
from tests.integration.inner import Pytest
from tests.integration.unflagged_shop import owned_shop, shop_elsewhere  # noqa: F401  fixtures

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pytest import FixtureRequest, TempPathFactory  # noqa: PT013  types only

    from perfdata import Restored

_numbers = itertools.count(1)


@pytest.hookimpl(tryfirst=True)  # before those that -m asks for are chosen
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that talk to the server of ``settings``."""
    for item in items:
        if "settings" in getattr(item, "fixturenames", ()):
            item.add_marker("server_version")


@pytest.fixture(scope="session")
def settings(tmp_path_factory: TempPathFactory, pytestconfig: pytest.Config) -> Settings:
    """Settings of the bundled project with a home of the session's own; PERFDATA_PG_BIN holds."""
    environ = {"PERFDATA_HOME": str(tmp_path_factory.mktemp("home"))}
    if "PERFDATA_PG_BIN" in os.environ:
        environ["PERFDATA_PG_BIN"] = os.environ["PERFDATA_PG_BIN"]
    return Settings.load(pytestconfig.rootpath, environ)


@pytest.fixture(scope="session")
def target(settings: Settings) -> Iterator[Target]:
    """The embedded database, started and migrated; its database serves as a template."""
    try:
        yield open_target(settings)
    finally:
        discard_server(settings)


@pytest.fixture(scope="session")
def server(settings: Settings, target: Target) -> EmbeddedServer:  # noqa: ARG001  it must be started
    """The running embedded server."""
    return EmbeddedServer(settings)


@pytest.fixture(scope="session", autouse=True)
def _clusters_removed(tmp_path_factory: TempPathFactory) -> Iterator[None]:
    """Remove what root's servers leave in the system's folder: perfdata itself never does."""
    yield
    homes = str(tmp_path_factory.getbasetemp())
    for note in Path("/var/lib/perfdata").glob("*/home"):
        if note.read_text(encoding="utf-8").startswith(homes):
            shutil.rmtree(note.parent)


@pytest.fixture(scope="session")
def own_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home for whole pytest sessions: what they build is in no database that others clone."""
    with project_home(tmp_path_factory.mktemp("own")) as settings:
        yield settings.home


@pytest.fixture
def inner(tmp_path: Path, own_home: Path) -> Pytest:
    """A project of the test's own, whose pytest sessions share a server with other tests'."""
    return Pytest(tmp_path, own_home)


class Databases:
    """Makes databases on the embedded server and drops them, but those of a test that failed."""

    def __init__(self, server: EmbeddedServer) -> None:
        self._server = server
        self.made: list[str] = []

    def make(self, template: str, name: str | None = None) -> str:
        """Clone a database and return the URL of the clone."""
        name = name or f"test_{next(_numbers)}"
        self._run("CREATE DATABASE {} TEMPLATE {}", name, template)
        self.made.append(name)
        return self.url(name)

    def url(self, name: str) -> str:
        host = conninfo_to_dict(self._server.conninfo(name))
        return (
            f"postgresql://{host['user']}@/{quote(name)}?host={quote(str(host['host']), safe='')}"
        )

    def drop(self, name: str) -> None:
        self._run("DROP DATABASE IF EXISTS {} WITH (FORCE)", name)

    def _run(self, query: str, *names: str) -> None:
        with psycopg.connect(self._server.conninfo("postgres"), autocommit=True) as connection:
            connection.execute(sql.SQL(query).format(*map(sql.Identifier, names)))


@pytest.fixture
def databases(server: EmbeddedServer, request: FixtureRequest) -> Iterator[Databases]:
    """Databases that last as long as the test; where it fails they stay and their URLs are told."""
    failed_before = request.session.testsfailed
    made = Databases(server)
    yield made
    if request.session.testsfailed > failed_before:
        for name in made.made:
            print(f"kept for a look (while the session lasts): {made.url(name)}")  # noqa: T201
    else:
        for name in made.made:
            made.drop(name)


@pytest.fixture
def database_url(databases: Databases, target: Target) -> str:
    """A database of the bundled project: migrated, empty."""
    return databases.make(str(conninfo_to_dict(target.conninfo)["dbname"]))


@pytest.fixture(scope="session")
def schema_of(settings: Settings) -> Callable[[str], str]:
    """Return a function from a URL to all that pg_dump writes of a database but its rows."""
    program = find_binaries(settings).bin / "pg_dump"

    def dump(url: str) -> str:
        # 18.6 puts a key of its own into every dump.
        done = subprocess.run(
            [program, "--schema-only", url], check=True, capture_output=True, text=True
        )
        return re.sub(r"^\\(un)?restrict .*$", "", done.stdout, flags=re.MULTILINE)

    return dump


@pytest.fixture(scope="session")
def own() -> Callable[[str], None]:
    """Return a function that marks a database, by its URL, as one that perfdata made."""
    return mark_owned


@pytest.fixture
def empty_url(databases: Databases) -> str:
    """A database with no table."""
    return databases.make("template0")


# Of every table that has rows of its own, partitions by their roots; settings pin the text.
_DIGESTED = """
SELECT n.nspname, c.relname, c.relkind = 'p' FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'm') AND NOT c.relispartition
  AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' ORDER BY 1, 2"""
_PINNED = " ".join(
    f"-c {one}"
    for one in (
        "timezone=UTC", "extra_float_digits=3", "search_path=pg_catalog", "lc_monetary=C",
        "datestyle=ISO", "intervalstyle=postgres", "bytea_output=hex", "client_encoding=UTF8",
        "quote_all_identifiers=off", "default_transaction_read_only=off",
    )
)  # fmt: skip


@pytest.fixture
def digests() -> Callable[[str], dict[str, tuple[Any, ...]]]:
    """Return a function from a database to the rows and the digest of each of its tables."""

    def digest(url: str) -> dict[str, tuple[Any, ...]]:
        found = {}
        with psycopg.connect(url, options=_PINNED) as connection:
            for schema, name, partitioned in connection.execute(_DIGESTED).fetchall():
                query = sql.SQL(
                    "SELECT count(*), sum(hashtextextended(whole_row::text, 0)) FROM {}{} whole_row"
                ).format(sql.SQL("" if partitioned else "ONLY "), sql.Identifier(schema, name))
                found[f"{schema}.{name}"] = connection.execute(query).fetchone() or ()
        return found

    return digest


@pytest.fixture
def state(
    schema_of: Callable[[str], str], digests: Callable[[str], dict[str, tuple[Any, ...]]]
) -> Callable[[str], tuple[Any, ...]]:
    """Return a function from a database to its schema, its rows' digests and its sequences."""
    stand = (
        "SELECT sequencename, last_value FROM pg_sequences"
        " UNION ALL SELECT tgrelid::regclass || tgname, ascii(tgenabled::text)"
        " FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1"
    )

    def look(url: str) -> tuple[Any, ...]:
        with psycopg.connect(url) as connection:
            return schema_of(url), digests(url), connection.execute(stand).fetchall()

    return look


@pytest.fixture
def round_trip(
    databases: Databases,
    settings: Settings,
    digests: Callable[[str], dict[str, tuple[Any, ...]]],
) -> Iterator[Callable[..., tuple[str, str, Restored]]]:
    """Return a function that copies all rows of a schema into a second database of that schema.

    It takes the statements that make the schema and those that fill it, compares the digests, and
    returns both URLs and what the restore said.
    """
    name = "round_trip"

    def copy(schema: Sequence[str], rows: Sequence[str]) -> tuple[str, str, Restored]:
        source, target = databases.make("template0"), databases.make("template0")
        for url, statements in ((source, [*schema, *rows]), (target, schema)):
            with psycopg.connect(url, autocommit=True) as connection:
                for statement in statements:
                    connection.execute(statement)
        create_snapshot(source, name, all_rows=True, replace=True, settings=settings)
        restored = restore_snapshot(target, name, settings=settings)
        assert digests(target) == digests(source)
        return source, target, restored

    yield copy
    (settings.home / "snapshots" / f"{name}.json.zst").unlink(missing_ok=True)


@pytest.fixture(scope="session")
def _loaded(
    server: EmbeddedServer, settings: Settings, target: Target, own: Callable[[str], None]
) -> Callable[[str], str]:
    """Make, once a session, a template that holds a dataset as perfdata's own has it."""
    made = Databases(server)
    done: dict[str, str] = {}

    def template(dataset: str) -> str:
        if dataset not in done:
            name = f"loaded_{dataset}"
            made.make(str(conninfo_to_dict(target.conninfo)["dbname"]), name)
            one = Target(settings, server.conninfo(name), embedded=True)
            own(one.conninfo)
            build_dataset(one, dataset)
            done[dataset] = name
        return done[dataset]

    return template


@pytest.fixture
def loaded_url(databases: Databases, _loaded: Callable[[str], str]) -> Callable[[str], str]:
    """Return a function from a dataset's name to the URL of a database that holds it."""
    return lambda dataset: databases.make(_loaded(dataset))

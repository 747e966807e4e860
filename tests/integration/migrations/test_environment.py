"""The variables of an application lead its code to the target, whatever its .env says."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import asyncpg
import psycopg
import psycopg2
import pytest

from perfdata import ElsewhereError, MigrationError, Project, ProjectCodeError
from perfdata.driver_hooks import confined
from perfdata.migrations.history import create_tables, migrate, tables_digest
from perfdata.server.embedded import EmbeddedServer
from perfdata.server.environment import application_variables
from tests.homes import discard_server
from tests.integration.env_shop import REVISION, EnvShop, env_shop

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow

DRIVERS = ("psycopg", "psycopg2", "asyncpg")


@pytest.fixture(scope="module")
def _made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EnvShop]:
    yield from env_shop(tmp_path_factory.mktemp("env"))


@pytest.fixture
def shop(_made: EnvShop) -> Iterator[EnvShop]:
    """The application; the database of its .env is not connected to."""
    before = _made.live_used()
    yield _made
    assert _made.live_used() == before
    assert _made.tables("live") == []


@pytest.fixture
def own(tmp_path: Path) -> Iterator[EnvShop]:
    """The application, with a server of the test's own that does not run yet."""
    shop = EnvShop.write(tmp_path)
    yield shop
    discard_server(shop.settings)


def project_of(shop: EnvShop) -> Project:
    return Project(name="shop", migrations=shop.folder / "migrations", settings=shop.settings)


@pytest.mark.parametrize("driver", DRIVERS)
def test_migrations_read_the_url_of_the_database_that_they_migrate(
    shop: EnvShop, driver: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a template is made: not always the settings' own database."""
    monkeypatch.setenv("DRIVER", driver)
    monkeypatch.setenv("DATABASE_URL", (shop.folder / ".env").read_text().partition("=")[2])
    monkeypatch.syspath_prepend(str(shop.folder))
    name = f"by_{driver}"
    shop.make(name)
    assert migrate(shop.server.conninfo(name), project_of(shop)) == ("first",)
    assert shop.tables(name) == ["alembic_version", "items"]


def test_a_dataset_is_built_from_the_first_command_on(shop: EnvShop) -> None:
    """The project's module, the migrations and generate read one URL, with each driver."""
    live = (shop.folder / ".env").read_text().partition("=")[2]
    for driver in DRIVERS:
        built = shop.run("dataset.build", "--name", "some", DRIVER=driver, DATABASE_URL=live)
        assert built.returncode == 0, built.stderr
    assert shop.tables() == ["alembic_version", "items"]


LACKING = {
    "os.environ": ("import os\nos.environ['DATABASE_URL']\n", 'DATABASE_URL = "{url}"'),
    "pydantic": (
        "from pydantic_settings import BaseSettings\n"
        "class Settings(BaseSettings):\n    postgres_server: str\n    secret_key: str\n"
        "    admin_password: str\n"
        "Settings()\n",
        'POSTGRES_SERVER = "{host}", SECRET_KEY = "a value"',
    ),
}


@pytest.mark.parametrize("reader", LACKING)
def test_an_env_py_that_lacks_a_variable_is_told_the_line_that_sets_it(
    shop: EnvShop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reader: str
) -> None:
    """And of variables that it has, no value is shown."""
    if reader == "pydantic":
        pytest.importorskip("pydantic_settings")
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.setenv("ADMIN_PASSWORD", "hunter2222")
    (tmp_path / "migrations" / "versions").mkdir(parents=True)
    text, line = LACKING[reader]
    (tmp_path / "migrations" / "env.py").write_text(text)
    (tmp_path / "migrations" / "versions" / "first.py").write_text(REVISION)
    project = Project(name="shop", migrations=tmp_path / "migrations")
    with pytest.raises(MigrationError) as caught:
        migrate(shop.server.conninfo("postgres"), project)
    said = f"in [tool.perfdata] of pyproject.toml: environment = {{{line}}}"
    assert said in caught.value.remedy
    assert "env.py, line " in caught.value.reason
    assert isinstance(caught.value, ProjectCodeError)
    assert "hunter2222" not in f"{caught.value}{caught.value.traceback}"
    given = {"DATABASE_URL": "{url}"}
    settings = replace(shop.settings, environment=given if reader == "pydantic" else {"A": "x"})
    with pytest.raises(MigrationError) as caught:
        migrate(shop.server.conninfo("postgres"), replace(project, settings=settings))
    said = f"in environment of [tool.perfdata] of pyproject.toml, add: {line}"
    assert said in caught.value.remedy


METADATA = """
import os, psycopg
from sqlalchemy import Column, Integer, MetaData, Table

url = os.environ["DATABASE_URL"]
metadata = MetaData()
Table(os.environ["POSTGRES_SERVER"], metadata, Column("id", Integer))
"""


def test_metadata_is_imported_with_the_variables(
    shop: EnvShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(shop.folder))
    (shop.folder / "reading_models.py").write_text(METADATA)
    connecting = f"{METADATA}psycopg.connect(url).close()\n"
    (shop.folder / "connecting_models.py").write_text(connecting)
    reading, connecting_too = (
        Project(name="shop", metadata=f"{module}:metadata", settings=shop.settings)
        for module in ("reading_models", "connecting_models")
    )
    shop.make("from_metadata")
    assert tables_digest(reading)
    with pytest.raises(ElsewhereError, match="none, as this code is given no database"):
        tables_digest(connecting_too)
    create_tables(shop.server.conninfo("from_metadata"), connecting_too)
    assert shop.tables("from_metadata") == ["127.0.0.1"]


def test_a_database_given_by_url_is_the_url(shop: EnvShop) -> None:
    shop.make("given")
    url = shop.server.status().url("given", password=True)
    port = urlsplit(url).port
    variables = {
        "PERFDATA_DATABASE_URL": url.replace("postgresql:", "postgresql+asyncpg:"),
        "PERFDATA_ALLOW": f"127.0.0.1:{port}/given",
    }
    for command in (("db.migrate",), ("dataset.build", "--name", "some", "--no-snapshot")):
        done = shop.run(*command, **variables)
        assert done.returncode == 0, done.stderr
    assert shop.tables("given") == ["alembic_version", "items"]


def test_the_status_shows_the_variables_without_the_password(shop: EnvShop) -> None:
    status = json.loads(shop.run("db.status", "--json").stdout)
    port, host = str(status["port"]), "127.0.0.1"
    url = f"postgresql://perfdata:***@{host}:{port}/perfdata"
    expected = {"DATABASE_URL": url, "POSTGRES_SERVER": host, "POSTGRES_PORT": port}
    assert status["environment"] == expected
    printed = shop.run("db.status").stdout
    assert f"the application's variables\n  DATABASE_URL     {url}\n" in printed
    assert "environment" not in printed
    assert shop.run("db.url").stdout == f"{shop.server.status().url(password=True)}\n"


def connect(driver: str, url: str) -> None:
    if driver == "asyncpg":

        async def go() -> None:
            await (await asyncpg.connect(url)).close()

        asyncio.run(go())
    else:
        {"psycopg": psycopg, "psycopg2": psycopg2}[driver].connect(url).close()


@pytest.mark.parametrize("driver", DRIVERS)
def test_socket_and_port_are_one_destination_and_nothing_else_is(
    shop: EnvShop, driver: str
) -> None:
    server = shop.server
    url = server.status().url("postgres", password=True)
    target = server.conninfo("postgres")
    with confined("the code", target, loopback=url):
        connect(driver, url)
        connect(driver, server.status().socket_url("postgres"))
        for elsewhere in (
            server.status().url("live", password=True),
            url.replace("127.0.0.1", "127.0.0.2"),
            re.sub(r":\d+/", ":1/", url),
        ):
            with pytest.raises(ElsewhereError):
                connect(driver, elsewhere)
    with confined("the code", target), pytest.raises(ElsewhereError):
        connect(driver, url)
    with confined("the code", None, loopback=url), pytest.raises(ElsewhereError):
        connect(driver, url)


def test_the_port_and_the_password_stay_and_a_port_that_is_taken_is_replaced(own: EnvShop) -> None:
    said: list[str] = []
    server = EmbeddedServer(own.settings, lambda event: said.append(event.text))
    first = server.start()
    url = first.url(password=True)
    assert re.fullmatch(r"postgresql://perfdata:\S{32}@127\.0\.0\.1:\d+/perfdata", url)
    server.stop()
    assert server.start().url(password=True) == url
    server.stop()
    said.clear()
    with socket.socket() as other:
        other.bind(("127.0.0.1", first.port or 0))
        other.listen()
        moved = server.start()
        assert server.start() == moved
    taken, started = said
    assert taken == (
        f"port {first.port} of 127.0.0.1 is taken by another process: the embedded server listens "
        f"on port {moved.port} from now on"
    )
    assert f"port {moved.port} of 127.0.0.1 (" in started
    assert application_variables(own.settings).loopback == moved.url(password=True)


def test_a_server_that_runs_without_a_port_is_restarted_with_one(own: EnvShop) -> None:
    """As where the setting is written after the first commands."""
    without = EmbeddedServer(replace(own.settings, environment={}))
    assert without.start().port is None
    built = own.run("dataset.build", "--name", "some")
    assert built.returncode == 0, built.stderr
    port = own.server.status().port
    said = f"restarting the embedded server: it did not listen on port {port}\n"
    assert built.stderr.count(said) == 1
    assert without.start().port == port
    asked = (port or 0) + 1
    own.server.start(asked)
    assert application_variables(own.settings).values["POSTGRES_PORT"] == str(asked)

"""Databases that are given by URL: a second server, reached as a team would reach its own."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import quote

import psycopg
import pytest
from psycopg import sql

from perfdata import (
    ConnectError,
    GuardError,
    MigrationError,
    Project,
    Settings,
    build_dataset,
    open_target,
    provide_dataset,
)
from perfdata.migrations.history import migrate
from perfdata.server.embedded import EmbeddedServer
from tests.homes import discard_server, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PASSWORD = "p@ss/w%rd:é ?#&"


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory, settings: Settings) -> Iterator[int]:
    """The port of a server that is not the embedded one of the tests' settings."""
    elsewhere = replace(settings, home=tmp_path_factory.mktemp("elsewhere"))
    server = EmbeddedServer(elsewhere)
    port = free_port()
    server.start(port)
    with psycopg.connect(server.conninfo("postgres"), autocommit=True) as connection:
        role = sql.SQL("CREATE ROLE app LOGIN PASSWORD {}").format(sql.Literal(PASSWORD))
        connection.execute(role)
        connection.execute('CREATE DATABASE "shop perf" OWNER app')
        connection.execute("CREATE DATABASE plain OWNER app")
    yield port
    discard_server(elsewhere)


@pytest.fixture
def own(settings: Settings, tmp_path: Path) -> Settings:
    return replace(settings, home=tmp_path / "home")


def url(port: int, scheme: str = "postgresql", tail: str = "") -> str:
    return f"{scheme}://app:{quote(PASSWORD, safe='')}@127.0.0.1:{port}/shop%20perf{tail}"


@pytest.mark.parametrize(
    ("scheme", "tail"),
    [
        ("postgresql", ""),
        ("postgres", "?sslmode=prefer&connect_timeout=5"),
        ("postgresql+asyncpg", "?ssl=prefer"),
        ("postgresql+psycopg", "?options=-c%20geqo%3Doff"),
    ],
)
def test_every_scheme_reaches_it(port: int, own: Settings, scheme: str, tail: str) -> None:
    target = open_target(replace(own, database_url=url(port, scheme, tail)))
    assert not target.embedded
    assert target.described() == f"app@127.0.0.1:{port}/shop perf"
    with psycopg.connect(target.conninfo) as connection:
        assert connection.execute("SELECT current_user").fetchone() == ("app",)
        if "options" in tail:
            assert connection.execute("SHOW geqo").fetchone() == ("off",)


def test_a_list_of_hosts_and_a_service_file_reach_it(
    port: int, own: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = quote(PASSWORD, safe="")
    hosts = f"127.0.0.1:{free_port()},127.0.0.1:{port}"
    listed = replace(own, database_url=f"postgresql://app:{secret}@{hosts}/shop%20perf")
    assert not open_target(listed).embedded
    services = tmp_path / "pg_service.conf"
    services.write_text(
        f"[perf]\nhost=127.0.0.1\nport={port}\nuser=app\ndbname=shop perf\npassword={PASSWORD}\n"
    )
    monkeypatch.setenv("PGSERVICEFILE", str(services))
    for named in ("service=perf", "postgresql://?service=perf"):
        target = open_target(replace(own, database_url=named))
        assert target.described() == "service perf"


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ("postgresql://app:secret@127.0.0.1:{port}/shop%20perf", "password authentication failed"),
        ("postgresql://app:secret@127.0.0.1:{free}/shop%20perf", "Connection refused"),
        ("postgresql://app:secret@/x?host=/no/such/folder", "No such file"),
        ("postgresql://app:secret@no-such-host.invalid/x", "no-such-host.invalid"),
        ("postgresql+asyncpg://app:secret@127.0.0.1:{port}/absent", "password authentication"),
    ],
)
def test_what_cannot_be_reached_is_told_in_one_line(
    port: int, own: Settings, wrong: str, reason: str
) -> None:
    settings = replace(own, database_url=wrong.format(port=port, free=free_port()))
    with pytest.raises(ConnectError) as caught:
        open_target(settings)
    said = str(caught.value)
    assert reason in said
    assert said.startswith("can't connect to app@")
    assert "secret" not in said
    assert "\n" not in said


def test_it_is_migrated_when_asked_and_filled_when_allowed(port: int, own: Settings) -> None:
    """By an owner who is no superuser and may create no database."""
    settings = replace(own, database_url=url(port, "postgresql+asyncpg"))
    target = open_target(settings)
    with pytest.raises(GuardError, match=rf"PERFDATA_ALLOW='127\.0\.0\.1:{port}/shop perf' or"):
        build_dataset(target, "10_offices")
    for allow, environ, told in (
        (
            (),
            (),
            "The list is empty: there is neither PERFDATA_ALLOW nor allow in .*pyproject.toml",
        ),
        (("shop_perf",), (), "The list has 'shop_perf' .allow in .*pyproject.toml.; entries are"),
        (("x/y",), ("x/y",), "'x/y' .PERFDATA_ALLOW.; entries are"),
    ):
        strict = replace(settings, allow=allow, allow_environ=environ)
        with pytest.raises(GuardError, match=told):
            build_dataset(replace(target, settings=strict), "10_offices")
    allowed = open_target(replace(settings, allow=(f"127.0.0.1:{port}/shop*",)))
    with pytest.raises(MigrationError, match=r"invoke db\.migrate"):
        build_dataset(allowed, "10_offices")
    assert allowed.project
    migrate(allowed.conninfo, allowed.project)
    assert provide_dataset(allowed, "10_offices").built
    assert provide_dataset(allowed, "10_offices").restored


@pytest.mark.parametrize("named", ["service=perf", "postgresql://app@/?hostaddr=127.0.0.1"])
def test_migrations_go_where_a_service_or_the_environment_leads(
    port: int, own: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    """Which the process that runs them has not: it is told, with the password, by no argument."""
    (tmp_path / "services.conf").write_text(f"[perf]\nport={port}\nhost=127.0.0.1\nuser=app\n")
    monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "services.conf"))
    monkeypatch.setenv("PGPORT", str(port))
    monkeypatch.setenv("PGDATABASE", "plain")
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    folder = tmp_path / "migrations"
    (folder / "versions").mkdir(parents=True)
    (folder / "versions" / "first.py").write_text(REVISION)
    (folder / "env.py").write_text(ENV)
    target = open_target(replace(own, database_url=named))
    heads = migrate(target.conninfo, Project(name="shop", migrations=folder))
    assert heads == ("first",)
    with psycopg.connect(target.conninfo, autocommit=True) as connection:
        assert connection.info.dbname == "plain"
        connection.execute("DROP TABLE alembic_version")


REVISION = """
revision = "first"
down_revision = None


def upgrade():
    pass
"""
ENV = """
from alembic import context
from sqlalchemy import create_engine

engine = create_engine(context.config.get_main_option("sqlalchemy.url"))
with engine.connect() as connection:
    context.configure(connection=connection, target_metadata=None, transactional_ddl=True)
    with context.begin_transaction():
        context.run_migrations()
    connection.commit()
"""


def test_the_tasks_never_print_the_password(port: int, own: Settings) -> None:
    environ = {
        **os.environ,
        "PERFDATA_HOME": str(own.home),
        "PERFDATA_DATABASE_URL": url(port),
    }
    for task in (["db.status"], ["snapshot.restore", "--name", "10_offices"], ["db.start"]):
        done = subprocess.run(
            [sys.executable, "-m", "invoke", *task],
            cwd=own.root, env=environ, capture_output=True, text=True, check=False,
        )  # fmt: skip
        said = done.stdout + done.stderr
        assert "127.0.0.1" in said
        assert PASSWORD not in said
        assert quote(PASSWORD, safe="") not in said
        assert "Traceback" not in said

"""An application that reads its database from variables, then from a .env, as most do."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg

from perfdata import Settings
from perfdata.server.embedded import EmbeddedServer
from tests.homes import discard_server
from tests.processes import environment, run_script

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PYPROJECT = """
[tool.perfdata]
project = "shop_perf:project"
{environment}
[tool.pytest.ini_options]
pythonpath = ["."]
"""
ENVIRONMENT = """
environment = {DATABASE_URL = "{url}", POSTGRES_SERVER = "{host}", POSTGRES_PORT = "{port}"}
"""
# Like pydantic-settings: the process's variables come before the file's.
SHOP = """
import os
from pathlib import Path

lines = (Path(__file__).parent / ".env").read_text().split()
settings = dict(line.split("=", 1) for line in lines) | os.environ
URL = settings["DATABASE_URL"]


def connect(url=URL):
    driver = settings.get("DRIVER", "psycopg")
    if driver == "asyncpg":
        import asyncio, asyncpg

        async def go():
            await (await asyncpg.connect(url)).close()

        asyncio.run(go())
    else:
        __import__(driver).connect(url).close()
"""
SHOP_PERF = """
from datetime import date
from pathlib import Path

from perfdata import Dataset, Project, TableRows

import shop


def generate(dataset):
    shop.connect()
    yield TableRows("items", ("id", "is_test_data"), [b"1\\tt\\n2\\tt\\n"])


some = Dataset(name="some", generate=generate, as_of=date(2026, 1, 1))
project = Project(name="shop", migrations=Path("migrations"), datasets=(some,))
"""
ENV_PY = """
import asyncio
from alembic import context
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import create_async_engine

import shop

driver = shop.settings.get("DRIVER", "psycopg")
url = shop.URL.replace("postgresql:", f"postgresql+{driver}:")


def run(connection):
    context.configure(connection=connection, target_metadata=None)
    with context.begin_transaction():
        context.run_migrations()


async def go():
    async with create_async_engine(url).connect() as connection:
        await connection.run_sync(run)
        await connection.commit()


if driver == "asyncpg":
    asyncio.run(go())
else:
    with create_engine(url).connect() as connection:
        run(connection)
        connection.commit()
"""
REVISION = """
from alembic import op

revision, down_revision = "first", None


def upgrade():
    op.execute("CREATE TABLE items (id int PRIMARY KEY, is_test_data boolean)")
"""


@dataclass(frozen=True)
class EnvShop:
    """The application's folder; its .env names the database ``live`` on the embedded server."""

    folder: Path

    @classmethod
    def write(cls, folder: Path, variables: str = ENVIRONMENT) -> EnvShop:
        (folder / "migrations" / "versions").mkdir(parents=True)
        for name, text in {
            "pyproject.toml": PYPROJECT.format(environment=variables),
            "shop.py": SHOP,
            "shop_perf.py": SHOP_PERF,
            ".env": "DATABASE_URL=postgresql://nobody@127.0.0.1:1/live",
            "migrations/env.py": ENV_PY,
            "migrations/versions/first.py": REVISION,
        }.items():
            (folder / name).write_text(text, encoding="utf-8")
        return cls(folder)

    @property
    def settings(self) -> Settings:
        return Settings.load(self.folder, {})

    @property
    def server(self) -> EmbeddedServer:
        return EmbeddedServer(self.settings)

    def make_live(self) -> None:
        """Start the server, and let .env name another database of it, by the port."""
        self.server.start()
        self.make("live")
        url = self.server.status().url("live", password=True)
        (self.folder / ".env").write_text(f"DATABASE_URL={url}", encoding="utf-8")

    def make(self, name: str) -> None:
        with psycopg.connect(self.server.conninfo("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")

    def live_used(self) -> int:
        """Return how many sessions the database of .env has had."""
        with psycopg.connect(self.server.conninfo("postgres")) as connection:
            query = "SELECT sessions FROM pg_stat_database WHERE datname = 'live'"
            return int((connection.execute(query).fetchone() or (-1,))[0])

    def tables(self, name: str = "perfdata") -> list[str]:
        with psycopg.connect(self.server.conninfo(name)) as connection:
            query = "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1"
            return [str(row[0]) for row in connection.execute(query)]

    def run(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return run_script(self.folder, "perfdata", *arguments, **variables)

    def pytest(
        self, *arguments: str, cwd: Path | None = None, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        from tests.integration.inner import FAST

        return subprocess.run(
            [sys.executable, "-m", "pytest", *FAST, *arguments],
            cwd=cwd or self.folder, env=environment(COLUMNS="200", **variables),
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip

    def perf_test(self, **files: str) -> None:
        for name, text in files.items():
            path = self.folder / "tests" / "perf" / f"{name}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")


def env_shop(folder: Path) -> Iterator[EnvShop]:
    """Make the application with its server, which ends afterwards."""
    shop = EnvShop.write(folder)
    shop.make_live()
    yield shop
    discard_server(shop.settings)

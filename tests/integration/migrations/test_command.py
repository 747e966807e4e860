"""Migrations of other tools: SQL files with a runner of their own, and Django."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import psycopg
import pytest

from tests.integration.inner import Pytest, entry
from tests.processes import run_script

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow

PYPROJECT = '[tool.perfdata]\nproject = "shop_perf:project"\n[tool.pytest.ini_options]\n'
PROJECT = """
from datetime import date

from perfdata import Dataset, Migrations, Project, TableRows


def generate(dataset):
    lines = (f"{{n}}\\tcustomer {{n}}\\tt\\n".encode() for n in range(1, 101))
    yield TableRows("shop_customer", ("id", "name", "is_test_data"), lines)


project = Project(
    name="shop",
    migrations=Migrations({migrations}),
    datasets=(Dataset(name="some", generate=generate, as_of=date(2026, 1, 1)),),
)
"""
SQL = """
    command=["python", "run_sql.py", "db"],
    files="db/*.sql",
    applied="SELECT version FROM public.schema_migrations;",
"""
# What psql in a shell script would do.
RUN_SQL = """
import os, sys
from pathlib import Path
import psycopg

with psycopg.connect(os.environ.get("OTHER", "")) as connection:
    connection.execute("CREATE TABLE IF NOT EXISTS schema_migrations (version int PRIMARY KEY)")
    applied = {row[0] for row in connection.execute("SELECT version FROM schema_migrations")}
    for path in sorted(Path(sys.argv[1]).glob("*.sql")):
        version = int(path.name.partition("_")[0])
        if version not in applied:
            print("applying", path)
            connection.execute(path.read_text())
            connection.execute("INSERT INTO schema_migrations VALUES (%s)", (version,))
"""
CUSTOMERS = """
CREATE TABLE shop_customer (
  id bigint PRIMARY KEY, name text NOT NULL, is_test_data boolean NOT NULL DEFAULT false
);
"""
PERF_TEST = """
import pytest
from sqlalchemy import text


@pytest.mark.perf(dataset="some", max_queries=1)
def test_count(perf, perf_session):
    perf(lambda session: session.execute(text("SELECT count(*) FROM shop_customer")).scalar_one())
"""


def perfdata(folder: Path, *command: str, code: int = 0, **variables: str) -> str:
    done = run_script(folder, "perfdata", *command, **variables)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def parts(folder: Path) -> dict[str, str]:
    told = json.loads(perfdata(folder, "snapshot.key", "--name", "some", "--json"))
    found: dict[str, str] = told["parts"]
    return found


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Path]:
    """A project with two SQL files."""
    (tmp_path / "db").mkdir()
    (tmp_path / "pyproject.toml").write_text(PYPROJECT)
    (tmp_path / "shop_perf.py").write_text(PROJECT.format(migrations=SQL))
    (tmp_path / "run_sql.py").write_text(RUN_SQL)
    (tmp_path / "db" / "001_customers.sql").write_text(CUSTOMERS)
    (tmp_path / "db" / "002_index.sql").write_text("CREATE INDEX ON shop_customer (name);")
    yield tmp_path
    run_script(tmp_path, "perfdata", "db.stop")


def test_sql_files_are_run_by_their_own_command(shop: Path) -> None:
    """Built, restored both ways, measured, and stale when a file comes or changes."""
    built = perfdata(shop, "snapshot.restore", "--name", "some")
    assert "migrating to db/002_index.sql: python run_sql.py db" in built
    assert "built 100 rows" in built
    names = [name for name in parts(shop) if name.startswith("migration ")]
    assert names == ["migration db/001_customers.sql", "migration db/002_index.sql"]
    assert "restored some" in perfdata(shop, "snapshot.restore", "--name", "some")
    assert "restored some" in perfdata(shop, "snapshot.restore", "--name", "some", "--fresh")
    dry = perfdata(shop, "--dry", "db.migrate")
    assert "has all migrations of project shop" in dry

    (shop / "db" / "003_age.sql").write_text("ALTER TABLE shop_customer ADD age int")
    assert perfdata(shop, "--dry", "db.migrate").endswith(": db/003_age.sql\n")
    stale = perfdata(shop, "snapshot.verify", "--name", "some", "--current", code=1)
    assert "only in the project: db/003_age.sql" in stale
    assert "is at db/003_age.sql" in perfdata(shop, "db.migrate")
    assert "built 100 rows" in perfdata(shop, "snapshot.restore", "--name", "some")

    before = parts(shop)
    with (shop / "db" / "002_index.sql").open("a") as file:
        file.write("-- by name\n")
    assert {name for name in before if before[name] != parts(shop)[name]} == {
        "migration db/002_index.sql"
    }
    stale = perfdata(shop, "snapshot.verify", "--name", "some", "--current", code=1)
    assert "changed since: db/002_index.sql" in stale

    (shop / "test_perf.py").write_text(PERF_TEST)
    inner = Pytest(shop, shop / ".perfdata")
    (shop / "pyproject.toml").write_text(PYPROJECT)
    code, said = inner.run("test_perf.py", "-p", "no:cacheprovider")
    assert code == 0, said

    (shop / "db" / "003_age.sql").unlink()
    other = perfdata(shop, "snapshot.restore", "--name", "some")
    assert ": it is at migration 3, which project shop does not have" in other
    assert "built 100 rows" in other


def test_a_command_that_fails_or_migrates_another_database_is_found_out(shop: Path) -> None:
    url = perfdata(shop, "db.url").splitlines()[0]
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE other")
    other = url.replace("/perfdata?", "/other?")
    perfdata(shop, "dataset.build", "--name", "some")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP TABLE schema_migrations, shop_customer")
    target = {"PERFDATA_DATABASE_URL": url, "PERFDATA_ALLOW": entry(url)}
    said = perfdata(shop, "snapshot.restore", "--name", "some", code=2, **target)
    assert "no migration has run in the database. Run: perfdata db.migrate" in said
    said = perfdata(shop, "db.migrate", code=2, OTHER=other)
    assert "python run_sql.py db succeeded, but in perfdata on" not in said
    assert "does not return db/001_customers.sql, db/002_index.sql" in said
    assert "must migrate the database of PERFDATA_TARGET_URL" in said
    (shop / "db" / "002_index.sql").write_text("CREATE INDEX ON nothing (name);")
    said = perfdata(shop, "db.migrate", code=2)
    assert "python run_sql.py db exited with code 1 on " in said
    assert 'relation "nothing" does not exist' in said
    assert "Traceback" not in said.splitlines()[0]
    query = SQL.replace("version FROM public", "nothing FROM public")
    (shop / "db" / "002_index.sql").write_text("CREATE INDEX ON shop_customer (name);")
    perfdata(shop, "db.migrate")
    (shop / "shop_perf.py").write_text(PROJECT.format(migrations=query))
    said = perfdata(shop, "db.migrate", code=2)
    assert 'applied=…) failed: column "nothing" does not exist' in said


MANAGE = """
import os, sys
from django.core.management import execute_from_command_line
os.environ["DJANGO_SETTINGS_MODULE"] = "site_settings"
execute_from_command_line(sys.argv)
"""
SITE = """
import os
SECRET_KEY = "of a test"
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "shop"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": os.environ["PGDATABASE"],
        "USER": os.environ["PGUSER"],
        "HOST": os.environ["PGHOST"],
        "PORT": os.environ["PGPORT"],
    }
}
"""
MODELS = """
from django.db import models


class Customer(models.Model):
    name = models.TextField()
    is_test_data = models.BooleanField(default=False)
"""
AGE = "    age = models.IntegerField(null=True)\n"
DJANGO = """
    command=["python", "manage.py", "migrate"],
    files="*/migrations/*.py",
    applied="SELECT app || '/migrations/' || name FROM public.django_migrations "
    "WHERE app IN ('shop')",
"""


def test_django_migrates(tmp_path: Path) -> None:
    """Its own applications' migrations, which lie elsewhere, are left out by the query."""
    app = tmp_path / "shop"
    (app / "migrations").mkdir(parents=True)
    for path in (app / "__init__.py", app / "migrations" / "__init__.py"):
        path.write_text("")
    (app / "models.py").write_text(MODELS)
    (tmp_path / "manage.py").write_text(MANAGE)
    (tmp_path / "site_settings.py").write_text(SITE)
    (tmp_path / "pyproject.toml").write_text(PYPROJECT)
    (tmp_path / "shop_perf.py").write_text(PROJECT.format(migrations=DJANGO))
    make = ("manage.py", "makemigrations", "shop")
    nowhere = {"PGDATABASE": "x", "PGUSER": "x", "PGHOST": "127.0.0.1", "PGPORT": "1"}
    assert run_script(tmp_path, "python", *make, **nowhere).returncode == 0
    try:
        assert "built 100 rows" in perfdata(tmp_path, "snapshot.restore", "--name", "some")
        restored = perfdata(tmp_path, "snapshot.restore", "--name", "some", "--fresh")
        assert "restored some: 100 rows" in restored
        (app / "models.py").write_text(MODELS + AGE)
        assert run_script(tmp_path, "python", *make, **nowhere).returncode == 0
        said = perfdata(tmp_path, "snapshot.restore", "--name", "some")
        assert "migrating to shop/migrations/0002_customer_age.py: python manage.py" in said
        assert "built 100 rows" in said
        (app / "migrations" / "0002_customer_age.py").unlink()
        other = perfdata(tmp_path, "db.migrate")
        assert "it is at migration shop/migrations/0002_customer_age, which project shop" in other
        assert "is at shop/migrations/0001_initial.py" in other
    finally:
        run_script(tmp_path, "perfdata", "db.stop")

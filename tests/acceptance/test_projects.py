"""Projects of other teams: two in one repository, with Alembic as its own template sets it up."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import psycopg
import pytest

from tests.processes import run_script
from tests.projects import no_project

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PYPROJECT = '[tool.perfdata]\nproject = "{name}_perf:project"\n'

PROJECT = """
from datetime import date
from pathlib import Path

from perfdata import Dataset, Project, TableRows


def generate(dataset):
    lines = (f"{{n}}\\tcustomer {{n}}\\tt\\n".encode() for n in range(1, 101))
    yield TableRows("{name}_customers", ("id", "name", "generated"), lines)


project = Project(
    name="{name}",
    migrations=Path("alembic.ini"),
    flag_column="generated",
    datasets=(Dataset(name="{name}_100", generate=generate, as_of=date(2026, 1, 1)),),
)
"""

REVISION = """
import sqlalchemy as sa
from alembic import op

revision = "{name}_1"
down_revision = None


def upgrade():
    op.create_table(
        "{name}_customers",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("generated", sa.Boolean, nullable=False, server_default="false"),
    )
"""


@pytest.mark.parametrize("name", ["restore", "verify --database", "diff"])
def test_a_name_that_nothing_has_is_told_before_a_server_is_made(tmp_path: Path, name: str) -> None:
    task, *options = f"snapshot.{name}".split()
    done = run_script(tmp_path, "perfdata", task, "--name", "nope", *options, PERFDATA_HOM="x")
    assert done.returncode == 2
    warning, error = done.stderr.splitlines()
    assert warning.endswith("did you mean PERFDATA_HOME?")
    assert "is named 'nope'; there are: " in error
    assert error.endswith(f"there are: none; {no_project(tmp_path)}")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    root = tmp_path_factory.mktemp("repository")
    for name in ("shop", "bank"):
        folder = root / name
        (folder / "src" / "deep").mkdir(parents=True)
        (folder / "pyproject.toml").write_text(PYPROJECT.format(name=name))
        (folder / f"{name}_perf.py").write_text(PROJECT.format(name=name))
        made = run_script(folder, "alembic", "init", "--template", "generic", "migrations")
        assert made.returncode == 0, made.stderr
        versions = folder / "migrations" / "versions"
        (versions / "first.py").write_text(REVISION.format(name=name))
    yield root
    for name in ("shop", "bank"):
        run_script(root / name, "perfdata", "db.stop")


@pytest.mark.parametrize("name", ["shop", "bank"])
def test_each_has_its_own_datasets_database_and_snapshots(repository: Path, name: str) -> None:
    """From a folder deep inside, where its settings are found upwards."""
    deep = repository / name / "src" / "deep"
    listed = json.loads(run_script(deep, "perfdata", "dataset.list", "--json").stdout)
    assert [one["name"] for one in listed] == [f"{name}_100"]
    first = run_script(deep, "perfdata", "snapshot.restore", "--name", f"{name}_100")
    assert first.returncode == 0, first.stderr
    assert "built 100 rows" in first.stdout
    second = run_script(deep, "perfdata", "snapshot.restore", "--name", f"{name}_100")
    assert "restored" in second.stdout
    assert "100 rows" in second.stdout
    assert (repository / name / ".perfdata" / "snapshots" / f"{name}_100.json.zst").is_file()
    assert not list(repository.glob("**/deep/.perfdata"))


def test_the_embedded_server_is_reached_whatever_libpqs_variables_say(repository: Path) -> None:
    """Also by a project's env.py, which opens an engine with the URL that it is given.

    Each of the lines would make every connection fail by itself.
    """
    variables = {
        "PGSERVICE": "nosuch",
        "PGOPTIONS": "-c statement_timeout=1",
        "PGTZ": "nowhere",
        "PGDATESTYLE": "none",
        "PGGEQO": "perhaps",
        "PGHOSTADDR": "192.0.2.1",
        "PGPORT": "1",
        "PGSSLMODE": "verify-full",
        "PGTARGETSESSIONATTRS": "standby",
        "PGCONNECT_TIMEOUT": "soon",
    }
    shop = repository / "shop"
    run_script(shop, "perfdata", "db.start")
    status = json.loads(run_script(shop, "perfdata", "db.status", "--json").stdout)
    with psycopg.connect(status["socket_url"], dbname="postgres", autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS perfdata")
    for command in (("db.url",), ("dataset.build", "--name", "shop_100"), ("db.gc",)):
        done = run_script(shop, "perfdata", *command, **variables)
        assert done.returncode == 0, done.stderr


def test_an_error_of_the_driver_in_a_migration_is_one_line(
    repository: Path, tmp_path: Path
) -> None:
    """Not of SQLAlchemy: a migration that takes the driver's connection has it raised as it is."""
    broken = tmp_path / "broken"
    shutil.copytree(repository / "shop", broken, ignore=shutil.ignore_patterns(".perfdata"))
    revision = broken / "migrations" / "versions" / "first.py"
    text = revision.read_text()
    revision.write_text(
        f"{text}    op.get_bind().connection.driver_connection.execute('SELECT 1 / 0')\n"
    )
    done = run_script(broken, "perfdata", "db.migrate")
    run_script(broken, "perfdata", "db.stop")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: the migrations of project shop failed: ")
    assert "division by zero" in last


@pytest.mark.parametrize("task", ["dataset.build", "perf.compare --rev HEAD", "snapshot.key"])
def test_a_folder_without_a_project_has_no_datasets(tmp_path: Path, task: str) -> None:
    """The bundled ones are no surprise in somebody's own folder; no server is started."""
    option = "--dataset" if task.startswith("perf") else "--name"
    done = run_script(tmp_path, "perfdata", *task.split(), option, "100_offices")
    assert done.returncode == 2
    assert done.stderr == f"error: {no_project(tmp_path)}\n"
    assert list(tmp_path.iterdir()) == []


def test_an_env_py_that_goes_elsewhere_is_found_out(repository: Path, tmp_path: Path) -> None:
    """One that takes its URL from somewhere else migrates somewhere else."""
    stray = tmp_path / "stray"
    shutil.copytree(repository / "shop", stray, ignore=shutil.ignore_patterns(".perfdata"))
    env = stray / "migrations" / "env.py"
    text = env.read_text()
    assert "connectable = engine_from_config(" in text
    head, _, tail = text.partition("connectable = engine_from_config(")
    rest = tail.partition(")\n\n")[2] or tail.partition(")\n")[2]
    env.write_text(
        f'{head}from sqlalchemy import create_engine\n    connectable = create_engine("sqlite://")\n{rest}'
    )
    done = run_script(stray, "perfdata", "snapshot.restore", "--name", "shop_100")
    run_script(stray, "perfdata", "db.stop")
    assert done.returncode == 2
    assert "ran in another database than" in done.stderr
    assert "config.attributes['connection']" in done.stderr

"""An application whose .env names another live database, which stays untouched."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from psycopg.conninfo import conninfo_to_dict

from perfdata.server.embedded import EmbeddedServer
from tests.acceptance.application import Application
from tests.homes import free_port, project_home
from tests.integration.databases import run

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent / "applications" / "settings"
# The sessions that were opened in the database, and the databases of its server.
STATE = """
SELECT (SELECT sessions FROM pg_stat_database WHERE datname = 'precious'),
  ARRAY(SELECT datname::text FROM pg_database ORDER BY 1)"""
MIGRATION = '''"""{message}"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    {statement}
'''
NEXT = "migrations/versions/0002_next.py"
SELECTIN = ".options(selectinload(Note.tags))"


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    """A server on a port of 127.0.0.1 with the database ``precious``."""
    with project_home(tmp_path_factory.mktemp("live")) as settings:
        server = EmbeddedServer(settings)
        server.start(free_port())
        run(server.conninfo("postgres"), "CREATE DATABASE precious")
        yield server


@pytest.fixture(scope="module")
def office(
    programs: Path, live: EmbeddedServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Application]:
    """The application, with a .env that names the live database."""
    folder = tmp_path_factory.mktemp("applications") / "office"
    shutil.copytree(HERE, folder, ignore=shutil.ignore_patterns(".perfdata", "__pycache__"))
    application = Application(folder, programs)
    parts = conninfo_to_dict(live.status().url(password=True))
    application.write(
        ".env",
        f"POSTGRES_SERVER={parts['host']}\nPOSTGRES_PORT={parts['port']}\n"
        f"POSTGRES_USER={parts['user']}\nPOSTGRES_PASSWORD={parts['password']}\n"
        "POSTGRES_DB=precious\n",
    )
    yield application
    application.stop()


@pytest.fixture(autouse=True)
def _untouched(live: EmbeddedServer) -> Iterator[None]:
    before = run(live.conninfo("postgres"), STATE)
    yield
    assert run(live.conninfo("postgres"), STATE) == before


def test_the_env_file_would_reach_the_live_database(office: Application) -> None:
    """Without perfdata: what the other tests rely on."""
    office.write("connects.py", "from office.application import engine\nprint(engine.url.database)")
    assert "precious" in office.run("python", "connects.py")


def test_a_dataset_is_built_and_restored_both_ways(office: Application) -> None:
    office.perfdata("dataset.build", "--name", "5000_notes")
    for way in ([], ["--fresh"]):
        office.perfdata("snapshot.restore", "--name", "5000_notes", *way)


def test_a_request_is_green_then_red_with_an_n_plus_1(office: Application) -> None:
    office.perf()
    office.perfdata("perf.accept")
    assert "1 passed" in office.perf()
    office.edit("office/application.py", SELECTIN, "")
    said = office.perf(code=1)
    assert "N+1" in said
    assert "office/application.py" in said
    office.edit("office/application.py", "Note.owner == owner)", f"Note.owner == owner){SELECTIN}")


def test_a_dropped_index_is_red_until_the_branch_is_left(office: Application) -> None:
    drop = 'op.drop_index("ix_notes_owner")'
    office.write(NEXT, MIGRATION.format(message="Drop an index.", statement=drop))
    assert "changed plan" in office.perf(code=1)
    (office.folder / NEXT).unlink()
    assert "1 passed" in office.perf()


def test_a_snapshot_outlives_a_migration(office: Application) -> None:
    office.perfdata("snapshot.create", "--name", "saved")
    add = 'op.add_column("notes", sa.Column("language", sa.Text, server_default="en"))'
    office.write(NEXT, MIGRATION.format(message="Notes have a language.", statement=add))
    office.perfdata("snapshot.upgrade", "--name", "saved")
    office.perfdata("snapshot.restore", "--name", "saved")

"""An application whose migrations can't build an empty database, with real rows beside."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from perfdata.server.embedded import EmbeddedServer
from tests.acceptance.application import Application
from tests.homes import project_home
from tests.integration.databases import run
from tests.integration.inner import entry

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent / "applications" / "legacy"
FROM_METADATA = "    tables_from_metadata=True,\n"
SELECTIN = "        .options(selectinload(Account.invoices))\n"
INDEXED = 'ForeignKey("accounts.id"), index=True)'
DROPS_INDEX = '''"""Drop an index."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_index("ix_invoices_account_id", "invoices")
'''
# The team's own database: its tables, the state of its migrations, and its real rows.
TEAM = (
    "CREATE TABLE currencies (code varchar PRIMARY KEY)",
    "CREATE TABLE accounts (id serial PRIMARY KEY, owner varchar NOT NULL,"
    " is_test_data boolean NOT NULL DEFAULT false)",
    "CREATE TABLE invoices (id serial PRIMARY KEY, account_id int NOT NULL REFERENCES accounts,"
    " amount int NOT NULL, paid boolean NOT NULL DEFAULT false,"
    " is_test_data boolean NOT NULL DEFAULT false)",
    "CREATE INDEX ix_invoices_account_id ON invoices (account_id)",
    "CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY)",
    "INSERT INTO alembic_version VALUES ('0001')",
    "INSERT INTO currencies VALUES ('EUR'), ('JPY')",
    "INSERT INTO accounts (owner) SELECT 'real ' || g FROM generate_series(1, 20) g",
    "INSERT INTO invoices (account_id, amount) SELECT g, g FROM generate_series(1, 20) g",
)
REAL = """
SELECT (SELECT string_agg(a::text, ';' ORDER BY id) FROM accounts a WHERE NOT is_test_data),
  (SELECT string_agg(i::text, ';' ORDER BY id) FROM invoices i WHERE NOT is_test_data),
  (SELECT string_agg(code, ';' ORDER BY code) FROM currencies)"""


@pytest.fixture(scope="module")
def billing(programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Application]:
    """The tests of this module follow each other as a user's commands do."""
    folder = tmp_path_factory.mktemp("applications") / "billing"
    shutil.copytree(HERE, folder, ignore=shutil.ignore_patterns(".perfdata", "__pycache__"))
    application = Application(folder, programs)
    yield application
    application.stop()


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of the team's database, with real rows."""
    with project_home(tmp_path_factory.mktemp("team")) as settings:
        server = EmbeddedServer(settings)
        server.start()
        run(server.conninfo("postgres"), "CREATE DATABASE team")
        url = server.status().url().replace("/perfdata?", "/team?")
        run(url, *TEAM)
        yield url


def test_what_fails_is_named_with_the_way_out(billing: Application) -> None:
    billing.edit("billing/perf.py", FROM_METADATA, "")
    said = billing.perfdata("dataset.build", "--name", "1000_accounts", code=2)
    assert "0001" in said
    assert "ALTER TABLE invoices" in said
    assert "tables_from_metadata" in said
    metadata = '    metadata="billing.models:Base.metadata",\n'
    billing.edit("billing/perf.py", metadata, metadata + FROM_METADATA)


def test_a_dataset_is_built_and_restored_both_ways(billing: Application) -> None:
    billing.perfdata("dataset.build", "--name", "1000_accounts")
    for way in ([], ["--fresh"]):
        billing.perfdata("snapshot.restore", "--name", "1000_accounts", *way)


def test_a_statement_is_green_then_red_with_an_n_plus_1(billing: Application) -> None:
    billing.perf()
    billing.perfdata("perf.accept")
    assert "1 passed" in billing.perf()
    billing.edit("billing/invoices.py", SELECTIN, "")
    said = billing.perf(code=1)
    assert "N+1" in said
    assert "billing/invoices.py" in said
    billing.edit(
        "billing/invoices.py",
        "        .order_by(Account.id)\n",
        f"        .order_by(Account.id)\n{SELECTIN}",
    )


def test_the_teams_own_database_keeps_its_rows(billing: Application, team: str) -> None:
    """It is listed, not owned; the currencies have no flag."""
    before = run(team, REAL)
    restore = ("snapshot.restore", "--name", "1000_accounts")
    assert "PERFDATA_ALLOW" in billing.perfdata(*restore, code=2, PERFDATA_DATABASE_URL=team)
    billing.variables = {"PERFDATA_DATABASE_URL": team, "PERFDATA_ALLOW": entry(team)}
    billing.perfdata(*restore)
    assert run(team, "SELECT count(*) FROM accounts WHERE is_test_data") == [(1000,)]
    assert run(team, REAL) == before
    assert "1 passed" in billing.perf()
    assert run(team, REAL) == before
    billing.perfdata(*restore, "--fresh")
    ((kept,),) = run(team, "SELECT datname FROM pg_database WHERE datname LIKE 'team_before_%'")
    assert run(team.replace("/team?", f"/{kept}?"), REAL) == before
    billing.variables = {}


def test_a_dropped_index_is_red_until_the_branch_is_left(billing: Application) -> None:
    revision = "migrations/versions/0002_next.py"
    billing.write(revision, DROPS_INDEX)
    billing.edit("billing/models.py", INDEXED, INDEXED.replace(", index=True", ""))
    assert "changed plan" in billing.perf(code=1)
    (billing.folder / revision).unlink()
    billing.edit("billing/models.py", INDEXED.replace(", index=True", ""), INDEXED)
    assert "1 passed" in billing.perf()


def test_a_snapshot_of_such_a_history_is_not_upgraded(billing: Application) -> None:
    billing.perfdata("snapshot.create", "--name", "saved")
    assert "--allow-drift" in billing.perfdata("snapshot.upgrade", "--name", "saved", code=2)

"""The shop of examples/shop, used from a wheel: SQLModel, no flag, a branch and a merge."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.acceptance.application import ROOT, Application

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

IGNORED = shutil.ignore_patterns(".perfdata", "__pycache__")
SELECTIN = "        .options(selectinload(Order.lines))\n"
MIGRATION = '''"""{message}"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    {statement}
'''
DROPS_INDEX = MIGRATION.format(
    message="Drop an index.", statement='op.drop_index("ix_orders_customer_id")'
)
ADDS_COLUMN = MIGRATION.format(
    message="Customers have a language.",
    statement='op.add_column("customers", sa.Column("language", sa.Text, server_default="en"))',
)


@pytest.fixture(scope="module")
def shop(programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Application]:
    """The tests of this module follow each other as a user's commands do."""
    folder = tmp_path_factory.mktemp("applications") / "shop"
    shutil.copytree(ROOT / "examples" / "shop", folder, ignore=IGNORED)
    application = Application(folder, programs)
    yield application
    application.stop()


def _files(folder: Path) -> dict[str, bytes]:
    return {
        str(path): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and ".perfdata" not in path.parts and "__pycache__" not in path.parts
    }


def test_init_writes_what_runs_and_overwrites_nothing(programs: Path, tmp_path: Path) -> None:
    """In the application as it was before perfdata came."""
    folder = tmp_path / "shop"
    shutil.copytree(ROOT / "examples" / "shop", folder, ignore=IGNORED)
    shutil.rmtree(folder / "tests")
    (folder / "perf_project.py").unlink()
    application = Application(folder, programs)
    settings = (folder / "pyproject.toml").read_text(encoding="utf-8").partition("[tool.perfdata]")
    application.write("pyproject.toml", settings[0])
    said = application.perfdata("init")
    commands = [line.strip() for line in said.partition("next:")[2].splitlines() if line.strip()]
    assert commands[-1] == "pytest tests/perf"
    written = (folder / "pyproject.toml").read_text(encoding="utf-8")
    assert 'session_class = "sqlmodel:Session"' in written
    for command in commands:
        application.run(*command.split())
    before = _files(folder)
    application.perfdata("init")
    assert _files(folder) == before
    application.stop()


def test_a_dataset_is_built_and_restored_both_ways(shop: Application) -> None:
    assert "32,243 rows" in shop.perfdata("dataset.build", "--name", "1000_customers")
    for way in ([], ["--fresh"]):
        shop.perfdata("snapshot.restore", "--name", "1000_customers", *way)


def test_the_committed_baselines_hold_and_others_can_be_accepted(shop: Application) -> None:
    said = shop.perf()
    assert "2 passed" in said
    assert "NO BASELINE" not in said
    shutil.rmtree(shop.folder / "tests" / "perf" / "baselines")
    assert "no_baseline" in shop.perf()
    shop.perfdata("perf.accept")
    assert "NO BASELINE" not in shop.perf()


def test_an_n_plus_1_is_red(shop: Application) -> None:
    shop.edit("shop/orders.py", SELECTIN, "")
    said = shop.perf(code=1)
    assert "N+1" in said
    assert "shop/orders.py" in said
    shop.edit("shop/orders.py", "        .limit(10)\n", f"        .limit(10)\n{SELECTIN}")
    shop.perf()


def test_a_dropped_index_is_red_until_the_branch_is_left(shop: Application) -> None:
    revision = "migrations/versions/0004_next.py"
    shop.write(revision, DROPS_INDEX)
    assert "changed plan" in shop.perf(code=1)
    (shop.folder / revision).unlink()
    assert "2 passed" in shop.perf()


def test_a_snapshot_outlives_a_migration(shop: Application) -> None:
    shop.perfdata("snapshot.create", "--name", "saved")
    shop.write("migrations/versions/0004_next.py", ADDS_COLUMN)
    shop.perfdata("snapshot.restore", "--name", "saved", code=2)
    shop.perfdata("snapshot.upgrade", "--name", "saved")
    shop.perfdata("snapshot.restore", "--name", "saved")

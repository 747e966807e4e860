"""A workflow engine: asyncpg, 150 revisions, whose folders env.py finds at run time."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.acceptance.application import Application

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent / "applications" / "workflow"
REVISIONS = 150
REVISION = '''"""{message}"""

import sqlalchemy as sa
from alembic import op

revision = "{revision}"
down_revision = {down}
branch_labels = {labels}
depends_on = {depends}


def upgrade() -> None:
    {statements}
'''
FLOWS = """op.create_table(
        "flows",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("is_test_data", sa.Boolean, nullable=False, server_default="false"),
    )"""
RUNS = """op.create_table(
        "runs",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("flow_id", sa.Uuid, sa.ForeignKey("flows.id"), nullable=False),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("is_test_data", sa.Boolean, nullable=False, server_default="false"),
    )
    op.create_index("ix_runs_flow_id", "runs", ["flow_id"])"""


def _write(
    engine: Application,
    module: str,
    revision: str,
    statements: str,
    *,
    down: str | None = None,
    labels: str | None = None,
    depends: str | None = None,
) -> None:
    text = REVISION.format(
        message=f"{revision} of {module}.",
        revision=revision,
        down=repr(down),
        labels=repr(labels),
        depends=repr(depends),
        statements=statements,
    )
    engine.write(f"migrations/{module}_revisions/{revision}.py", text)


@pytest.fixture(scope="module")
def engine(programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Application]:
    """The application with two folders of revisions, of which one depends on the other."""
    folder = tmp_path_factory.mktemp("applications") / "engine"
    shutil.copytree(HERE, folder, ignore=shutil.ignore_patterns(".perfdata", "__pycache__"))
    application = Application(folder, programs)
    _write(application, "flows", "f001", FLOWS, labels="flows")
    for n in range(2, REVISIONS - 1):
        statements = f"op.execute(\"COMMENT ON TABLE flows IS '{n}'\")"
        _write(application, "flows", f"f{n:03}", statements, down=f"f{n - 1:03}")
    _write(application, "runs", "r001", RUNS, labels="runs", depends="f100")
    _write(application, "runs", "r002", "pass", down="r001")
    yield application
    application.stop()


def test_revisions_that_are_found_at_run_time_are_run(engine: Application) -> None:
    said = engine.perfdata("--dry", "db.migrate")
    assert "f001" in said
    assert "r002" in said
    engine.perfdata("db.migrate")


def test_a_dataset_is_built_and_restored_both_ways(engine: Application) -> None:
    engine.perfdata("dataset.build", "--name", "200_flows")
    for way in ([], ["--fresh"]):
        engine.perfdata("snapshot.restore", "--name", "200_flows", *way)


def test_perf_tests_on_asyncpg_are_green_then_red_without_the_index(engine: Application) -> None:
    engine.perf()
    engine.perfdata("perf.accept")
    assert "3 passed" in engine.perf()
    drop = 'op.drop_index("ix_runs_flow_id", "runs")'
    _write(engine, "runs", "r003", drop, down="r002")
    assert "changed plan" in engine.perf(code=1)
    (engine.folder / "migrations" / "runs_revisions" / "r003.py").unlink()
    assert "3 passed" in engine.perf()


def test_an_n_plus_1_is_red(engine: Application) -> None:
    once = (engine.folder / "engine" / "queries.py").read_text(encoding="utf-8")
    engine.write(
        "engine/queries.py",
        once.partition("    found = await session.execute(\n        select(runs.c.flow_id")[0]
        + '    return [await latest_run(session, f"flow {n:04}") for n in range(12)]\n',
    )
    said = engine.perf(code=1)
    assert "N+1" in said
    assert "engine/queries.py" in said
    engine.write("engine/queries.py", once)


def test_a_snapshot_outlives_a_migration(engine: Application) -> None:
    engine.perfdata("snapshot.create", "--name", "saved")
    add = 'op.add_column("flows", sa.Column("note", sa.Text))'
    _write(engine, "flows", "f999", add, down=f"f{REVISIONS - 2:03}")
    engine.perfdata("snapshot.upgrade", "--name", "saved")
    engine.perfdata("snapshot.restore", "--name", "saved")


def test_a_folder_without_revisions_is_an_error(engine: Application) -> None:
    for folder in (engine.folder / "migrations").glob("*_revisions"):
        folder.rename(folder.with_name(f"no_{folder.name}s"))
    assert "sets no version_locations" in engine.perfdata("db.migrate", code=2)

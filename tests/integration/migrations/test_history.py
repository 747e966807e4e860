"""Histories as teams have them: found at run time, unable to build an empty database, unstamped."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import psycopg
import pytest

from perfdata import (
    MigrationError,
    MigrationFailedError,
    Project,
    ProjectCodeError,
    Settings,
    Target,
)
from perfdata.migrations.history import create_tables, migrate, read_history
from perfdata.target.stamp import preview_stamp, stamp_revision
from tests.integration.databases import mark_owned, run
from tests.processes import run_script

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.slow


ENV = """
import os
from alembic import context

config = context.config
{first}
if context.is_offline_mode():
    context.configure(url=config.get_main_option("sqlalchemy.url"))
    with context.begin_transaction():
        context.run_migrations()
else:
    connection = config.attributes["connection"]
    {online}
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()
"""
REVISION = """
from alembic import op

revision = {revision!r}
down_revision = {parent!r}


def upgrade():
    {does}
"""
PLACE = "os.path.join(os.path.dirname(context.script.dir), 'migrations', 'found')"
METADATA = """
from sqlalchemy import Boolean, Column, Integer, MetaData, Table

metadata = MetaData()
Table("customers", metadata, Column("id", Integer, primary_key=True),
      Column("is_test_data", Boolean, nullable=False), Column("age", Integer))
"""
AGE = "ALTER TABLE customers ADD COLUMN age int"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The root of a project whose first revision needs a table that no revision makes."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shop_tables.py").write_text(METADATA)
    write_env(tmp_path)
    write_revision(tmp_path, "first", None, f'op.execute("{AGE}")')
    return tmp_path


def write_env(folder: Path, first: str = "", online: str = "") -> None:
    (folder / "migrations" / "versions").mkdir(parents=True, exist_ok=True)
    (folder / "migrations" / "env.py").write_text(ENV.format(first=first, online=online))


def write_revision(
    folder: Path, revision: str, parent: str | None, does: str = "pass", where: str = "versions"
) -> None:
    path = folder / "migrations" / where / f"{revision}.py"
    path.parent.mkdir(exist_ok=True)
    path.write_text(REVISION.format(revision=revision, parent=parent, does=does))


def project_in(folder: Path, **fields: object) -> Project:
    return replace(Project(name="shop", migrations=folder / "migrations"), **fields)  # type: ignore[arg-type]


def with_metadata(folder: Path) -> Project:
    return project_in(folder, metadata="shop_tables:metadata", tables_from_metadata=True)


def versions(url: str) -> list[str]:
    return [name for (name,) in run(url, "SELECT version_num FROM alembic_version ORDER BY 1")]


def columns(url: str) -> list[str]:
    query = (
        "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass('customers') AND attnum > 0"
    )
    return [name for (name,) in run(url, query)]


def test_a_history_that_cannot_build_an_empty_database_is_named(
    folder: Path, empty_url: str
) -> None:
    with pytest.raises(MigrationFailedError) as caught:
        migrate(empty_url, project_in(folder))
    database = psycopg.conninfo.conninfo_to_dict(empty_url)["dbname"]
    said = caught.value.reason
    assert said.startswith("the migrations of project shop failed: revision first can't run in ")
    assert f"/{database}: " in said
    assert f'relation "customers" does not exist; statement: {AGE} (' in said
    assert said.endswith("migrations/versions/first.py, line 9)")
    assert "\n" not in said
    assert "tables_from_metadata=True) perfdata stamps the newest" in caught.value.remedy
    run(empty_url, "CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY)")
    run(empty_url, "INSERT INTO alembic_version VALUES ('zero')")
    write_revision(folder, "zero", None)
    write_revision(folder, "first", "zero", f'op.execute("{AGE}")')
    with pytest.raises(MigrationFailedError) as caught:
        migrate(empty_url, project_in(folder))
    assert "metadata" not in caught.value.remedy
    mark_owned(empty_url)
    with pytest.raises(MigrationFailedError, match=r"db\.reset makes such a database"):
        migrate(empty_url, project_in(folder))


def test_the_metadata_makes_its_tables_the_head_is_stamped_and_later_revisions_run(
    folder: Path, empty_url: str
) -> None:
    events: list[str] = []
    project = with_metadata(folder)
    assert migrate(empty_url, project, lambda event: events.append(str(event))) == ("first",)
    assert versions(empty_url) == ["first"]
    assert columns(empty_url) == ["id", "is_test_data", "age"]
    write_revision(folder, "second", "first", 'op.execute("ALTER TABLE customers ADD name text")')
    assert migrate(empty_url, project) == ("second",)
    assert migrate(empty_url, project) == ("second",)
    assert columns(empty_url) == ["id", "is_test_data", "age", "name"]


def test_tables_that_a_killed_process_made_are_stamped_by_the_next(
    folder: Path, empty_url: str
) -> None:
    create_tables(empty_url, replace(with_metadata(folder), migrations=None))
    assert migrate(empty_url, with_metadata(folder)) == ("first",)
    assert versions(empty_url) == ["first"]


def test_a_teams_own_migrated_database_gets_later_revisions_only(
    folder: Path, empty_url: str
) -> None:
    run(
        empty_url,
        "CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY)",
        "INSERT INTO alembic_version VALUES ('first')",
    )
    write_revision(folder, "second", "first", 'op.execute("CREATE TABLE made_by_second ()")')
    assert migrate(empty_url, with_metadata(folder)) == ("second",)
    assert columns(empty_url) == []
    assert run(empty_url, "SELECT to_regclass('made_by_second') IS NOT NULL") == [(True,)]


@pytest.fixture
def target_of(
    monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> Callable[[str, Project], Target]:
    """Return a function that makes a target of a URL, for a project."""

    def make(url: str, project: Project) -> Target:
        monkeypatch.setattr("perfdata.target.target.find_project", lambda _: project)
        return Target(settings, url, embedded=False)

    return make


def test_tables_without_a_version_are_stamped_not_dropped(
    folder: Path,
    empty_url: str,
    target_of: Callable[[str, Project], Target],
    state: Callable[[str], tuple[object, ...]],
) -> None:
    run(empty_url, "CREATE TABLE customers (id int, age int)", "INSERT INTO customers VALUES (1)")
    write_revision(folder, "second", "first", 'op.execute("ALTER TABLE customers ADD name text")')
    for project in (project_in(folder), with_metadata(folder)):
        with pytest.raises(MigrationError) as caught:
            migrate(empty_url, project)
        assert "run: perfdata db.stamp --revision REV (the newest one" in caught.value.remedy
        assert "rop" not in caught.value.remedy
    before = state(empty_url)
    target = target_of(empty_url, project_in(folder))
    with pytest.raises(MigrationError, match="Can't locate revision identified by 'nope'"):
        stamp_revision(target, "nope")
    assert preview_stamp(target, "fir").now == ("first",)
    assert state(empty_url) == before
    done = stamp_revision(target, "first")
    assert (done.before, done.now) == ((), ("first",))
    assert migrate(empty_url, project_in(folder)) == ("second",)
    assert columns(empty_url) == ["id", "age", "name"]
    assert run(empty_url, "SELECT id FROM customers") == [(1,)]
    assert stamp_revision(target, "base").now == ()
    assert stamp_revision(target, "heads").before == ()
    assert versions(empty_url) == ["second"]


def test_the_task_says_what_it_stamped(folder: Path, empty_url: str) -> None:
    (folder / "pyproject.toml").write_text('[tool.perfdata]\nproject = "shop_perf:project"\n')
    (folder / "shop_perf.py").write_text(
        "from pathlib import Path\nfrom perfdata import Project\n"
        "project = Project(name='shop', migrations=Path('migrations'))\n"
    )
    run(empty_url, "CREATE TABLE customers (id int, age int)")
    place = {"PERFDATA_DATABASE_URL": empty_url}
    missing = run_script(folder, "perfdata", "db.stamp", **place)
    assert missing.returncode == 2
    assert "for example: perfdata db.stamp --revision heads" in missing.stderr
    wrong = run_script(folder, "perfdata", "db.stamp", "--revision", "nope", "--dry", **place)
    assert wrong.returncode == 2
    assert "Can't locate revision identified by 'nope'" in wrong.stderr
    stamp = ("db.stamp", "--revision", "heads")
    dry = run_script(folder, "perfdata", *stamp, "--dry", **place)
    assert (dry.returncode, dry.stdout.endswith(": first\n")) == (0, True), dry
    assert run(empty_url, "SELECT to_regclass('alembic_version') IS NULL") == [(True,)]
    done = run_script(folder, "perfdata", *stamp, **place)
    assert done.stdout.endswith(" is stamped: first (it was at no revision)\n"), done
    assert done.stdout.startswith("perfdata@")


def test_a_stamp_in_another_database_is_found_out(
    folder: Path, empty_url: str, target_of: Callable[[str, Project], Target]
) -> None:
    write_env(folder, online="raise KeyError('x')")
    with pytest.raises(MigrationFailedError, match="KeyError: 'x'"):
        stamp_revision(target_of(empty_url, project_in(folder)), "heads")
    (folder / "migrations" / "env.py").write_text("")
    with pytest.raises(MigrationError, match="ran in another database than"):
        stamp_revision(target_of(empty_url, project_in(folder)), "heads")


RUN_TIME = {
    "the script directory": f"context.script.version_locations = [{PLACE}]",
    "the configuration": f"config.set_main_option('version_locations', {PLACE})",
    "a module": "import shop_locations; shop_locations.use(context)",
    "a module's module": "from shop_boot import shop_locations; shop_locations.use(context)",
}


@pytest.mark.parametrize("way", RUN_TIME)
def test_revisions_that_env_py_finds_at_run_time_are_read_and_run(
    folder: Path, empty_url: str, way: str
) -> None:
    """In addition to a folder that exists, which nothing uses then."""
    (folder / "shop_locations.py").write_text(
        f"import os\ndef use(context):\n    {RUN_TIME['the script directory']}\n"
    )
    (folder / "shop_boot.py").write_text("import shop_locations\n")
    write_env(folder, RUN_TIME[way])
    write_revision(folder, "found", None, 'op.execute("CREATE TABLE found ()")', "found")
    assert read_history(project_in(folder)).heads == ("found",)
    assert migrate(empty_url, project_in(folder)) == ("found",)
    assert versions(empty_url) == ["found"]


def test_the_revisions_of_a_migration_are_those_seen_after_env_py_ran(
    folder: Path, empty_url: str, target_of: Callable[[str, Project], Target]
) -> None:
    """Where its source does not show that it sets their folders."""
    name = "''.join(['version', '_locations'])"
    write_env(folder, f"setattr(context.script, {name}, [{PLACE}])")
    write_revision(folder, "found", None, where="found")
    assert read_history(project_in(folder)).heads == ("first",)
    assert migrate(empty_url, project_in(folder)) == ("found",)
    run(empty_url, "DELETE FROM alembic_version")
    assert stamp_revision(target_of(empty_url, project_in(folder)), "heads").now == ("found",)


def test_an_env_py_that_connects_first_is_read_up_to_there(folder: Path, empty_url: str) -> None:
    locations = RUN_TIME["the script directory"]
    connect = "import psycopg\nif 'connection' not in config.attributes: psycopg.connect('host=/x')"
    write_env(folder, f"{locations}\n{connect}")
    write_revision(folder, "found", None, where="found")
    assert read_history(project_in(folder)).heads == ("found",)
    assert migrate(empty_url, project_in(folder)) == ("found",)
    write_env(folder, f"{connect}\n{locations}")
    with pytest.raises(MigrationError, match="sets no version_locations before it connects"):
        read_history(project_in(folder))
    write_env(folder, f"os.environ['SHOP_URL']\n{locations}")
    with pytest.raises(ProjectCodeError, match=r"KeyError: 'SHOP_URL' \(migrations/env.py, line 6"):
        read_history(project_in(folder))


WRITES = """
if 'connection' not in config.attributes or context.is_offline_mode():
    import psycopg
    with psycopg.connect({url!r}, autocommit=True) as own:
        own.execute("CREATE TABLE {table} ()")
"""


def test_an_env_py_that_is_run_for_its_folders_reaches_no_database(
    folder: Path, empty_url: str, target_of: Callable[[str, Project], Target]
) -> None:
    """Not even the target: neither in a dry stamp nor before migrations run."""
    write_revision(folder, "found", None, where="found")
    locations = RUN_TIME["the script directory"]
    write_env(folder, locations + WRITES.format(url=empty_url, table="written"))
    target = target_of(empty_url, project_in(folder))
    assert preview_stamp(target, "heads").now == ("found",)
    assert migrate(empty_url, project_in(folder)) == ("found",)
    assert stamp_revision(target, "heads").now == ("found",)
    assert run(empty_url, "SELECT to_regclass('written') IS NULL") == [(True,)]


def test_folders_without_a_revision_are_an_error_that_names_them(
    folder: Path, empty_url: str
) -> None:
    (folder / "migrations" / "versions" / "first.py").unlink()
    for looked in (read_history, lambda project: migrate(empty_url, project)):
        with pytest.raises(MigrationError) as caught:
            looked(project_in(folder))
        assert f"have no revision in {folder / 'migrations' / 'versions'}" in caught.value.reason
        assert "version_locations: in alembic.ini, or in env.py" in caught.value.remedy
    assert run(empty_url, "SELECT to_regclass('alembic_version') IS NULL") == [(True,)]


def test_an_env_py_is_not_run_to_read_what_the_configuration_names(folder: Path) -> None:
    write_env(folder, "raise ValueError('it was run')")
    assert read_history(project_in(folder)).heads == ("first",)

"""Tables that metadata alone makes: what differs, what is recorded of tables made by others."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from perfdata import ConfigError, MigrationError, PrivilegesError, Project, Settings, Target
from perfdata.migrations.history import MADE_FROM, create_tables
from perfdata.target.stamp import preview_stamp, stamp_revision
from tests.integration.databases import run
from tests.processes import run_script

if TYPE_CHECKING:
    from pathlib import Path

METADATA = """
from sqlalchemy import Boolean, Column, Integer, MetaData, Table

metadata = MetaData()
Table("customers", metadata, Column("id", Integer, primary_key=True),
      Column("is_test_data", Boolean, nullable=False), Column("age", Integer))
"""
PROJECT = Project(name="shop", metadata="shop_tables:metadata", tables_from_metadata=True)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "shop_tables.py").write_text(METADATA)
    return tmp_path


@pytest.fixture
def unstamped(empty_url: str, monkeypatch: pytest.MonkeyPatch, settings: Settings) -> Target:
    monkeypatch.setattr("perfdata.target.target.find_project", lambda _: PROJECT)
    return Target(settings, empty_url, embedded=False)


@pytest.mark.usefixtures("folder")
def test_tables_that_the_application_made_are_stamped(empty_url: str, unstamped: Target) -> None:
    """As the application made them with create_all before perfdata came."""
    run(empty_url, "CREATE TABLE customers (id int, age int)")
    with pytest.raises(
        MigrationError, match="found customers, which perfdata did not make"
    ) as caught:
        create_tables(empty_url, PROJECT)
    assert caught.value.remedy.endswith("run: perfdata db.stamp --revision heads")
    with pytest.raises(MigrationError, match="has no revision 'first'"):
        stamp_revision(unstamped, "first")
    for stamp in (stamp_revision, preview_stamp):
        with pytest.raises(MigrationError, match=r"lacks customers\.is_test_data"):
            stamp(unstamped, "heads")
    run(empty_url, "ALTER TABLE customers ADD is_test_data boolean")
    assert preview_stamp(unstamped, "heads").metadata
    assert run(empty_url, MADE_FROM) == [(None,)]
    assert stamp_revision(unstamped, "heads").metadata
    create_tables(empty_url, PROJECT)


EMPTIED = "DROP SCHEMA public CASCADE; CREATE SCHEMA public"


@pytest.mark.parametrize("left", ["", "; CREATE SCHEMA other; CREATE TABLE other.x ()"])
@pytest.mark.usefixtures("folder")
def test_in_an_emptied_database_the_tables_are_made_again(empty_url: str, left: str) -> None:
    """The settings of the database say still which metadata its tables were made from."""
    create_tables(empty_url, PROJECT)
    run(empty_url, f"{EMPTIED}{left}")
    if not left:
        assert run(empty_url, MADE_FROM) == [(None,)]
    create_tables(empty_url, PROJECT)
    assert run(empty_url, "SELECT to_regclass('public.customers') IS NULL") == [(False,)]
    assert run(empty_url, MADE_FROM) != [(None,)]


def test_an_owner_who_is_no_superuser_is_told_the_grant(
    folder: Path, empty_url: str, unstamped: Target
) -> None:
    """For a dry run too; with it, the tables are made and stamped."""
    (database,) = run(empty_url, "SELECT current_database()")[0]
    (folder / "pyproject.toml").write_text('[tool.perfdata]\nproject = "shop_perf:project"\n')
    (folder / "shop_perf.py").write_text(
        "from perfdata import Project\nproject = Project(name='shop', "
        "metadata='shop_tables:metadata', tables_from_metadata=True)\n"
    )
    run(empty_url, "CREATE ROLE plain_owner LOGIN")
    url = empty_url.replace("perfdata@", "plain_owner@")
    plain = replace(unstamped, conninfo=url)
    owner = f"ALTER DATABASE {database} OWNER TO plain_owner;"
    grant = "GRANT SET ON PARAMETER perfdata.tables, perfdata.ddl TO plain_owner;"
    try:
        with pytest.raises(PrivilegesError) as caught:
            create_tables(url, PROJECT)
        assert caught.value.statements == (owner, grant)
        run(empty_url, owner)
        for refused in (
            lambda: create_tables(url, PROJECT),
            lambda: stamp_revision(plain, "heads"),
            lambda: preview_stamp(plain, "heads"),
        ):
            with pytest.raises(PrivilegesError) as caught:
                refused()
            assert caught.value.statements == (grant,)
        dry = run_script(folder, "perfdata", "--dry", "db.migrate", PERFDATA_DATABASE_URL=url)
        assert (dry.returncode, grant in dry.stderr) == (2, True), dry
        run(empty_url, grant)
        dry = run_script(folder, "perfdata", "--dry", "db.migrate", PERFDATA_DATABASE_URL=url)
        assert dry.returncode == 0, dry
        create_tables(url, PROJECT)
        assert stamp_revision(plain, "heads").metadata
    finally:
        run(empty_url, f"ALTER DATABASE {database} OWNER TO perfdata")
        run(empty_url, "DROP OWNED BY plain_owner CASCADE", "DROP ROLE plain_owner")


def test_other_metadata_says_which_table_and_column_differ(folder: Path, empty_url: str) -> None:
    create_tables(empty_url, PROJECT)
    module = folder / "shop_tables.py"
    more = "Table('orders', metadata, Column('id', Integer))"
    module.write_text(f"{METADATA}\n{more}\n")
    with pytest.raises(MigrationError) as caught:
        create_tables(empty_url, PROJECT)
    assert "which lacked orders: a module that defines them was added, or" in caught.value.reason
    assert "is imported by shop_tables:metadata only now" in caught.value.reason
    assert "db.reset makes a new database" in caught.value.remedy
    assert "delete" not in caught.value.remedy
    changed = METADATA.replace('Column("age", Integer)', 'Column("age", Integer, nullable=False)')
    module.write_text(f"{changed.replace('is_test_data', 'generated')}\n{more}\n")
    with pytest.raises(MigrationError) as caught:
        create_tables(empty_url, PROJECT)
    for part in (
        "customers.age was INTEGER, is INTEGER NOT NULL",
        "customers: is_test_data BOOLEAN NOT NULL is gone",
        "customers: generated BOOLEAN NOT NULL is new",
        "orders is new",
    ):
        assert part in caught.value.reason


def test_metadata_without_a_table_is_an_error(folder: Path, empty_url: str) -> None:
    (folder / "shop_base.py").write_text("from sqlalchemy import MetaData\nmetadata = MetaData()\n")
    project = replace(PROJECT, metadata="shop_base:metadata")
    with pytest.raises(ConfigError, match="has no table after shop_base was imported") as caught:
        create_tables(empty_url, project)
    assert "Import the modules of the models there" in caught.value.remedy

"""The cache key: what changes it, what does not, and what a snapshot's own parts explain."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import psycopg
import pytest

from tests.integration.inner import entry
from tests.processes import run_script

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow

PYPROJECT = '[tool.perfdata]\nproject = "shop_perf:project"\n'
PROJECT = """
from datetime import date
from pathlib import Path

from perfdata import Dataset, Project, TableRows
import shop_rows


def generate(dataset):
    yield TableRows("customers", ("id", "is_test_data"), shop_rows.lines())


project = Project(
    name="shop",
    {tables},
    datasets=(Dataset(name="some", generate=generate, as_of=date(2026, 1, 1)),),
)
"""
ROWS = "def lines():\n    return [b'1\\tt\\n', b'2\\tt\\n']\n"
INI = """[alembic]
script_location = %(here)s/migrations
version_locations = %(here)s/migrations/versions:billing/versions
path_separator = :
"""
# Two branches and their merge in one folder, a branch of its own with a dependency in another.
# Names go against the order in which they run, but for the ties.
HISTORY = {
    "migrations/versions/a.py": ("z_first", None, None),
    "migrations/versions/c_left.py": ("c", "z_first", None),
    "migrations/versions/b_right.py": ("b", "z_first", None),
    "migrations/versions/m.py": ("a_merge", ("b", "c"), None),
    "billing/versions/x.py": ("0_billing", None, "a_merge"),
    "billing/versions/0y.py": ("00_last", "0_billing", None),
}
ORDER = ["z_first", "b", "c", "a_merge", "0_billing", "00_last"]
METADATA = """
from sqlalchemy import Boolean, Column, Index, Integer, MetaData, Table

metadata = MetaData()
Table("customers", metadata, Column("id", Integer, primary_key=True),
      Column("is_test_data", Boolean, nullable=False), Column("age", Integer, index=True),
      Index("both", "id", "age"))
"""


def perfdata(folder: Path, *command: str, code: int = 0, **environ: str) -> str:
    done = run_script(folder, "perfdata", *command, **environ)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def key(folder: Path) -> str:
    return perfdata(folder, "snapshot.key", "--name", "some").strip()


def parts(folder: Path) -> dict[str, str]:
    told = json.loads(perfdata(folder, "snapshot.key", "--name", "some", "--json"))
    found: dict[str, str] = told["parts"]
    return found


def write_project(folder: Path, tables: str) -> None:
    folder.mkdir(parents=True)
    (folder / "pyproject.toml").write_text(PYPROJECT)
    (folder / "shop_perf.py").write_text(PROJECT.format(tables=tables))
    (folder / "shop_rows.py").write_text(ROWS)


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A project with an Alembic history of several heads, in two folders."""
    folder = tmp_path / "shop"
    write_project(folder, "migrations=Path('alembic.ini')")
    (folder / "alembic.ini").write_text(INI)
    (folder / "migrations").mkdir()
    (folder / "migrations" / "env.py").write_text("")
    for name, (revision, parents, depends) in HISTORY.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            f"revision = {revision!r}\ndown_revision = {parents!r}\ndepends_on = {depends!r}\n"
        )
    return folder


def test_every_migration_counts_parents_first_and_ties_by_revision(shop: Path) -> None:
    """All heads, merges, branches, dependencies and folders; named from where alembic.ini is."""
    migrations = [name for name in parts(shop) if name.startswith("migration ")]
    assert migrations == [f"migration {revision}" for revision in ORDER]
    assert parts(shop)["migration 00_last"].endswith(" billing/versions/0y.py")


def test_the_key_is_the_same_wherever_the_project_lies(shop: Path, tmp_path: Path) -> None:
    other = tmp_path / "deep" / "elsewhere"
    shutil.copytree(shop, other)
    (shop / "deep").mkdir()
    assert key(other) == key(shop) == key(shop / "deep")


@pytest.mark.parametrize(
    ("file", "differs"),
    [
        ("migrations/versions/c_left.py", True),
        ("billing/versions/x.py", True),
        ("shop_perf.py", True),
        ("shop_rows.py", True),
        ("README.md", False),
        ("migrations/env.py", False),
        ("migrations/script.py.mako", False),
        ("migrations/versions/__init__.py", False),
        ("migrations/README", False),
        ("migrations/seed.sql", True),
        ("billing/versions/prices.csv", True),
        ("web.py", False),
    ],
)
def test_a_comment_changes_the_key_where_it_may_decide_rows(
    shop: Path, file: str, differs: bool
) -> None:
    before = key(shop)
    with (shop / file).open("a", encoding="utf-8") as opened:
        opened.write("# a comment\n")
    assert (key(shop) != before) is differs


def test_a_migration_that_is_renamed_or_added_changes_the_key(shop: Path) -> None:
    first = key(shop)
    path = shop / "billing" / "versions" / "x.py"
    path.rename(path.with_name("x_renamed.py"))
    second = key(shop)
    (shop / "billing" / "versions" / "z.py").write_text(
        "revision = 'z'\ndown_revision = '00_last'\n"
    )
    assert len({first, second, key(shop)}) == 3


@pytest.fixture
def from_metadata(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "shop"
    write_project(folder, "metadata='shop_tables:metadata', tables_from_metadata=True")
    (folder / "shop_tables.py").write_text(METADATA)
    yield folder
    perfdata(folder, "db.stop")


def test_tables_from_metadata_count_by_their_ddl(from_metadata: Path) -> None:
    assert len({key(from_metadata) for _ in range(3)}) == 1
    before = key(from_metadata)
    (from_metadata / "shop_tables.py").write_text(METADATA + "# the same tables\n")
    assert key(from_metadata) == before
    (from_metadata / "shop_tables.py").write_text(METADATA.replace("index=True", "index=False"))
    assert key(from_metadata) != before


def test_tables_are_made_from_metadata_and_never_mistaken_for_others(from_metadata: Path) -> None:
    """And a restore that finds them unchanged does not import them."""
    imports = from_metadata / "imports"
    counted = METADATA + f"open({str(imports)!r}, 'a').write('x')\n"
    (from_metadata / "shop_tables.py").write_text(counted)
    built = perfdata(from_metadata, "snapshot.restore", "--name", "some")
    before = imports.read_text()
    assert "creating 1 table from the metadata" in built
    assert "built 2 rows" in built
    assert "restored some: 2 rows" in perfdata(from_metadata, "snapshot.restore", "--name", "some")
    assert imports.read_text() == before
    assert "good:" in perfdata(from_metadata, "snapshot.verify", "--name", "some", "--current")
    (from_metadata / "shop_tables.py").write_text(METADATA.replace("index=True", "index=False"))
    stale = perfdata(from_metadata, "snapshot.verify", "--name", "some", "--current", code=1)
    assert "snapshot some was made with tables of other metadata" in stale
    other = "its tables were made from other metadata of project shop"
    refused = perfdata(from_metadata, "snapshot.create", "--name", "x", code=2)
    assert f"can't be migrated in place: {other}" in refused
    explained = perfdata(from_metadata, "snapshot.key", "--name", "some", "--explain")
    assert "snapshot some differs in tables: " in explained
    assert explained.count("differs in") == 1
    restored = perfdata(from_metadata, "snapshot.restore", "--name", "some")
    assert other in restored
    assert "creating 1 table from the metadata" in restored
    (from_metadata / "shop_tables.py").write_text(METADATA)
    back = perfdata(from_metadata, "db.migrate")
    assert "took back perfdata_at_" in back
    assert "creating" not in back


def test_tables_that_are_there_already_are_not_taken_for_the_metadatas(
    from_metadata: Path,
) -> None:
    """As in a database that migrations made before the project went over to metadata."""
    (from_metadata / "shop_perf.py").write_text(PROJECT.format(tables="flag_column='is_test_data'"))
    url = perfdata(from_metadata, "db.url").splitlines()[0]  # stdout comes first
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE customers (id int, is_test_data boolean)")
    tables = "metadata='shop_tables:metadata', tables_from_metadata=True"
    (from_metadata / "shop_perf.py").write_text(PROJECT.format(tables=tables))
    said = perfdata(from_metadata, "db.migrate", code=2)
    assert "found customers, which perfdata did not make from the metadata" in said
    other = {"PERFDATA_DATABASE_URL": url, "PERFDATA_ALLOW": entry(url)}
    said = perfdata(from_metadata, "dataset.build", "--name", "some", code=2, **other)
    assert (
        "were not made from the present metadata of project shop. Run: perfdata db.migrate" in said
    )


def test_a_key_is_made_whatever_lies_in_the_place_of_its_snapshot(from_metadata: Path) -> None:
    perfdata(from_metadata, "snapshot.restore", "--name", "some")
    create = ("snapshot.create", "--name", "some", "--replace", "--all-rows")
    perfdata(from_metadata, *create)
    explained = perfdata(from_metadata, "snapshot.key", "--name", "some", "--explain")
    assert "not compared: snapshot some was not built from a dataset" in explained
    stale = perfdata(from_metadata, "snapshot.verify", "--name", "some", "--current", code=1)
    assert "snapshot some was created by hand, not built from the dataset of that name" in stale
    flagged = perfdata(from_metadata, "snapshot.verify", "--name", "some", "--flagged", code=1)
    assert "snapshot some holds every row of its tables" in flagged
    place = from_metadata / ".perfdata" / "snapshots" / "some.json.zst"
    place.write_bytes(b"nothing")
    told = json.loads(perfdata(from_metadata, "snapshot.key", "--name", "some", "--json"))
    assert told["key"] == key(from_metadata)
    assert "damaged" in told["not_compared"]


def test_no_migrations_at_all_is_an_error(tmp_path: Path) -> None:
    write_project(tmp_path / "shop", "metadata='shop_tables:metadata'")
    said = perfdata(tmp_path / "shop", "snapshot.key", "--name", "some", code=2)
    assert "project shop has no migrations" in said
    assert "tables_from_metadata=True" in said


def test_tables_from_metadata_without_metadata_is_refused(tmp_path: Path) -> None:
    write_project(tmp_path / "shop", "migrations=Path('x'), tables_from_metadata=True")
    said = perfdata(tmp_path / "shop", "snapshot.key", "--name", "some", code=2)
    assert "tables_from_metadata needs metadata" in said

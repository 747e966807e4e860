"""A snapshot that is carried through migrations which were added after it was created."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from psycopg.conninfo import conninfo_to_dict

from perfdata import (
    GuardError,
    MigrationError,
    PrivilegesError,
    SchemaError,
    Settings,
    SnapshotDamagedError,
    SnapshotStaleError,
    Target,
    Upgraded,
    build_dataset,
    create_snapshot,
    find_snapshot,
    restore_snapshot,
    upgrade_snapshot,
    verify_snapshot,
)
from perfdata.migrations.history import migrate
from perfdata.project import load_project
from perfdata.target.garbage import collect_databases
from tests.integration.databases import run
from tests.integration.inner import entry
from tests.processes import run_script

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from perfdata.server.embedded import EmbeddedServer

pytestmark = pytest.mark.slow

PROJECT = """
from datetime import date
from pathlib import Path
from perfdata import Dataset, Project, TableRows


def generate(dataset):
    lines = (f"{n}\\tAda Number{n}\\tt\\n".encode() for n in range(1, 101))
    yield TableRows("customers", ("id", "name", "is_test_data"), lines)


few = Dataset(name="few", generate=generate, as_of=date(2026, 1, 1), description="a few")
project = Project(name="upgraded", migrations=Path("migrations"), datasets=(few,))
"""
ENV = """
from alembic import context

connection = context.config.attributes["connection"]
context.configure(connection=connection)
with context.begin_transaction():
    context.run_migrations()
"""
REVISION = """
from alembic import op
revision, down_revision = {revision!r}, {parent!r}


def upgrade():
    for statement in {statements!r}:
        op.execute(statement)
"""
FIRST = (
    "CREATE TABLE customers (id serial PRIMARY KEY, name text NOT NULL,"
    " is_test_data boolean NOT NULL DEFAULT false)",
    "CREATE TABLE countries (code text PRIMARY KEY)",
    "INSERT INTO countries VALUES ('at'), ('jp')",
)
SPLIT = (
    "ALTER TABLE customers ADD given text, ADD family text",
    "UPDATE customers SET given = split_part(name, ' ', 1), family = split_part(name, ' ', 2)",
    "ALTER TABLE customers ALTER given SET NOT NULL, DROP name",
)
NOTES = (
    "CREATE TABLE notes (id serial PRIMARY KEY, customer_id int NOT NULL REFERENCES customers,"
    " is_test_data boolean NOT NULL)",
    "INSERT INTO notes (customer_id, is_test_data) SELECT id, is_test_data FROM customers",
)


MODULE = "upgraded_shop"


class Shop:
    """A project of the test's own, whose revisions come one after another."""

    def __init__(self, root: Path, settings: Settings) -> None:
        self.versions = root / "migrations" / "versions"
        self.versions.mkdir(parents=True)
        (self.versions.parent / "env.py").write_text(ENV)
        (self.versions.parent / "data.sql").write_text("SELECT 1")
        (root / f"{MODULE}.py").write_text(PROJECT)
        (root / "pyproject.toml").write_text(f'[tool.perfdata]\nproject = "{MODULE}"\n')
        self.settings = replace(settings, root=root, project=MODULE)
        self._heads = [""]
        self.add(*FIRST)

    def add(self, *statements: str) -> None:
        revision, parent = f"{len(self._heads):04}", self._heads[-1] or None
        text = REVISION.format(revision=revision, parent=parent, statements=statements)
        (self.versions / f"{revision}.py").write_text(text)
        self._heads.append(revision)

    def migrate(self, url: str) -> None:
        migrate(url, load_project(self.settings))

    def upgrade(self, url: str, name: str = "few", **options: Any) -> Upgraded:
        return upgrade_snapshot(url, name, settings=options.pop("settings", self.settings))

    def path(self) -> Path:
        return find_snapshot("few", self.settings).path

    def names(self, url: str) -> set[str]:
        return {name for (name,) in run(url, "SELECT datname FROM pg_database")}


@pytest.fixture(scope="module")
def original(
    tmp_path_factory: pytest.TempPathFactory, settings: Settings, server: EmbeddedServer
) -> Iterator[bytes]:
    """The snapshot at the first revision, of the database upgraded_shop that lasts as long."""
    made = Shop(tmp_path_factory.mktemp("original"), settings)
    maintenance, url = server.conninfo("postgres"), server.conninfo(MODULE)
    run(maintenance, f"CREATE DATABASE {MODULE} TEMPLATE template0")
    made.migrate(url)
    build_dataset(Target(made.settings, url, embedded=True), "few")
    yield made.path().read_bytes()
    run(maintenance, f"DROP DATABASE {MODULE}")
    for path in (settings.home / "snapshots").glob("few*"):
        path.unlink()


@pytest.fixture
def shop(tmp_path: Path, settings: Settings, original: bytes) -> Shop:
    (settings.home / "snapshots" / "few.json.zst").write_bytes(original)
    return Shop(tmp_path, settings)


@pytest.fixture
def built_url(shop: Shop, databases: Any) -> str:  # noqa: ARG001  made first
    """A database at the first revision, with the dataset's rows."""
    return str(databases.make(MODULE))


def test_whole_tables_are_the_snapshots_and_not_what_migrations_insert(
    shop: Shop, built_url: str
) -> None:
    run(built_url, "DELETE FROM countries WHERE code = 'at'", "INSERT INTO countries VALUES ('de')")
    own = replace(shop.settings, whole_tables=("countries",))
    create_snapshot(built_url, "few_whole", settings=own)
    shop.add(*SPLIT)
    shop.upgrade(built_url, "few_whole")
    assert verify_snapshot("few_whole", own).manifest.stats == {"countries": 2, "customers": 100}


def test_the_rows_are_those_that_the_migrations_make_of_them(shop: Shop, built_url: str) -> None:
    shop.add(*SPLIT)
    shop.add(*NOTES)
    before = find_snapshot("few", shop.settings)
    databases = shop.names(built_url)
    done = shop.upgrade(built_url)
    assert (done.heads, done.revisions) == (("0001",), ("0002", "0003"))
    assert done.rows_before == {"customers": 100}
    after = verify_snapshot("few", shop.settings)
    assert after.manifest.stats == {"customers": 100, "notes": 100}
    assert [migration.revision for migration in after.manifest.migrations] == [
        "0001", "0002", "0003",
    ]  # fmt: skip
    for field in ("description", "as_of", "dataset_fingerprint", "flag_column"):
        assert getattr(after.manifest, field) == getattr(before.manifest, field)
    assert "migration 0003" in after.manifest.key_parts
    assert shop.names(built_url) == databases
    shop.migrate(built_url)
    restore_snapshot(built_url, "few", settings=shop.settings)
    assert run(built_url, "SELECT given, family FROM customers WHERE id = 7") == [
        ("Ada", "Number7")
    ]
    again = shop.upgrade(built_url)
    assert (again.heads, again.revisions) == (("0003",), ())


def test_rows_that_a_reference_flags_are_found_by_each_revisions_key(
    shop: Shop, built_url: str
) -> None:
    """The snapshot names the key of its revision, the settings the present one."""
    shop.add(
        "CREATE TABLE visits (id int PRIMARY KEY, customer int REFERENCES customers)",
        "INSERT INTO visits SELECT id, id FROM customers WHERE id < 4",
        "INSERT INTO customers VALUES (1000, 'real', false), (1001, 'of a migration', true)",
        "INSERT INTO visits VALUES (1000, 1000), (1001, 1001)",
    )
    shop.migrate(built_url)
    first = replace(shop.settings, flag_through=("visits.customer",))
    made = create_snapshot(built_url, "few_visits", settings=first)
    assert made.manifest.stats == {"customers": 101, "visits": 4}
    run(built_url, "DELETE FROM visits WHERE id = 1001", "DELETE FROM customers WHERE id = 1001")
    create_snapshot(built_url, "few_visits", replace=True, settings=first)
    shop.add("ALTER TABLE visits RENAME customer TO customer_id")
    with pytest.raises(SchemaError, match=r"names 'visits\.customer', but no table"):
        shop.upgrade(built_url, "few_visits", settings=first)
    with pytest.raises(SchemaError, match=r"flagged through visits\.customer, which .* not name"):
        shop.upgrade(built_url, "few_visits")
    second = replace(shop.settings, flag_through=("visits.customer_id",))
    shop.upgrade(built_url, "few_visits", settings=second)
    after = verify_snapshot("few_visits", second).manifest
    assert after.stats == {"customers": 100, "visits": 3}
    assert after.flag_through == ["visits.customer_id"]


def test_all_rows_replace_those_that_migrations_insert(
    shop: Shop, built_url: str, tmp_path: Path
) -> None:
    """On somebody else's server, where the database, but not the scratch database, is listed."""
    run(built_url, "INSERT INTO countries VALUES ('fr')", "DELETE FROM countries WHERE code = 'at'")
    run(built_url, "INSERT INTO customers VALUES (1000, 'Real One', false)")
    elsewhere = replace(shop.settings, home=tmp_path / "home")
    create_snapshot(built_url, "few_all", all_rows=True, settings=elsewhere)
    shop.add(*SPLIT)
    with pytest.raises(GuardError):
        shop.upgrade(built_url, "few_all", settings=elsewhere)
    elsewhere = replace(elsewhere, allow=(entry(built_url),))
    upgraded = shop.upgrade(built_url, "few_all", settings=elsewhere).snapshot
    assert upgraded.manifest.stats == {"countries": 2, "customers": 101}
    assert upgraded.manifest.all_rows


@pytest.mark.parametrize("kind", ["broken", "edited", "file", "unknown", "other"])
def test_a_file_that_cannot_be_upgraded_stays(shop: Shop, built_url: str, kind: str) -> None:
    path = shop.path()
    before, databases = path.read_bytes(), shop.names(built_url)
    if kind == "broken":
        shop.add("ALTER TABLE customers ADD CHECK (id < 50)")
        expected: type[Exception] = MigrationError
    elif kind == "edited":
        shop.add(*SPLIT)
        first = shop.versions / "0001.py"
        first.write_text(first.read_text() + "# edited\n")
        expected = SnapshotStaleError
    elif kind == "file":  # one that a migration may have read
        shop.add(*SPLIT)
        (shop.versions.parent / "data.sql").write_text("SELECT 2")
        expected = SnapshotStaleError
    elif kind == "other":  # what a migration does depends on something else than its file
        env = shop.versions.parent / "env.py"
        env.write_text(f"{ENV}context.execute('ALTER TABLE customers RENAME name TO full_name')\n")
        shop.add(*SPLIT)
        expected = SchemaError
    else:
        (shop.versions / "0001.py").unlink()
        shop.add(*SPLIT)
        (shop.versions / "0002.py").write_text(
            (shop.versions / "0002.py").read_text().replace("'0001'", "None")
        )
        expected = MigrationError
    with pytest.raises(expected):
        shop.upgrade(built_url)
    assert path.read_bytes() == before
    assert shop.names(built_url) == databases


def test_a_new_file_that_does_not_read_back_is_not_kept(
    shop: Shop, built_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bytes on the disk are what is checked, not those that were to be written."""
    shop.add(*SPLIT)
    path = shop.path()
    before = path.read_bytes()
    sync = os.fsync

    def damage(number: int) -> None:
        sync(number)
        size = os.fstat(number).st_size
        os.pwrite(number, b"\0\0\0\0", size - 40)

    monkeypatch.setattr(os, "fsync", damage)
    with pytest.raises(SnapshotDamagedError):
        shop.upgrade(built_url)
    assert path.read_bytes() == before


def test_the_role_must_be_allowed_to_create_databases(
    shop: Shop, built_url: str, server: EmbeddedServer
) -> None:
    shop.add(*SPLIT)
    maintenance, role = server.conninfo("postgres"), "no_createdb"
    run(maintenance, f"CREATE ROLE {role} LOGIN")
    try:
        with pytest.raises(
            PrivilegesError, match=f"role {role} may not create databases"
        ) as caught:
            shop.upgrade(built_url.replace("perfdata@", f"{role}@", 1))
        assert caught.value.statements == (f"ALTER ROLE {role} CREATEDB;",)
    finally:
        run(maintenance, f"DROP ROLE {role}")


KILLED = """
import os, signal, sys
from perfdata import Settings, upgrade_snapshot
from perfdata.snapshot import upgrade

upgrade.create = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
upgrade_snapshot(sys.argv[1], "few", settings=Settings.load())
"""


def test_after_a_kill_the_file_stays_and_the_database_is_garbage(
    shop: Shop, built_url: str
) -> None:
    shop.add(*SPLIT)
    path = shop.path()
    before, databases = path.read_bytes(), shop.names(built_url)
    subprocess.run(
        [sys.executable, "-c", KILLED, built_url],
        cwd=shop.settings.root, env={"PERFDATA_HOME": str(shop.settings.home)}, check=False,
    )  # fmt: skip
    (left,) = shop.names(built_url) - databases
    assert path.read_bytes() == before
    removed = collect_databases(built_url, shop.settings).removed
    assert left in {one.name for one in removed}


def test_the_task_says_what_it_does(shop: Shop, built_url: str) -> None:
    shop.add(*SPLIT)
    shop.add(*NOTES)
    where = {"PERFDATA_HOME": str(shop.settings.home), "PERFDATA_DATABASE_URL": built_url}
    name = conninfo_to_dict(built_url)["dbname"]

    def told(*arguments: str) -> str:
        done = run_script(shop.settings.root, "perfdata", *arguments, "--name", "few", **where)
        assert done.returncode == 0, done.stderr
        return done.stdout

    dry = told("--dry", "snapshot.upgrade")
    assert "would upgrade few from 0001 through 0002, 0003\nin a scratch database" in dry
    assert str(name) in dry
    done = told("snapshot.upgrade")
    assert done.startswith("upgraded few from 0001 through 0002, 0003: 200 rows, ")
    assert "notes: 0 rows before, 100 now" in done
    assert told("snapshot.upgrade") == "few has all migrations: 0003\n"

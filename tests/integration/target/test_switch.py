"""The embedded database follows the checkout's migrations; what does not fit them is parked."""

from __future__ import annotations

import copy
import io
import json
import subprocess
import sys
import threading
import time
from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import psycopg
import pytest
from invoke.collection import Collection
from psycopg import sql
from psycopg.conninfo import make_conninfo

from perfdata import (
    Event,
    GuardError,
    MigrationError,
    RefusedError,
    Settings,
    open_target,
    restore_snapshot,
)
from perfdata.postgres.drivers import PsycopgLink
from perfdata.server.embedded import EmbeddedServer
from perfdata.target.garbage import collect_garbage
from perfdata.target.target import reset_target
from perfdata.tasks import dataset, db, snapshot
from perfdata.tasks.program import StrictProgram
from perfdata.templates.databases import mark_made
from perfdata.templates.marks import Kind, parse_mark
from tests.homes import discard_server
from tests.integration.databases import run
from tests.processes import environment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow

PROJECT = """
from datetime import date
from pathlib import Path

from perfdata import Dataset, Project, TableRows


def generate(dataset):
    yield TableRows("customers", ("id", "is_test_data"), [b"1\\tt\\n", b"2\\tt\\n"])


project = Project(
    name="shop",
    migrations=Path("migrations"),
    datasets=(Dataset(name="some", generate=generate, as_of=date(2026, 1, 1)),),
)
"""
ENV = """
from alembic import context

context.configure(connection=context.config.attributes["connection"])
with context.begin_transaction():
    context.run_migrations()
"""
REVISION = """
from alembic import op

revision = "{name}"
down_revision = {parent!r}


def upgrade():
    op.execute("{statement}")
"""
CUSTOMERS = "CREATE TABLE customers (id int PRIMARY KEY, is_test_data boolean NOT NULL)"
MAIN: dict[str, tuple[str | None, str]] = {
    "first": (None, CUSTOMERS),
    "main_2": ("first", "ALTER TABLE customers ADD main text"),
}
FEATURE: dict[str, tuple[str | None, str]] = {
    "first": (None, CUSTOMERS),
    "feature_2": ("first", "ALTER TABLE customers ADD feature text"),
}
EDITED = MAIN | {"first": (None, CUSTOMERS.replace("int", "bigint"))}
NEWER = MAIN | {"third": ("main_2", "ALTER TABLE customers ADD third text")}
HASHES = """
SELECT substr(c.setting, length('perfdata.migrations=') + 1) FROM pg_db_role_setting s
JOIN pg_database d ON d.oid = s.setdatabase CROSS JOIN unnest(s.setconfig) c (setting)
WHERE d.datname = 'saved' AND c.setting LIKE 'perfdata.migrations=%'"""
DATABASES = """
SELECT datname, shobj_description(oid, 'pg_database') FROM pg_database
WHERE datname LIKE 'perfdata%' ORDER BY datname"""


class Done(NamedTuple):
    """How a command ended."""

    returncode: object
    stdout: str
    stderr: str


@dataclass
class Shop:
    """A project's folder; ``said`` is what was reported."""

    settings: Settings
    said: list[str]

    def check_out(self, revisions: dict[str, tuple[str | None, str]]) -> None:
        """Make these the project's migrations; a file that stays the same is not written."""
        versions = self.settings.root / "migrations" / "versions"
        texts = {
            versions / f"{name}.py": REVISION.format(name=name, parent=parent, statement=statement)
            for name, (parent, statement) in revisions.items()
        }
        for path in versions.glob("*.py"):
            if path not in texts:
                path.unlink()
        for path, text in texts.items():
            if not path.exists() or path.read_text() != text:
                path.write_text(text)

    @property
    def maintenance(self) -> str:
        return EmbeddedServer(self.settings).conninfo("postgres")

    def open(self, *, park: bool = True) -> str:
        """Open the embedded database and return its URL; ``said`` has what this reported."""
        self.said.clear()
        return open_target(self.settings, self.report, park=park).conninfo

    def report(self, event: Event) -> None:
        self.said.append(event.text)

    def databases(self) -> dict[str, Kind | None]:
        """Return the kind of each database in the server."""
        found = run(self.maintenance, DATABASES)
        marks = {name: parse_mark(comment) for name, comment in found}
        return {name: mark.kind if mark else None for name, mark in marks.items()}

    def perfdata(self, *arguments: str) -> Done:
        """Run a command in this process, as the console script would."""
        out, err = io.StringIO(), io.StringIO()
        namespace = copy.deepcopy(Collection(dataset, db, snapshot))  # parsing uses up its help
        program = StrictProgram(namespace=namespace)
        with chdir(self.settings.root), redirect_stdout(out), redirect_stderr(err):
            try:
                program.run(["perfdata", *arguments])
                code: object = 0
            except SystemExit as ended:
                code = ended.code
        return Done(code, out.getvalue(), err.getvalue())

    def parked(self) -> list[str]:
        return [name for name, kind in self.databases().items() if kind is Kind.PARKED]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project with two migrations; ``saved`` is its database."""
    folder = tmp_path_factory.mktemp("switch")
    (folder / "pyproject.toml").write_text('[tool.perfdata]\nproject = "switch_perf:project"\n')
    (folder / "switch_perf.py").write_text(PROJECT)
    (folder / "migrations" / "versions").mkdir(parents=True)
    (folder / "migrations" / "env.py").write_text(ENV)
    shop = Shop(Settings.load(folder, {}), [])
    shop.check_out(MAIN)
    shop.open()
    run(shop.maintenance, "ALTER DATABASE perfdata RENAME TO saved")
    yield folder
    discard_server(shop.settings)


@pytest.fixture
def shop(folder: Path) -> Shop:
    """The project, with its database migrated and nothing parked."""
    shop = Shop(Settings.load(folder, {}), [])
    shop.check_out(MAIN)
    for name in shop.databases():
        run(
            shop.maintenance,
            f'ALTER DATABASE "{name}" IS_TEMPLATE false',
            f'DROP DATABASE "{name}" WITH (FORCE)',
        )
    with psycopg.connect(shop.maintenance, autocommit=True) as connection:
        connection.execute("CREATE DATABASE perfdata TEMPLATE saved")
        mark_made(PsycopgLink(connection), "perfdata")
        ((hashes,),) = connection.execute(HASHES).fetchall()
        connection.execute(
            sql.SQL("ALTER DATABASE perfdata SET perfdata.migrations = {}").format(hashes)
        )
    return shop


def columns(url: str) -> list[str]:
    query = """SELECT attname::text FROM pg_attribute
    WHERE attrelid = 'customers'::regclass AND attnum > 0 ORDER BY attnum"""
    return [name for (name,) in run(url, query)]


def test_a_switch_and_back_keeps_every_row(shop: Shop) -> None:
    url = shop.open()
    run(url, "INSERT INTO customers VALUES (7, false, 'mine')")
    shop.check_out(FEATURE)
    shop.open()
    (parked,) = shop.parked()
    assert shop.said[0].startswith(f"parked the database perfdata as {parked} (")
    assert shop.said[0].endswith("it is at migration main_2, which project shop does not have")
    assert shop.said[1] == "creating a new database perfdata"
    assert columns(url) == ["id", "is_test_data", "feature"]
    assert run(make_conninfo(url, dbname=parked), "SELECT * FROM customers") == [(7, False, "mine")]
    run(url, "INSERT INTO customers VALUES (8, false, 'theirs')")
    shop.check_out(MAIN)
    began = time.perf_counter()
    shop.open()
    assert time.perf_counter() - began < 5
    assert shop.said[1] == f"took back {parked} as perfdata"
    assert run(url, "SELECT * FROM customers") == [(7, False, "mine")]
    assert shop.databases()["perfdata"] is Kind.MADE
    shop.check_out(FEATURE)
    shop.open()
    assert run(url, "SELECT * FROM customers") == [(8, False, "theirs")]
    assert shop.parked() == [parked]


def test_newer_migrations_are_run_in_place(shop: Shop) -> None:
    url = shop.open()
    run(url, "INSERT INTO customers VALUES (7, false, 'mine')")
    shop.check_out(NEWER)
    shop.open()
    assert run(url, "SELECT * FROM customers") == [(7, False, "mine", None)]
    assert shop.parked() == []


def test_going_back_and_forth_between_a_branch_and_its_base_keeps_two_databases(
    shop: Shop,
) -> None:
    """The one that is parked at the branch is taken back; the base's is not migrated to it."""
    url = shop.open()
    run(url, "INSERT INTO customers VALUES (7, false, 'mine')")
    shop.check_out(NEWER)
    shop.open()
    for _ in range(2):
        shop.check_out(MAIN)
        shop.open()
        assert run(url, "SELECT * FROM customers") == []
        (parked,) = shop.parked()
        shop.check_out(NEWER)
        dry = shop.perfdata("--dry", "db.migrate")
        reason = f"it lacks migration third, which {parked} has"
        assert f"would switch databases, as {reason}: keeps perfdata as" in dry.stdout
        shop.open()
        assert shop.said[0].endswith(reason)
        assert shop.said[1] == f"took back {parked} as perfdata"
        assert run(url, "SELECT * FROM customers") == [(7, False, "mine", None)]
    assert len(shop.parked()) == 1


def test_a_migration_that_was_edited_after_it_ran_gives_a_new_database(shop: Shop) -> None:
    url = shop.open()
    shop.check_out(EDITED)
    with pytest.raises(MigrationError, match="migration first was edited after it ran") as caught:
        shop.open(park=False)
    assert caught.value.remedy.startswith("perfdata db.migrate keeps perfdata as perfdata_at_")
    assert caught.value.remedy.endswith(" and creates a new one")
    shop.open()
    assert "migration first was edited after it ran" in shop.said[0]
    assert run(url, "SELECT atttypid::regtype::text FROM pg_attribute WHERE attname = 'id'"
               " AND attrelid = 'customers'::regclass") == [("bigint",)]  # fmt: skip
    shop.check_out(MAIN)
    shop.open()
    assert shop.said[1].startswith("took back perfdata_at_")


def test_a_file_that_migrations_read_counts_as_theirs(shop: Shop) -> None:
    """Once all of them have run: before, it may be that of the one that failed."""
    file = shop.settings.root / "migrations" / "data.sql"
    try:
        file.write_text("SELECT 1")
        shop.check_out(NEWER | {"third": ("main_2", "nonsense")})
        with pytest.raises(MigrationError, match="nonsense"):
            shop.open()
        file.write_text("SELECT 2")
        shop.check_out(MAIN)
        shop.open()
        assert shop.parked() == []
        file.write_text("SELECT 3")
        shop.open()
        assert "file data.sql, which migrations may read, was edited after they ran" in shop.said[0]
    finally:
        file.unlink()


def test_a_database_that_another_tool_migrated_is_parked(shop: Shop) -> None:
    url = shop.open()
    hashes = """ALTER DATABASE perfdata SET perfdata.migrations = '{"0001.sql": "ab"}'"""
    run(url, "DROP TABLE alembic_version", hashes)
    shop.open()
    assert "another tool than that of project shop migrated it" in shop.said[0]
    assert columns(url)[-1] == "main"


def test_one_that_failed_may_be_edited(shop: Shop) -> None:
    """It never ran: nothing is parked."""
    url = shop.open()
    run(url, "INSERT INTO customers VALUES (7, false, 'mine')")
    shop.check_out(NEWER | {"third": ("main_2", "ALTER TABLE customers ADD third nonsense")})
    with pytest.raises(MigrationError, match="nonsense"):
        shop.open()
    shop.check_out(NEWER)
    shop.open()
    assert columns(url)[-1] == "third"
    assert run(url, "SELECT id FROM customers") == [(7,)]


def test_a_database_without_recorded_hashes_is_taken_as_it_is(shop: Shop) -> None:
    """As one that an earlier version made, or that somebody migrated by hand."""
    url = shop.open()
    run(url, "ALTER DATABASE perfdata RESET perfdata.migrations")
    shop.check_out(EDITED)
    shop.open()
    assert shop.parked() == []
    shop.check_out(MAIN)
    shop.open()
    assert len(shop.parked()) == 1


def test_a_fresh_restore_keeps_the_recorded_hashes(shop: Shop) -> None:
    shop.open()
    for _ in range(2):
        done = shop.perfdata("snapshot.restore", "--name", "some", "--fresh")
        assert done.returncode == 0, done.stderr
    shop.check_out(EDITED)
    shop.open()
    assert "migration first was edited after it ran" in shop.said[0]


def test_open_sessions_are_named(shop: Shop) -> None:
    url = shop.open()
    shop.check_out(FEATURE)
    with psycopg.connect(url, application_name="my editor"):
        began = time.perf_counter()
        with pytest.raises(RefusedError, match=r"perfdata has: pid \d+ \(my editor, user perfdata"):
            shop.open()
        assert time.perf_counter() - began < 5
    assert shop.parked() == []
    shop.open()
    (parked,) = shop.parked()
    shop.check_out(MAIN)
    with (
        psycopg.connect(make_conninfo(url, dbname=parked), application_name="my editor"),
        pytest.raises(RefusedError, match=rf"{parked} has: pid \d+ \(my editor"),
    ):
        shop.open()
    assert columns(url)[-1] == "feature"


def test_a_protected_database_stays(shop: Shop) -> None:
    url = shop.open()
    run(url, "ALTER DATABASE perfdata SET perfdata.restore = 'never'")
    shop.check_out(FEATURE)
    with pytest.raises(GuardError, match=r"perfdata\.restore is set"):
        shop.open()
    with pytest.raises(GuardError, match=r"perfdata\.restore is set"):
        reset_target(shop.settings)
    assert shop.parked() == []


KILLED = """
import os, sys
from pathlib import Path

import perfdata.target.switch
import perfdata.target.target
from perfdata import Settings, open_target
from perfdata.templates import parking

where, root = sys.argv[1:]
renamed = parking._rename
count = 0


def rename(*arguments):
    global count
    renamed(*arguments)
    count += 1
    if where == "inside":
        os._exit(9)


def create(server):
    if where == "after" and count:
        os._exit(9)


def mark(link, name):
    os._exit(9)


parking._rename = rename
if where == "created":
    perfdata.target.target.mark_made = mark
made = perfdata.target.target._create_database
perfdata.target.target._create_database = lambda server: (create(server), made(server))
open_target(Settings.load(Path(root), {}))
"""


@pytest.mark.parametrize("where", ["inside", "after", "created"])
def test_a_process_that_is_killed_leaves_either_state(shop: Shop, where: str) -> None:
    url = shop.open()
    run(url, "INSERT INTO customers VALUES (7, false, 'mine')")
    shop.check_out(FEATURE)
    arguments = [sys.executable, "-c", KILLED, where, str(shop.settings.root)]
    done = subprocess.run(arguments, env=environment(), check=False)
    assert done.returncode == 9
    assert shop.databases().get("perfdata", "none") == {
        "inside": Kind.MADE, "after": "none", "created": None
    }[where]  # fmt: skip
    shop.open()
    (parked,) = shop.parked()
    assert columns(url)[-1] == "feature"
    assert run(make_conninfo(url, dbname=parked), "SELECT id FROM customers") == [(7,)]
    assert shop.databases()["perfdata"] is Kind.MADE


def test_two_commands_at_once_switch_once(shop: Shop) -> None:
    url = shop.open()
    shop.check_out(FEATURE)
    threads = [threading.Thread(target=open_target, args=(shop.settings,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(shop.parked()) == 1
    assert columns(url)[-1] == "feature"


def test_tasks_that_only_read_refuse_and_those_that_try_say_what_would_happen(shop: Shop) -> None:
    root = shop.settings.root
    shop.open()
    (root / ".perfdata" / "snapshots").mkdir(exist_ok=True)
    restore = ("snapshot.restore", "--name", "some")
    assert shop.perfdata(*restore).returncode == 0
    shop.check_out(FEATURE)
    for task in (["snapshot.create", "--name", "x"], ["snapshot.diff", "--name", "some"]):
        done = shop.perfdata(*task)
        assert done.returncode == 2
        assert "can't be migrated in place: it is at migration main_2" in done.stderr
        assert "perfdata db.migrate keeps perfdata as perfdata_at_" in done.stderr
    for command in (restore, ("dataset.build", "--name", "some"), ("db.migrate",)):
        done = shop.perfdata("--dry", *command)
        assert "would" in done.stdout
        assert "switch databases, as it is at migration main_2" in done.stdout
    assert shop.perfdata("db.url").returncode == 0
    assert shop.parked() == []
    done = shop.perfdata(*restore)
    assert done.returncode == 0, done.stderr
    assert "parked the database perfdata as perfdata_at_" in done.stderr
    assert len(shop.parked()) == 1


def test_a_database_given_by_url_is_never_parked(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.open()
    server = EmbeddedServer(shop.settings)
    shop.check_out(FEATURE)
    given = replace(shop.settings, database_url=server.status().socket_url())
    open_target(given)
    monkeypatch.setenv("PERFDATA_DATABASE_URL", server.status().socket_url())
    done = shop.perfdata("db.migrate")
    assert done.returncode == 2
    done = shop.perfdata("db.reset")
    assert "db.reset is for the embedded server" in done.stderr
    assert shop.databases() == {"perfdata": Kind.MADE}


def test_reset_makes_a_new_database_and_loses_no_row(shop: Shop) -> None:
    url = shop.open()
    run(url, "INSERT INTO customers VALUES (7, false, 'mine')")
    dry = shop.perfdata("--dry", "db.reset")
    assert "would make a new database: keeps perfdata as perfdata_at_" in dry.stdout
    for _ in range(2):
        done = shop.perfdata("db.reset")
        assert done.returncode == 0, done.stderr
        assert "perfdata on the embedded server is new" in done.stdout
    first, second = shop.parked()
    assert second == f"{first}_2"
    assert dry.stdout.split(" as ")[1].startswith(f"{first} ")
    assert columns(url)[-1] == "main"
    assert run(url, "SELECT id FROM customers") == []
    assert run(make_conninfo(url, dbname=first), "SELECT id FROM customers") == [(7,)]


def test_what_reset_parked_is_not_taken_back(shop: Shop) -> None:
    url = shop.open()
    run(url, "INSERT INTO customers VALUES (7, false, 'mine')")
    reset_target(shop.settings)
    shop.check_out(NEWER)
    shop.open()
    shop.check_out(MAIN)
    shop.open()
    assert shop.said[1] == "creating a new database perfdata"
    assert run(url, "SELECT * FROM customers") == []


def test_reset_takes_no_parked_database_back(shop: Shop) -> None:
    url = shop.open()
    shop.check_out(FEATURE)
    shop.open()
    run(url, "INSERT INTO customers VALUES (8, false, 'theirs')")
    shop.check_out(MAIN)
    shop.open()
    shop.check_out(FEATURE)
    reset_target(shop.settings)
    assert run(url, "SELECT * FROM customers") == []


def test_what_is_parked_is_listed_measured_and_removed_only_on_request(shop: Shop) -> None:
    shop.open()
    shop.check_out(FEATURE)
    shop.open()
    (parked,) = shop.parked()
    status = shop.perfdata("db.status", "--json")
    usage = json.loads(status.stdout)["databases"]
    assert usage["parked"]["count"] == 1
    assert usage["parked"]["size_bytes"] > 5_000_000
    assert usage["replaced"] == usage["templates"] == {"count": 0, "size_bytes": 0}
    shown = shop.perfdata("db.status")
    assert "parked     1, " in shown.stdout
    done = collect_garbage(shop.settings)
    assert [(removed.name, removed.reason) for removed in done.removed] == [
        (parked, "a parked database of perfdata")
    ]
    assert shop.parked() == []


def test_a_parked_database_with_rows_of_somebody_is_removed_only_on_request(shop: Shop) -> None:
    """Flagged rows are test data, whoever wrote them."""
    url = shop.open()
    shop.perfdata("snapshot.restore", "--name", "some")
    shop.check_out(FEATURE)
    shop.open()
    (parked,) = shop.parked()
    dry = collect_garbage(shop.settings, dry=True)
    assert [removed.name for removed in dry.removed] == [parked]
    run(make_conninfo(url, dbname=parked), "UPDATE customers SET is_test_data = false WHERE id = 1")
    kept = collect_garbage(shop.settings)
    assert kept.removed == ()
    line = f"{parked}: has rows that neither perfdata nor a migration wrote: public.customers"
    assert f"{line}; db.gc --lost-rows removes it" in kept.left
    done = collect_garbage(shop.settings, lost_rows=True)
    assert [removed.name for removed in done.removed] == [parked]
    assert shop.parked() == []


def test_a_parked_database_that_can_not_be_read_is_kept_and_the_rest_collected(
    shop: Shop,
) -> None:
    shop.open()
    shop.check_out(FEATURE)
    shop.open()
    (unreadable,) = shop.parked()
    shop.check_out(NEWER)
    shop.open()
    run(shop.maintenance, f'ALTER DATABASE "{unreadable}" ALLOW_CONNECTIONS false')
    done = collect_garbage(shop.settings)
    assert len(done.removed) == 1
    assert shop.parked() == [unreadable]
    (line,) = [one for one in done.left if one.startswith(unreadable)]
    assert ": has rows that can't be read: " in line
    assert line.endswith("; db.gc --lost-rows removes it")
    collect_garbage(shop.settings, lost_rows=True)
    assert shop.parked() == []


def test_a_restore_from_python_works_in_a_database_that_was_taken_back(shop: Shop) -> None:
    """Its mark is that of an owned database again."""
    shop.open()
    done = shop.perfdata("snapshot.restore", "--name", "some")
    assert done.returncode == 0, done.stderr
    shop.check_out(FEATURE)
    shop.open()
    shop.check_out(MAIN)
    url = shop.open()
    restored = restore_snapshot(url, "some", fresh=True, settings=shop.settings)
    assert sum(restored.rows.values()) == 2

"""Every task as a user types it: whole processes, on an embedded server of this module's own."""

from __future__ import annotations

import gzip
import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import create_engine

from tests.homes import free_port
from tests.integration.inner import entry
from tests.processes import run_script

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
BIN = Path(sys.executable).parent
# 10_offices: 51 staff, 10 offices, 50 links, 100 recipients, 100 links, 100 cycles.
SMALL, SMALL_ROWS = "10_offices", 411


@dataclass(frozen=True)
class Shell:
    """A command line in the checkout, with a PERFDATA_HOME of its own."""

    home: Path

    def run(self, *command: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run a command and return how it ended."""
        return run_script(ROOT, *command, **{"PERFDATA_HOME": str(self.home), **environ})

    def invoke(self, *arguments: str, **environ: str) -> str:
        """Run a task that must succeed, and return what it printed."""
        done = self.run("invoke", *arguments, **environ)
        assert done.returncode == 0, done.stderr
        assert "\x1b" not in done.stdout + done.stderr
        return done.stdout

    def fails(self, code: int, *arguments: str, **environ: str) -> str:
        """Run a task that must end with a code, and return its one line on stderr."""
        done = self.run("invoke", *arguments, **environ)
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        return done.stderr.splitlines()[-1]

    def json(self, *arguments: str) -> Any:
        """Run a task with --json and return what it printed."""
        return json.loads(self.invoke(*arguments, "--json"))

    def files(self) -> set[str]:
        """Name the snapshots' files."""
        return {path.name for path in (self.home / "snapshots").glob("*")}


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    shell = Shell(tmp_path_factory.mktemp("home"))
    yield shell
    shell.run("invoke", "db.stop")


@pytest.fixture(scope="module")
def url(shell: Shell) -> str:
    """Return the URL of the running server's database, with a dataset in it and its snapshot."""
    shell.invoke("snapshot.restore", "--name", SMALL)
    return shell.invoke("db.url").strip()


@pytest.fixture
def count(url: str) -> Iterator[Any]:
    """Return a function that counts a table's rows."""
    with psycopg.connect(url, autocommit=True) as connection:

        def rows(table: str) -> int:
            found = connection.execute(f'SELECT count(*) FROM "{table}"').fetchone()
            assert found is not None
            return int(found[0])

        yield rows


def test_a_restore_with_nothing_there_starts_migrates_builds_and_saves(tmp_path: Path) -> None:
    fresh = Shell(tmp_path / "with blank")
    try:
        built = fresh.run("invoke", "snapshot.restore", "--name", SMALL)
        assert built.returncode == 0, built.stderr
        assert re.fullmatch(
            rf"{SMALL}: no snapshot yet; built {SMALL_ROWS} rows in .* s and saved .*"
            rf"{SMALL}\.json\.zst \(.*B\), into perfdata on the embedded server",
            built.stdout.splitlines()[0],
        )
        again = fresh.invoke("snapshot.restore", "--name", SMALL)
        assert re.match(
            rf"restored {SMALL}: {SMALL_ROWS} rows in [\d.]+ s \(whole tables\) "
            "into perfdata on the embedded server",
            again,
        )
    finally:
        assert fresh.invoke("db.stop") == "stopped\n"


@pytest.mark.usefixtures("url")
def test_dataset_list_says_which_have_a_snapshot(shell: Shell) -> None:
    listed = {one["name"]: one["snapshot"] for one in shell.json("dataset.list")}
    assert listed[SMALL] is True
    assert listed["1000_offices"] is False
    assert re.search(rf"^{SMALL} +\S+ +yes ", shell.invoke("dataset.list"), re.MULTILINE)


@pytest.mark.usefixtures("url")
def test_dataset_describe_shows_what_is_generated(shell: Shell) -> None:
    said = shell.invoke("dataset.describe", "--name", SMALL)
    assert re.search(r"^rows +411$", said, re.MULTILINE)
    assert re.search(rf"^snapshot +\S+ kB, .*{SMALL}\.json\.zst$", said, re.MULTILINE)
    assert re.search(r"^offices +10  id +10 +0 %$", said, re.MULTILINE)
    described = shell.json("dataset.describe", "--name", SMALL)
    assert sum(table["rows"] for table in described["tables"]) == described["rows"] == SMALL_ROWS
    assert described["snapshot_state"] == "current"
    assert "did you mean 10_offices?" in shell.fails(2, "dataset.describe", "--name", "10_office")


@pytest.mark.usefixtures("url")
def test_dataset_draft_prints_or_writes_a_module(shell: Shell, tmp_path: Path) -> None:
    printed = shell.invoke("dataset.draft", "--tables", "offices")
    assert '"""Return the rows of 2 tables."""' in printed
    path = tmp_path / "drafted.py"
    arguments = ("dataset.draft", "--tables", "staffs, offices", "--output", str(path))
    assert shell.invoke("--dry", *arguments) == f"would write {path}: 2 tables\n"
    assert shell.invoke(*arguments) == f"wrote {path}: 2 tables\n"
    assert path.read_text(encoding="utf-8") == printed
    assert f"{path} exists already" in shell.fails(2, *arguments)
    assert "did you mean offices?" in shell.fails(2, "dataset.draft", "--tables", "office")
    unreachable = ("dataset.draft", "--like", "postgresql://a:s3cret@127.0.0.1:1/x")
    assert "can't connect to a@127.0.0.1:1/x" in (said := shell.fails(2, *unreachable))
    assert "s3cret" not in said


def test_dataset_build_loads_and_saves_or_not(shell: Shell, count: Any) -> None:
    before = shell.files()
    built = shell.invoke("dataset.build", "--name", "500_offices", "--no-snapshot")
    assert built.startswith("500_offices: built ")
    assert "saved" not in built
    assert count("offices") == 500
    assert shell.files() == before
    assert " and saved " in shell.invoke("dataset.build", "--name", SMALL)
    assert count("offices") == 10


def test_a_dry_build_or_restore_tells_and_does_nothing(shell: Shell, count: Any) -> None:
    before = shell.files(), count("offices")
    for arguments in (
        ("dataset.build", "--name", "100_offices"),
        ("snapshot.restore", "--name", "100_offices"),
        ("snapshot.restore", "--name", SMALL),
    ):
        told = shell.invoke("--dry", *arguments)
        assert arguments[2] in told
        assert "perfdata on the embedded server" in told
        if arguments[2] == SMALL:
            assert "all checks that precede the first change passed" in told
            assert re.search(r"^offices +10 +0 +10$", told, re.MULTILINE)
        else:
            assert "would first remove the rows with is_test_data = true" in told
    assert (shell.files(), count("offices")) == before


def test_dry_names_a_database_by_url_without_its_password(tmp_path: Path) -> None:
    """And says that nothing is at that address: the guard is asked."""
    done = Shell(tmp_path / "home").run(
        "invoke", "--dry", "snapshot.restore", "--name", SMALL,
        PERFDATA_DATABASE_URL="postgresql+asyncpg://ann:s%40cret@db.invalid:5499/shop",
    )  # fmt: skip
    assert done.returncode == 2
    assert "would fail: can't connect to ann@db.invalid:5499/shop" in done.stdout
    assert "cret" not in done.stdout + done.stderr
    assert not (tmp_path / "home").exists()


@pytest.mark.usefixtures("url")
def test_create_info_list_exists_verify_delete(shell: Shell) -> None:
    create = ("snapshot.create", "--name", "mine", "--description", "two 佐藤")
    assert "would save the flagged rows" in shell.invoke("--dry", *create)
    assert "mine.json.zst" not in shell.files()
    assert f"created mine: {SMALL_ROWS} rows from perfdata on" in shell.invoke(*create)
    assert "--replace" in shell.fails(2, *create)
    dry = shell.run("invoke", "--dry", *create)
    assert dry.returncode == 2
    assert "would fail: there is a snapshot named 'mine'" in dry.stdout
    shell.invoke(*create, "--replace")

    info = shell.json("snapshot.info", "--name", "mine")
    assert info["stats"]["offices"] == 10
    assert info["description"] == "two 佐藤"
    assert "two 佐藤" in shell.invoke("snapshot.info", "--name", "mine")
    assert "mine" in [one["name"] for one in shell.json("snapshot.list")]
    assert re.search(
        rf"^mine +{SMALL_ROWS} .*two 佐藤$", shell.invoke("snapshot.list"), re.MULTILINE
    )
    assert shell.invoke("snapshot.exists", "--name", "mine") == "yes\n"
    assert shell.invoke("snapshot.verify", "--name", "mine").startswith("good: mine: ")

    assert "would delete" in shell.invoke("--dry", "snapshot.delete", "--name", "mine")
    assert "mine.json.zst" in shell.files()
    assert "deleted" in shell.invoke("snapshot.delete", "--name", "mine")
    gone = shell.run("invoke", "snapshot.exists", "--name", "mine")
    assert (gone.returncode, gone.stdout, gone.stderr) == (1, "no\n", "")


@pytest.mark.usefixtures("url")
def test_import_makes_a_snapshot_of_plain_json(shell: Shell, tmp_path: Path, count: Any) -> None:
    before, files = count("offices"), shell.files()
    document = {
        "name": "old",
        "created_at": "2025-06-01 09:00:00",
        "stats": {"staffs": 0},
        "tables": {"staffs": []},
    }
    path = tmp_path / "old.json.gz"
    path.write_bytes(gzip.compress(json.dumps(document).encode()))
    arguments = ("snapshot.import", "--file", str(path))
    assert shell.invoke("--dry", *arguments).splitlines() == [
        "would import 0 rows of 1 tables as old",
        "in a scratch database on the server of perfdata on the embedded server",
    ]
    assert shell.files() == files
    made = shell.json(*arguments, "--description", "of the old tool")
    assert (made["name"], made["rows"], made["notes"]) == ("old", 0, [])
    assert made["description"] == "of the old tool"
    said = "there is a snapshot named 'old' already. Replace it with --replace"
    assert said in shell.fails(2, *arguments)
    assert f"would fail: {said}" in shell.run("invoke", "--dry", *arguments).stdout
    again = shell.invoke(*arguments, "--replace")
    assert again.startswith(f"imported old: 0 rows from {path} (created 2025-06-01 09:00:00), ")
    path.write_bytes(path.read_bytes()[:-20])
    assert "can't be imported: " in shell.fails(2, *arguments, "--name", "other")
    assert count("offices") == before
    assert shell.files() == {*files, "old.json.zst"}
    shell.invoke("snapshot.delete", "--name", "old")


def test_a_snapshot_under_a_datasets_name_is_noted(tmp_path: Path, url: str) -> None:
    """It is taken for the dataset's, and never built over unless that is asked for."""
    create = ("snapshot.create", "--name", SMALL)
    with_url = {"PERFDATA_DATABASE_URL": url, "PERFDATA_ALLOW": entry(url, "*")}
    own = Shell(tmp_path)
    noted = f"{SMALL} is also a dataset's name: snapshot.restore will use this snapshot instead of"
    assert noted in own.invoke("--dry", *create, **with_url)
    assert noted in own.invoke(*create, **with_url)
    assert "is also a dataset's name" not in own.invoke(*create[:2], "mine", **with_url)
    dry = own.run("invoke", "--dry", "dataset.build", "--name", SMALL, **with_url)
    assert dry.returncode == 2
    assert f"would fail: snapshot {SMALL} was created by hand" in dry.stdout
    refused = own.fails(2, "dataset.build", "--name", SMALL, **with_url)
    assert "created by hand" in refused
    assert "--replace" in refused


@pytest.mark.usefixtures("url")
def test_a_damaged_file_is_told_by_verify_with_exit_1(shell: Shell) -> None:
    shell.invoke("snapshot.create", "--name", "hurt")
    hurt = shell.home / "snapshots" / "hurt.json.zst"
    data = bytearray(hurt.read_bytes())
    data[len(data) // 2] ^= 0xFF
    hurt.write_bytes(data)
    assert shell.fails(1, "snapshot.verify", "--name", "hurt").startswith(
        "hurt.json.zst is damaged: "
    )
    answer = shell.run("invoke", "snapshot.verify", "--name", "hurt", "--json")
    assert json.loads(answer.stdout)["good"] is False
    shell.invoke("snapshot.delete", "--name", "hurt")


def test_verify_and_diff_compare_with_the_database(shell: Shell, url: str) -> None:
    shell.invoke("snapshot.create", "--name", "then", "--replace")
    verify, diff = ("snapshot.verify", "--name", "then"), ("snapshot.diff", "--name", "then")
    assert "the same as the database" in shell.invoke(*verify, "--database")
    assert shell.invoke(*diff) == "same: then and the database\n"
    with psycopg.connect(url) as connection:
        connection.execute("UPDATE offices SET name = 'the \x1bnew one' WHERE name IN"
                           " (SELECT name FROM offices ORDER BY name LIMIT 1)")  # fmt: skip
    shell.invoke(*verify)
    assert shell.fails(1, *verify, "--database").startswith("then and the database differ: offices")
    answer = shell.run("invoke", *verify, "--database", "--json")
    assert list(json.loads(answer.stdout)["differs"]) == ["offices"]
    told = shell.run("invoke", *diff)
    assert (told.returncode, told.stderr) == (1, "")
    assert re.search(r"^offices +10 to 10 +0 +0 +1 +same$", told.stdout, re.MULTILINE)
    assert re.search(r"^~ offices id=\S+ name: .* to the  ?new one$", told.stdout, re.MULTILINE)
    shell.invoke("snapshot.create", "--name", "now", "--replace")
    other = shell.run("invoke", *diff, "--other", "now", "--limit", "0", "--json")
    assert other.returncode == 1
    assert json.loads(other.stdout)["tables"][0]["changed"] == 1
    assert json.loads(other.stdout)["tables"][0]["samples"] == {}
    assert "--limit takes a whole number" in shell.fails(2, *diff, "--limit", "few")
    shell.invoke("snapshot.restore", "--name", "then")
    assert shell.json(*diff)["same"] is True
    for name in ("then", "now"):
        shell.invoke("snapshot.delete", "--name", name)


@pytest.mark.usefixtures("url")
@pytest.mark.parametrize("name", ["info", "delete", "diff", "verify", "restore"])
def test_a_near_miss_is_suggested(shell: Shell, name: str) -> None:
    assert f"did you mean {SMALL}?" in shell.fails(2, f"snapshot.{name}", "--name", "10_office")


def test_what_is_missing_is_refused_where_it_may_not_be_built(shell: Shell, count: Any) -> None:
    before = count("offices")
    for option in ("--no-build", "--keep-existing"):
        restore = ("snapshot.restore", "--name", "100_offices", option)
        assert "100_offices" in shell.fails(2, *restore)
        assert "100_offices" in shell.fails(2, "--dry", *restore)
    assert "100_offices.json.zst" not in shell.files()
    assert count("offices") == before


def test_the_key_is_one_word_and_the_same_each_time(shell: Shell) -> None:
    key = shell.invoke("snapshot.key", "--name", SMALL)
    assert re.fullmatch(r"perfdata-pg18-[0-9a-f]{64}-f1\n", key)
    assert shell.invoke("snapshot.key", "--name", SMALL) == key
    assert shell.invoke("snapshot.key", "--name", "100_offices") != key


def test_the_url_of_each_driver_names_the_same_database(shell: Shell, url: str) -> None:
    assert url.startswith("postgresql://")
    for driver in ("asyncpg", "psycopg", "psycopg2"):
        shown = shell.invoke("db.url", "--driver", driver).strip()
        assert shown == url.replace("postgresql://", f"postgresql+{driver}://")
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT current_database()").scalar() == "perfdata"
    engine.dispose()
    assert "did you mean psycopg?" in shell.fails(2, "db.url", "--driver", "psycop")


def test_migrate_names_where_the_database_stands(shell: Shell, url: str) -> None:
    with psycopg.connect(url) as connection:
        heads = {row[0] for row in connection.execute("SELECT version_num FROM alembic_version")}
    migrated = shell.invoke("db.migrate")
    assert all(head in migrated for head in heads)
    assert "would run nothing" in shell.invoke("--dry", "db.migrate")
    with psycopg.connect(url) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '0001_tables'")
    told = shell.invoke("--dry", "db.migrate")
    with psycopg.connect(url) as connection:
        connection.execute("UPDATE alembic_version SET version_num = %s", (*heads,))
    newer = "0002_test_data_flag, 0003_performance_indexes"
    assert told == f"would migrate perfdata on the embedded server: {newer}\n"


def test_a_database_by_url_is_reached_told_and_guarded(shell: Shell, url: str) -> None:
    """The embedded server itself, by URL: what is known by its own identifier may be restored."""
    facts = json.loads(shell.invoke("db.status", "--json", PERFDATA_DATABASE_URL=url))
    assert facts["running"] is True
    assert facts["version"].startswith("18")
    assert "is for the embedded server" in shell.fails(2, "db.stop", PERFDATA_DATABASE_URL=url)
    nowhere = "postgresql://ann:s3cret@127.0.0.1:1/shop"
    unreached = shell.fails(2, "db.status", PERFDATA_DATABASE_URL=nowhere)
    assert "ann@127.0.0.1:1/shop" in unreached
    assert "s3cret" not in unreached


def test_the_status_of_a_database_by_url_has_its_line_for_the_list(
    url: str, tmp_path: Path
) -> None:
    """And an old entry with its new form; of one that is listed there is no refusal."""
    other = Shell(tmp_path)
    status, there = ("db.status", "--json"), {"PERFDATA_DATABASE_URL": url}
    facts = json.loads(other.invoke(*status, **there, PERFDATA_ALLOW="local/perfdata"))
    assert facts["allow_entry"] == entry(url)
    assert f"'local/perfdata' no longer matches: write '{entry(url)}'" in facts["refusal"]
    assert f"PERFDATA_ALLOW={entry(url)}" in other.invoke("db.status", **there)
    listed = f"{entry(url)}@{facts['identifier']}"
    assert json.loads(other.invoke(*status, **there, PERFDATA_ALLOW=listed))["refusal"] is None


def test_the_server_is_stopped_started_and_told_of(shell: Shell, url: str) -> None:
    assert "would stop" in shell.invoke("--dry", "db.stop")
    with psycopg.connect(url):
        pass
    status = shell.json("db.status")
    assert status["running"] is True
    assert status["socket_url"] == status["url"]
    assert "socket_url" not in shell.invoke("db.status")
    assert shell.invoke("db.stop") == "stopped\n"
    assert shell.json("db.status")["running"] is False
    assert "not running" in shell.invoke("db.stop")
    port = free_port()
    started = shell.invoke("db.start", "--port", str(port))
    assert f"@127.0.0.1:{port}/perfdata" in started
    over_port = shell.invoke("db.url").strip()
    assert conninfo_to_dict(over_port)["port"] == str(port)
    assert str(conninfo_to_dict(over_port)["password"]) not in started
    over_socket = shell.json("db.status")["socket_url"]
    assert over_socket in shell.invoke("db.status")
    assert conninfo_to_dict(over_socket)["port"] == str(port)  # it is in the socket's name too
    assert "socket's name" in shell.invoke("--help", "db.start")
    for other in (over_port, over_socket):
        with psycopg.connect(other):
            pass


@pytest.mark.usefixtures("url")
def test_gc_removes_the_temporary_files_of_killed_processes(shell: Shell) -> None:
    code = (
        "import os, sys; from pathlib import Path\n"
        "from perfdata.temporary import temporary_beside\n"
        "files = [temporary_beside(Path(path)) for path in sys.argv[1:]]\n"
        "for file in files: file.__enter__()\n"
        "os._exit(9)"
    )
    status = shell.json("db.status")
    places = [
        shell.home / "snapshots" / "a.json.zst",
        shell.home / "perf.json",
        shell.home / "server" / "state.json",
        Path(status["data"]).parent / "postgresql.conf",
    ]
    subprocess.run([sys.executable, "-c", code, *places], check=False)

    def left() -> list[Path]:
        return [one for place in places for one in place.parent.glob(f".{place.name}.*.tmp")]

    names = set(map(str, left()))
    assert len(names) == len(places)
    assert names < set(shell.invoke("--dry", "db.gc").split())
    assert set(map(str, left())) == names
    removed = {one["name"]: one["reason"] for one in shell.json("db.gc")["removed"]}
    assert {name for name, why in removed.items() if "temporary file" in why} == names
    assert left() == []


@pytest.mark.usefixtures("url")
def test_the_console_script_gives_the_same_tasks(shell: Shell) -> None:
    listed = shell.run("perfdata", "snapshot.list", "--json")
    assert SMALL in [one["name"] for one in json.loads(listed.stdout)]

"""A project's history is read once, by whichever process, until one of its files changes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from perfdata import Project, Settings
from perfdata.migrations import answers
from perfdata.migrations.history import History, read_history, tables_digest
from tests.processes import environment, run_script

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow

# Importing it leaves a line in a file, as it is the child process that does.
REVISION = """
revision = {revision!r}
down_revision = {parent!r}
with open({log!r}, "a") as log:
    log.write("x")
"""
INI = "[alembic]\nscript_location = %(here)s/migrations\n"


class Shop:
    """A project with two revisions; ``read`` asks as a process that has just begun."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.versions = folder / "migrations" / "versions"
        self.log = folder / "log"
        self.versions.mkdir(parents=True)
        self.log.touch()
        (folder / "alembic.ini").write_text(INI)
        (folder / "migrations" / "env.py").write_text("")
        self.write("first", None)
        self.write("second", "first")
        settings = Settings(root=folder, home=folder / ".perfdata")
        self.project = Project(name="shop", migrations=folder / "alembic.ini", settings=settings)

    def write(self, revision: str, parent: str | None) -> Path:
        path = self.versions / f"{revision}.py"
        text = REVISION.format(revision=revision, parent=parent, log=str(self.log))
        path.write_text(text)
        return path

    def read(self) -> History:
        answers._kept.clear()
        return read_history(self.project)

    def reads(self) -> int:
        """Return how many revisions were imported since the last call."""
        count = len(self.log.read_text())
        self.log.write_text("")
        return count

    def kept(self) -> Path:
        (path,) = (self.folder / ".perfdata" / "answers").iterdir()
        return path


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    shop = Shop(tmp_path)
    assert shop.read().heads == ("second",)
    assert shop.reads() == 2
    return shop


def test_a_history_is_not_read_again_while_nothing_changed(shop: Shop) -> None:
    """Nor where files were touched, or are those of a fresh checkout: their content counts."""
    first = shop.read()
    for path in shop.versions.iterdir():
        path.touch()
    assert shop.read() == first
    assert shop.reads() == 0
    assert shop.kept().stat().st_mode & 0o777 == 0o600


def test_an_edit_that_keeps_size_and_time_is_noticed(shop: Shop) -> None:
    """By other processes, and by the one that read it before."""
    before = shop.read().migrations[0]
    path = shop.versions / "first.py"
    stat = path.stat()
    text = path.read_text()
    path.write_text(text.replace("as log", "as LOG").replace("log.write", "LOG.write"))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert path.stat().st_size == stat.st_size
    assert read_history(shop.project).migrations[0] != before
    assert shop.read().migrations[0] != before


def test_a_change_of_any_file_is_noticed(shop: Shop) -> None:
    for name in ("alembic.ini", "migrations/env.py", "migrations/sql/seed.sql"):
        path = shop.folder / name
        path.parent.mkdir(exist_ok=True)
        with path.open("a") as file:
            file.write("# changed\n")
        shop.read()
        assert shop.reads() == 2, name
    shop.read()
    assert shop.reads() == 0


def test_revisions_that_come_and_go_with_a_branch_are_noticed(shop: Shop) -> None:
    path = shop.write("third", "second")
    assert shop.read().heads == ("third",)
    path.unlink()
    assert shop.read().heads == ("second",)
    (shop.versions / "second.py").rename(shop.versions / "renamed.py")
    assert shop.read().paths["second"].endswith("renamed.py")


FOUND = """
from pathlib import Path
from alembic import context
root = Path(__file__).parents[1]
names = [*(root / "names.txt").read_text().split(), *root.glob("apps/*/versions")]
context.config.set_main_option("version_locations", " ".join(str(root / name) for name in names))
"""


def test_folders_that_env_py_finds_while_it_runs_are_noticed(shop: Shop) -> None:
    """By what it lists, and by what it reads."""
    (shop.folder / "apps" / "billing").mkdir(parents=True)
    names = shop.folder / "names.txt"
    names.write_text("migrations/versions")
    (shop.folder / "migrations" / "env.py").write_text(FOUND)
    assert shop.read().heads == ("second",)
    shop.reads()
    assert shop.read().heads == ("second",)
    assert shop.reads() == 0
    others = [shop.folder / name for name in ("apps/billing/versions", "apps/new/versions", "more")]
    for folder in others:
        folder.mkdir(parents=True)
        (folder / "x.py").write_text(f"revision = {folder.parent.name!r}\ndown_revision = None\n")
    assert shop.read().heads == ("billing", "new", "second")
    names.write_text("migrations/versions more")
    assert len(read_history(shop.project).heads) == 4
    assert len(shop.read().heads) == 4


def test_a_revision_whose_parent_is_computed_is_read_in_every_process(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = shop.write("third", "second")
    computed = "down_revision = __import__('os').environ.get('PARENT', 'second')"
    path.write_text(path.read_text().replace("down_revision = 'second'", computed))
    assert shop.read().parents["third"] == ["second"]
    monkeypatch.setenv("PARENT", "first")
    assert shop.read().parents["third"] == ["first"]


def test_a_damaged_answer_is_read_and_written_again(shop: Shop) -> None:
    whole = shop.kept().read_text()
    edited = whole.replace('"heads": ["second"]', '"heads": ["other"]')
    assert edited != whole
    for text in (whole[:-9], "[]", '{"sha256": "0", "kept": {"answer": {}}}', edited):
        shop.kept().write_text(text)
        assert shop.read().heads == ("second",), text
        assert shop.reads() == 2
        kept = json.loads(shop.kept().read_text())["kept"]
        assert kept["answer"] == json.loads(whole)["kept"]["answer"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_an_answer_of_another_user_is_not_believed(shop: Shop) -> None:
    os.chown(shop.kept(), 12345, 12345)
    shop.read()
    assert shop.reads() == 2


def test_a_home_that_can_not_be_written_only_costs_time(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    (tmp_path / ".perfdata").write_text("a file")
    for _ in range(2):
        assert shop.read().heads == ("second",)
        assert shop.reads() == 2


KILLED = """
import os, signal
from pathlib import Path
from perfdata.temporary import temporary_beside
with temporary_beside(Path({path!r})) as file:
    file.write(b'{{"sha256"')
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_process_that_is_killed_while_it_writes_harms_nothing(shop: Shop) -> None:
    path = str(shop.kept())
    done = subprocess.run([sys.executable, "-c", KILLED.format(path=path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert shop.read().heads == ("second",)
    assert shop.reads() == 0
    shop.write("third", "second")
    assert shop.read().heads == ("third",)
    assert str(shop.kept()) == path  # and the file that was left is gone


READ = """
from pathlib import Path
from perfdata import Project, Settings
from perfdata.migrations.history import read_history
settings = Settings(root=Path({folder!r}), home=Path({folder!r}, ".perfdata"))
project = Project(name="shop", migrations=Path({folder!r}, "alembic.ini"), settings=settings)
print(*read_history(project).heads)
"""


def test_two_processes_read_at_once(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    command = [sys.executable, "-c", READ.format(folder=str(tmp_path))]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate()[0] for process in processes] == ["second\n", "second\n"]
    shop.reads()
    assert shop.read().heads == ("second",)
    assert shop.reads() == 0


MODELS = """
from sqlalchemy import Boolean, Column, Integer, MetaData, Table
import columns_of_shop
metadata = MetaData()
Table("customers", metadata, Column("id", Integer, primary_key=True), *columns_of_shop.columns())
"""
COLUMNS = """
from sqlalchemy import Boolean, Column, Integer
def columns():
    return [Column("is_test_data", Boolean), Column("age", Integer)]
with open({log!r}, "a") as log:
    log.write("x")
"""


def test_the_digest_of_tables_is_made_again_when_a_module_of_the_models_changes(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Also a module that the models import, and models found at another place."""
    folder = tmp_path / "models"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    (folder / "models_of_shop.py").write_text(MODELS)
    columns = folder / "columns_of_shop.py"
    columns.write_text(COLUMNS.format(log=str(shop.log)))
    project = replace(
        shop.project,
        migrations=None,
        metadata="models_of_shop:metadata",
        tables_from_metadata=True,
    )

    def digest() -> str:
        answers._kept.clear()
        return tables_digest(project)

    first = digest()
    assert (digest(), shop.reads()) == (first, 1)
    columns.write_text(columns.read_text().replace('"age"', '"year"'))
    assert digest() != first
    columns.write_text(columns.read_text().replace('"year"', '"age"'))
    assert (digest(), shop.reads()) == (first, 2)


PROJECT = """
from datetime import date
from pathlib import Path
from perfdata import Dataset, Project, TableRows


def generate(dataset):
    yield TableRows("customers", ("id", "is_test_data"), [b"1\\tt\\n", b"2\\tt\\n"])


project = Project(
    name="shop",
    migrations=Path("alembic.ini"),
    datasets=(Dataset(name="two", generate=generate, as_of=date(2026, 1, 1)),),
)
"""
FIRST = """
from alembic import op
revision = "first"
down_revision = None
def upgrade():
    op.execute("CREATE TABLE customers (id int PRIMARY KEY, is_test_data boolean)")
"""
ENV = """
from alembic import context
connection = context.config.attributes["connection"]
context.configure(connection=connection)
with context.begin_transaction():
    context.run_migrations()
"""
IMPORTED = """
import sys
started = []
sys.addaudithook(lambda event, args: event == "subprocess.Popen" and started.append(args[1][-1]))
from perfdata.tasks import main
try:
    main()
finally:
    heavy = {"alembic", "sqlalchemy", "faker", "pygments"} & sys.modules.keys()
    print("imported:", sorted(heavy), "started:", started, file=sys.stderr)
"""


@pytest.fixture
def built(tmp_path: Path) -> Iterator[Shop]:
    """A project whose dataset was built by the command."""
    shop = Shop(tmp_path)
    (shop.versions / "second.py").unlink()
    (shop.versions / "first.py").write_text(FIRST)
    (tmp_path / "migrations" / "env.py").write_text(ENV)
    (tmp_path / "pyproject.toml").write_text('[tool.perfdata]\nproject = "shop_perf:project"\n')
    (tmp_path / "shop_perf.py").write_text(PROJECT)
    done = run_script(tmp_path, "perfdata", "dataset.build", "--name", "two")
    assert done.returncode == 0, done.stderr
    yield shop
    run_script(tmp_path, "perfdata", "db.stop")


def test_commands_import_nothing_heavy_to_learn_that_nothing_changed(built: Shop) -> None:
    """And start no child process. A file that a revision may read makes the snapshot stale."""
    written_ns = built.kept().stat().st_mtime_ns
    for command in ("snapshot.restore --name two", "snapshot.list", "dataset.list", "--list"):
        done = subprocess.run(
            [sys.executable, "-c", IMPORTED, *command.split()],
            cwd=built.folder,
            env=environment(PYTHONPATH=str(Path(__file__).parents[3])),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert done.stderr.splitlines()[-1] == "imported: [] started: []", command
    assert built.kept().stat().st_mtime_ns == written_ns
    (built.folder / "migrations" / "seed.sql").write_text("SELECT 1")
    done = run_script(built.folder, "perfdata", "snapshot.verify", "--name", "two", "--current")
    assert done.returncode == 1
    assert "only in the project: file migrations/seed.sql" in done.stderr
    for text, parked in (("SELECT 1", False), ("SELECT 2", True)):
        (built.folder / "migrations" / "seed.sql").write_text(text)
        done = run_script(built.folder, "perfdata", "snapshot.restore", "--name", "two")
        assert "built 2 rows" in done.stdout, done.stderr
        changed = "file migrations/seed.sql, which migrations may read, was edited after they ran"
        assert (changed in done.stderr) is parked

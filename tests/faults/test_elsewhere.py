"""A project's own code reaches the target alone: whatever goes elsewhere is refused unopened."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from perfdata import (
    Dataset,
    ElsewhereError,
    MigrationError,
    Project,
    RefusedError,
    Settings,
    TableRows,
    Target,
    build_dataset,
)
from perfdata.migrations.history import create_tables, migrate, read_history, tables_digest
from perfdata.migrations.worker import ENV_PY
from perfdata.project import load_project
from tests.integration.inner import entry
from tests.processes import run_script

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.integration.conftest import Databases

REVISION = """
from alembic import op

revision = {revision!r}
down_revision = {parent!r}
depends_on = {depends!r}
branch_labels = None


def upgrade():
    op.execute("CREATE TABLE made_by_{revision} (id int, is_test_data boolean)")
"""
# Goes on as Alembic's template does, over the connection of a block called opened().
ENV = """
import asyncio, os, subprocess, threading
from alembic import context
from sqlalchemy import create_engine

config = context.config
target_metadata = None
url = os.environ["DATABASE_URL"]


def on(driver):
    return url.replace("postgresql:", f"postgresql+{{driver}}:")


def run(connection):
    context.configure(connection=connection, target_metadata=None)
    with context.begin_transaction():
        context.run_migrations()


def run_in(engine):
    with engine.connect() as connection:
        run(connection)
        connection.commit()


{body}
"""
ASYNC = """
from sqlalchemy.ext.asyncio import create_async_engine
async def go():
    engine = create_async_engine(on("asyncpg"))
    async with engine.connect() as connection:
        await connection.run_sync(run)
        await connection.commit()
    await engine.dispose()
asyncio.run(go())
"""
PSYCOPG = "import psycopg\npsycopg.connect(url)\n"
ENGINES = {
    "psycopg": "run_in(create_engine(on('psycopg')))",
    "psycopg2": "run_in(create_engine(on('psycopg2')))",
    "asyncpg": ASYNC,
}
ELSEWHERE = {
    **ENGINES,
    "a creator": """
import psycopg
run_in(create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(url)))
""",
    "a listener": """
from sqlalchemy import event
engine = create_engine(config.get_main_option("sqlalchemy.url"))
@event.listens_for(engine, "do_connect")
def elsewhere(dialect, record, args, kwargs):
    kwargs["dbname"] = url.rpartition("/")[2].partition("?")[0]
run_in(engine)
""",
    "a direct connection": PSYCOPG,
    "a function imported by its name": "from psycopg import connect\nconnect(url)",
    "an asynchronous connection": """
import psycopg
asyncio.run(psycopg.AsyncConnection.connect(url))
""",
    "psycopg2 itself": "import psycopg2\npsycopg2.connect(url)",
    "asyncpg itself": "import asyncpg\nasyncio.run(asyncpg.connect(url))",
    "an asyncpg pool": """
import asyncpg
async def go():
    async with asyncpg.create_pool(url):
        pass
asyncio.run(go())
""",
    "a thread": """
import psycopg
thread = threading.Thread(target=lambda: psycopg.connect(url))
thread.start()
thread.join()
raise TimeoutError("no connection came")
""",
    "a list of hosts": """
import psycopg
host = os.environ["TARGET_HOST"]
psycopg.connect(dbname=os.environ["TARGET"], host=f"{host},127.0.0.1", user="perfdata")
""",
    "a service": """
import psycopg
os.environ["PGSERVICEFILE"] = os.environ["SERVICES"]
psycopg.connect("service=own")
""",
    "a service of psycopg2": """
import psycopg2
os.environ["PGSERVICEFILE"] = os.environ["SERVICES"]
psycopg2.connect("service=own")
""",
    "a service in the environment": """
import psycopg
os.environ.update(PGSERVICEFILE=os.environ["SERVICES"], PGSERVICE="own")
psycopg.connect("")
""",
    "PGHOSTADDR": """
import psycopg
os.environ["PGHOSTADDR"] = "127.0.0.1"
psycopg.connect(dbname=os.environ["TARGET"], host=os.environ["TARGET_HOST"], user="perfdata")
""",
}
PROGRAMS = {
    "subprocess": "subprocess.run(['psql', url, '-c', 'CREATE TABLE stray ()'], check=True)",
    "a shell": "subprocess.run(f'psql {url} -c \"CREATE TABLE stray ()\" # /git', shell=True)",
    "os.system": "os.system(f'psql {url} -c \"CREATE TABLE stray ()\"')",
    "os.popen": "os.popen(f'psql {url} -c \"CREATE TABLE stray ()\"').read()",
    "os.posix_spawn": "os.posix_spawn('/usr/bin/psql', ['psql', url], os.environ)",
    "os.exec": "os.execvp('psql', ['psql', url, '-c', 'CREATE TABLE stray ()'])",
    "asyncio": "asyncio.run(asyncio.create_subprocess_exec('psql', url, '-c', 'SELECT 1'))",
    "a program called by another name": "subprocess.run(['git', url], executable='/usr/bin/psql')",
}


@dataclass(frozen=True)
class Places:
    """The target, and a developer's own database on the same server."""

    target: str
    own: str

    def used(self) -> tuple[object, ...]:
        """Return what tells of any use of the developer's own database."""
        with psycopg.connect(self.target) as connection:
            name = psycopg.conninfo.conninfo_to_dict(self.own)["dbname"]
            query = "SELECT sessions, xact_commit FROM pg_stat_database WHERE datname = %s"
            return connection.execute(query, (name,)).fetchone() or ()


@pytest.fixture
def places(
    databases: Databases, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Places]:
    """Two databases; DATABASE_URL names the developer's own, which nothing may have touched."""
    made = Places(databases.make("template0"), databases.make("template0"))
    monkeypatch.setenv("DATABASE_URL", made.own)
    parts = psycopg.conninfo.conninfo_to_dict(made.target)
    monkeypatch.setenv("TARGET", str(parts["dbname"]))
    monkeypatch.setenv("TARGET_HOST", str(parts["host"]))
    services = tmp_path / "services.conf"
    own = psycopg.conninfo.conninfo_to_dict(made.own)
    lines = "\n".join(f"{key}={value}" for key, value in own.items())
    services.write_text(f"[own]\n{lines}\n")
    monkeypatch.setenv("SERVICES", str(services))
    before = made.used()
    yield made
    assert made.used() == before, "the developer's own database was connected to"


def write_project(folder: Path, body: str) -> Project:
    """Write migrations of one revision, with an env.py of their own."""
    (folder / "migrations" / "versions").mkdir(parents=True)
    (folder / "migrations" / "env.py").write_text(ENV.format(body=body))
    write_revision(folder, "first", None)
    return Project(name="shop", migrations=folder / "migrations")


def write_revision(folder: Path, revision: str, parent: str | None, depends: str = "") -> None:
    text = REVISION.format(revision=revision, parent=parent, depends=depends or None)
    (folder / "migrations" / "versions" / f"{revision}.py").write_text(text)


def tables(url: str) -> set[str]:
    with psycopg.connect(url) as connection:
        query = "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace"
        return {str(name) for (name,) in connection.execute(query + " AND relkind = 'r'")}


@pytest.mark.parametrize("way", ELSEWHERE)
def test_an_env_py_that_connects_elsewhere_is_refused_before_it_does(
    places: Places, tmp_path: Path, way: str
) -> None:
    project = write_project(tmp_path, ELSEWHERE[way])
    with pytest.raises(ElsewhereError) as caught:
        migrate(places.target, project)
    said = str(caught.value)
    target = psycopg.conninfo.conninfo_to_dict(places.target)
    assert f"target: perfdata@{target['host']}:5432/{target['dbname']} (" in said
    assert f"the migrations of project shop ({tmp_path / 'migrations' / 'env.py'}, line " in said
    assert all(line in said for line in ENV_PY)
    assert "Or set the variable that its address comes from, in [tool.perfdata] of " in said
    assert 'pyproject.toml: environment = {DATABASE_URL = "' in said
    own = psycopg.conninfo.conninfo_to_dict(places.own)
    named = {"a list of hosts": "127.0.0.1:5432", "PGHOSTADDR": "(127.0.0.1:5432)"}
    if "service" in way:
        assert "to:     service own" in said
    else:
        assert named.get(way, f"perfdata@{own['host']}:5432/{own['dbname']} (") in said
    assert tables(places.target) == set()


@pytest.mark.parametrize("way", PROGRAMS)
def test_an_env_py_may_run_no_program_that_could_connect(
    places: Places, tmp_path: Path, way: str
) -> None:
    project = write_project(tmp_path, PROGRAMS[way])
    with pytest.raises(
        RefusedError, match=r"env\.py, line \d+\) may not run the program (psql|sh)"
    ):
        migrate(places.target, project)


@pytest.mark.parametrize("driver", ENGINES)
def test_an_env_py_that_is_told_the_targets_url_migrates_it(
    places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, driver: str
) -> None:
    monkeypatch.setenv("DATABASE_URL", places.target)
    body = f"subprocess.run(['git', '--version'], check=True)\n{ENGINES[driver]}"
    assert migrate(places.target, write_project(tmp_path, body)) == ("first",)
    assert tables(places.target) == {"alembic_version", "made_by_first"}


@pytest.mark.parametrize("template", ["generic", "async"])
def test_the_three_lines_of_the_error_mend_alembics_templates(
    places: Places, tmp_path: Path, template: str
) -> None:
    made = subprocess.run(
        [sys.executable, "-m", "alembic", "init", "--template", template, "migrations"],
        cwd=tmp_path, capture_output=True, check=False,
    )  # fmt: skip
    assert made.returncode == 0
    write_revision(tmp_path, "first", None)
    env = tmp_path / "migrations" / "env.py"
    driver = {"generic": "psycopg", "async": "asyncpg"}[template]
    taken = FROM_VARIABLE.format(driver=driver)
    given = env.read_text().replace("config = context.config\n", taken, 1)
    env.write_text(given)
    project = Project(name="shop", migrations=tmp_path / "alembic.ini")
    with pytest.raises(ElsewhereError):
        migrate(places.target, project)
    online = "def run_migrations_online() -> None:\n"
    env.write_text(given.replace(online, online + "\n".join(ENV_PY[1:]) + "\n"))
    assert migrate(places.target, project) == ("first",)
    assert tables(places.target) == {"alembic_version", "made_by_first"}


def test_what_an_env_py_tries_and_does_without_is_refused_and_no_error(
    places: Places, tmp_path: Path
) -> None:
    body = "try:\n    import psycopg\n    psycopg.connect(url)\nexcept Exception:\n    pass\n"
    project = write_project(tmp_path, body + 'run(config.attributes["connection"])')
    assert migrate(places.target, project) == ("first",)


def test_an_error_after_a_refusal_is_told_as_the_refusal(places: Places, tmp_path: Path) -> None:
    """As where a pool says after 30 seconds that no connection came."""
    body = "import psycopg\ntry:\n    psycopg.connect(url)\nexcept Exception:\n    raise OSError"
    with pytest.raises(ElsewhereError):
        migrate(places.target, write_project(tmp_path, body))


def test_libpqs_variables_reach_no_env_py(
    places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("PGHOST", "PGSERVICEFILE", "PGPASSFILE", "PGOPTIONS", "PGTZ", "PGSYSCONFDIR")
    for name in names:
        monkeypatch.setenv(name, "UTC" if name == "PGTZ" else "")
    monkeypatch.setenv("PG_OWN", "the application's")
    body = f"""
assert not [name for name in {names} if name in os.environ]
assert os.environ["PG_OWN"]
run(config.attributes["connection"])
"""
    assert migrate(places.target, write_project(tmp_path, body)) == ("first",)


def test_an_exception_of_env_py_is_one_line_with_its_place_and_no_password(
    places: Places, tmp_path: Path
) -> None:
    folder = tmp_path / "shop"
    url = places.target.replace("@", ":s%40crt@")
    body = "raise ValueError(f\"no such tenant in {config.get_main_option('sqlalchemy.url')}\")"
    with pytest.raises(MigrationError) as caught:
        migrate(url, write_project(folder, body))
    line = len(ENV.format(body=body).splitlines())
    said = caught.value.reason
    assert said.startswith("the migrations of project shop failed: ValueError: no such tenant in ")
    assert said.endswith(f" ({folder / 'migrations' / 'env.py'}, line {line})")
    assert "perfdata:***@" in said
    assert "crt" not in said
    write_project(tmp_path / "ends", "raise SystemExit(3)")
    with pytest.raises(MigrationError, match="failed: SystemExit: 3 "):
        migrate(places.target, Project(name="shop", migrations=tmp_path / "ends" / "migrations"))
    write_project(tmp_path / "gone", "os._exit(7)")
    with pytest.raises(MigrationError, match="exited with code 7 before it was done"):
        migrate(places.target, Project(name="shop", migrations=tmp_path / "gone" / "migrations"))


def test_a_head_that_another_depends_on_is_no_other_database(
    places: Places, tmp_path: Path
) -> None:
    """Two branches, one of which stands in alembic_version for both."""
    project = write_project(tmp_path, 'run(config.attributes["connection"])')
    write_revision(tmp_path, "billing", None, depends="first")
    assert migrate(places.target, project) == ("billing", "first")
    events: list[Any] = []
    assert migrate(places.target, project, events.append) == ("billing", "first")
    assert events == []


def test_a_history_is_read_once_until_a_file_of_it_changes(tmp_path: Path) -> None:
    project = write_project(tmp_path, "")
    first = read_history(project)
    assert read_history(project) is first
    write_revision(tmp_path, "second", "first")
    assert read_history(project).heads == ("second",)
    assert read_history(project) is read_history(project)


def test_a_migration_ends_with_the_process_that_asked_for_it(
    places: Places, tmp_path: Path
) -> None:
    """Killed, so that it could tell nobody."""
    body = """
from sqlalchemy import text
config.attributes["connection"].execute(text("SELECT pg_sleep(60)"))
"""
    write_project(tmp_path, body)
    code = (
        "from pathlib import Path; from perfdata import Project;"
        "from perfdata.migrations.history import migrate;"
        f"migrate({places.target!r}, Project(name='shop', migrations=Path('migrations')))"
    )
    asking = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stderr=subprocess.DEVNULL)
    with psycopg.connect(places.target, autocommit=True) as connection:
        query = "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)'"

        def sleeping(wanted: int) -> bool:
            end = time.monotonic() + 20
            while (found := connection.execute(query).fetchone()) != (wanted,):
                if time.monotonic() > end:
                    raise AssertionError(found)
                time.sleep(0.05)
            return True

        assert sleeping(1)
        asking.send_signal(signal.SIGKILL)
        asking.wait()
        assert sleeping(0)


METADATA = """
import psycopg
from sqlalchemy import Column, Integer, MetaData, Table
psycopg.connect({url!r})
metadata = MetaData()
Table("made", metadata, Column("id", Integer))
"""


def test_metadata_that_connects_elsewhere_when_imported_is_refused(
    places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "strayed.py").write_text(METADATA.format(url=places.own))
    (tmp_path / "stayed.py").write_text(METADATA.format(url=places.target))
    strayed = Project(name="shop", metadata="strayed:metadata", tables_from_metadata=True)
    stayed = Project(name="shop", metadata="stayed:metadata", tables_from_metadata=True)
    with pytest.raises(ElsewhereError, match=r"(?s)strayed\.py, line 4.*to: .*/test_") as caught:
        create_tables(places.target, strayed)
    assert "run_migrations_online" not in str(caught.value)
    assert tables(places.target) == set()
    with pytest.raises(ElsewhereError, match="none, as this code is given no database"):
        tables_digest(strayed)
    create_tables(places.target, stayed)
    assert tables(places.target) == {"made"}


def test_a_project_that_connects_elsewhere_when_imported_is_refused(
    places: Places, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    text = "import psycopg\nfrom perfdata import Project\npsycopg.connect({!r}).close()\n"
    for name, url in (("imported_own", places.own), ("imported_target", places.target)):
        (tmp_path / f"{name}.py").write_text(text.format(url) + "project = Project(name='shop')\n")
    here = replace(settings, root=tmp_path, database_url=places.target.replace(":", "+asyncpg:", 1))
    with pytest.raises(ElsewhereError, match=r"project imported_own:project \(.*own\.py, line 3\)"):
        load_project(replace(here, project="imported_own"))
    assert load_project(replace(here, project="imported_target")).name == "shop"
    with pytest.raises(ElsewhereError):
        load_project(replace(here, project="imported_own", database_url=None))


def connecting(url: str, *, in_a_block: bool, how: Callable[[str], Any]) -> Dataset:
    """Make a dataset that connects where its tables, or a table's rows, are made."""

    def blocks() -> Iterator[bytes]:
        if in_a_block:
            how(url)
        yield b"1\tt\n"

    def generate(_dataset: Dataset) -> Iterator[TableRows]:
        if not in_a_block:
            how(url)
        yield TableRows("rows", ("id", "is_test_data"), blocks())

    return Dataset(name="some", generate=generate, as_of=date(2026, 1, 1))


@pytest.mark.parametrize("in_a_block", [False, True])
def test_dataset_code_that_connects_elsewhere_is_refused(
    places: Places, settings: Settings, monkeypatch: pytest.MonkeyPatch, in_a_block: bool
) -> None:
    """And the application that it is part of connects where it will, before and after."""
    with psycopg.connect(places.target) as connection:
        connection.execute("CREATE TABLE rows (id int, is_test_data boolean)")
    allowed = replace(settings, allow=(entry(places.target),), project="shop_of_a_test")
    here = Target(allowed, places.target, embedded=False)

    def build(url: str, how: Callable[[str], Any]) -> None:
        dataset = connecting(url, in_a_block=in_a_block, how=how)
        module = ModuleType("shop_of_a_test")
        vars(module)["project"] = Project(name="shop", datasets=(dataset,))
        monkeypatch.setitem(sys.modules, module.__name__, module)
        build_dataset(here, "some", snapshot=False)

    def in_a_process(url: str) -> None:
        subprocess.run(["psql", url], check=True)

    with pytest.raises(ElsewhereError, match=r"dataset some \(.*test_elsewhere\.py, line"):
        build(places.own, psycopg.connect)
    with pytest.raises(RefusedError, match="may not run the program psql"):
        build(places.own, in_a_process)
    build(places.target, lambda url: psycopg.connect(url).close())
    psycopg.connect(places.target.replace(os.environ["TARGET"], "postgres")).close()


PYPROJECT = '[tool.perfdata]\nproject = "shop_perf:project"\n'
SHOP = """
from datetime import date
from pathlib import Path
from perfdata import Dataset, Project, TableRows

def generate(dataset):
    yield TableRows("made_by_first", ("id", "is_test_data"), [b"1\\tt\\n"])

project = Project(
    name="shop", migrations=Path("migrations"),
    datasets=(Dataset(name="some", generate=generate, as_of=date(2026, 1, 1)),),
)
"""


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Callable[..., subprocess.CompletedProcess[str]]]:
    """Return a function that runs a command of the console script in a project of its own."""
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "pyproject.toml").write_text(PYPROJECT)
    (folder / "shop_perf.py").write_text(SHOP)
    yield partial(run_script, folder, "perfdata")
    run_script(folder, "perfdata", "db.stop")


def test_what_only_shows_migrates_nothing_and_the_url_that_it_shows_mends_a_refusal(
    places: Places, tmp_path: Path, shop: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    """From the first command on a new machine, with a .env that names another database."""
    body = "print('env.py was here')\n" + ENGINES["psycopg"]
    write_project(tmp_path / "shop", body)
    for command in ("db.status", "dataset.list", "snapshot.list", "db.url"):
        done = shop(command)
        assert (done.returncode, done.stderr.count("env.py")) == (0, 0), done.stderr
    url = done.stdout.strip()
    assert tables(url) == set()
    refused = shop("db.migrate")
    assert refused.returncode == 2
    assert f"to:     {'perfdata@'}" in refused.stderr
    assert places.own.rpartition("/")[2].partition("?")[0] in refused.stderr
    assert refused.stderr.endswith('pyproject.toml: environment = {DATABASE_URL = "{url}"}\n')
    assert tables(url) == set()
    built = shop("snapshot.restore", "--name", "some", DATABASE_URL=url)
    assert built.returncode == 0, built.stderr
    assert "env.py was here" not in built.stdout
    assert "env.py was here" in built.stderr
    assert json.loads(shop("snapshot.info", "--name", "some", "--json").stdout)["rows"] == 1


def test_a_restore_imports_neither_alembic_nor_sqlalchemy(
    tmp_path: Path, shop: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    """They are slow to import, and the process that reads the migrations has them."""
    write_project(tmp_path / "shop", 'run(config.attributes["connection"])')
    command = ("snapshot.restore", "--name", "some")
    built = shop(*command, DATABASE_URL="")
    assert built.returncode == 0, built.stderr
    (tmp_path / "shop" / "sitecustomize.py").write_text(
        "import atexit, sys\n"
        "told = lambda: print(sorted({'alembic', 'sqlalchemy'}.intersection(sys.modules)))\n"
        "atexit.register(told)\n"
    )
    restored = shop(*command, DATABASE_URL="", PYTHONPATH=str(tmp_path / "shop"))
    assert restored.stdout.splitlines()[-1] == "[]", restored.stdout


FROM_VARIABLE = """config = context.config
import os
url = os.environ["DATABASE_URL"].replace("postgresql:", "postgresql+{driver}:")
config.set_main_option("sqlalchemy.url", url.replace("%", "%%"))
"""

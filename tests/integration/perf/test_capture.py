"""What is captured of scenarios, in whole pytest sessions on an embedded server of their own."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from perfdata import Settings, open_target
from perfdata.progress import silent
from perfdata.snapshot.perf_clones import Clones
from perfdata.target.garbage import collect_databases
from tests.homes import project_home
from tests.integration.databases import run
from tests.integration.inner import Pytest, entry
from tests.processes import environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    Results = Mapping[str, dict[str, Any]]

pytestmark = pytest.mark.slow


FORMS = '''
import pytest
from sqlalchemy import func, insert, select, text, update
from perfdata import ConfigError
from perfdata.welfare.models import Office, Staff

pytestmark = pytest.mark.perf(dataset="10_offices")

NESTED = """
CREATE FUNCTION staff_of(o uuid) RETURNS bigint LANGUAGE plpgsql AS
  'BEGIN RETURN (SELECT count(*) FROM office_staffs WHERE office_id = o); END';
CREATE FUNCTION touched() RETURNS trigger LANGUAGE plpgsql AS
  'BEGIN PERFORM count(*) FROM staffs; RETURN NEW; END';
CREATE TRIGGER after_it AFTER UPDATE ON offices FOR EACH ROW EXECUTE FUNCTION touched();
"""
NAMED_X = select(func.count()).where(Office.name == "x")


def test_reader(perf):
    def reads(session):
        for role in ("owner", "manager", "owner"):
            session.scalars(select(Staff.id).where(Staff.email.like(f"%{role}%"))).all()
    perf(reads)


def test_writer(perf):
    def writes(session):
        session.execute(update(Office).values(name="x"))
        session.execute(insert(Office).values(name="y", type="type_A_office", **OWNER))
        session.commit()
    staff = perf.session.scalar(select(Staff.id).order_by(Staff.id).limit(1))
    OWNER = {"created_by": staff, "last_modified_by": staff}
    perf(writes)


def test_function(perf):
    perf.session.execute(text(NESTED))
    perf(lambda session: session.execute(text("SELECT staff_of(id) FROM offices")).all())


def test_trigger(perf):
    perf.session.execute(text(NESTED))
    perf(lambda session: session.execute(update(Office).values(name="x")))


def test_executemany(perf):
    pairs = [{"old": f"{n}", "new": "z"} for n in range(7)]
    query = text("UPDATE offices SET name = :new WHERE name = :old")
    perf(lambda session: session.execute(query, pairs))


@pytest.mark.perf(max_memory_mb=1)
def test_memory(perf):
    with pytest.raises(Exception, match="memory_mb"):
        perf(lambda session: len(bytes(3 << 20)))


@pytest.mark.perf(on="engine")
def test_engine(perf):
    seen = set()
    def commits(engine):
        with engine.begin() as connection:
            seen.add(connection.scalar(NAMED_X))
            connection.execute(update(Office).values(name="x"))
    perf(commits)
    assert seen == {0}


@pytest.mark.perf(on="engine")
def test_async_engine(perf):
    seen = set()
    async def commits(engine):
        async with engine.begin() as connection:
            seen.add(await connection.scalar(NAMED_X))
            await connection.execute(update(Office).values(name="x"))
    perf(commits)
    assert seen == {0}


@pytest.mark.perf(on="psycopg")
def test_psycopg(perf):
    def plain(connection):
        assert connection.execute("SELECT FROM offices WHERE name = 'x'").rowcount == 0
        with connection.cursor() as cursor:
            pairs = [("x", "y"), ("z", "u")]
            cursor.executemany("UPDATE offices SET name = %s WHERE name = %s", pairs)
            cursor.execute("UPDATE offices SET name = 'x'")
            with cursor.copy("COPY (SELECT id FROM offices) TO STDOUT") as copy:
                n = len(list(copy))
            rows = len(list(cursor.stream("SELECT id FROM staffs")))
        with connection.cursor("server") as cursor:
            cursor.execute("SELECT email FROM staffs")
            cursor.fetchmany(7)
        connection.commit()
        return n, rows
    assert perf(plain) == (10, 51)


@pytest.mark.perf(on="psycopg")
def test_pipeline(perf):
    def piped(connection):
        with connection.pipeline():
            staff = connection.execute("SELECT id FROM staffs")
            offices = connection.execute("SELECT id FROM offices WHERE name <> %s", ("a",))
        return len(staff.fetchall()), len(offices.fetchall())
    assert perf(piped) == (51, 10)


@pytest.mark.perf(on="psycopg")
def test_async_psycopg(perf):
    async def plain(connection):
        found = await connection.execute("SELECT FROM offices WHERE name = 'x'")
        assert found.rowcount == 0
        async with connection.cursor() as cursor:
            pairs = [("x", "y"), ("z", "u")]
            await cursor.executemany("UPDATE offices SET name = %s WHERE name = %s", pairs)
            await cursor.execute("UPDATE offices SET name = 'x'")
            async with cursor.copy("COPY (SELECT id FROM offices) TO STDOUT") as copy:
                n = len([one async for one in copy])
            rows = len([one async for one in cursor.stream("SELECT id FROM staffs")])
        async with connection.cursor("server") as cursor:
            await cursor.execute("SELECT email FROM staffs")
            await cursor.fetchmany(7)
        await connection.commit()
        return n, rows
    assert perf(plain) == (10, 51)


def test_async_session(perf):
    async def inner(session):
        return (await session.scalars(select(Staff.id))).all()
    async def outer(session):
        return await inner(session)
    assert len(perf(outer)) == 51


def test_measured_engine(perf, perf_engine):
    with perf.measure(of=perf_engine), perf_engine.connect() as connection:
        connection.execute(select(Staff.id)).all()


def test_measured_connection(perf, perf_clone_url):
    import psycopg
    with psycopg.connect(perf_clone_url.replace("+psycopg", "")) as connection:
        with perf.measure(of=connection):
            connection.execute("SELECT id FROM staffs WHERE email <> %s", ("a",)).fetchall()
'''


@pytest.fixture(scope="module")
def own_settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """A home whose server the inner sessions start."""
    with project_home(tmp_path_factory.mktemp("capture")) as settings:
        yield settings


def _inner(folder: Path, home: Path, **files: str) -> Pytest:
    inner = Pytest(folder, home)
    inner.write(**files)
    return inner


@pytest.fixture
def inner(own_settings: Settings, tmp_path: Path) -> Pytest:
    return _inner(tmp_path, own_settings.home)


@pytest.fixture(scope="module")
def found(own_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Results:
    """The results of one session of all FORMS."""
    folder = tmp_path_factory.mktemp("forms")
    inner = _inner(folder, own_settings.home, test_forms=FORMS)
    code, said = inner.run()
    assert code == 0, said
    return inner.results()


def _plans(result: Mapping[str, Any]) -> list[tuple[str, int, list[str]]]:
    return [
        (plan["query"], plan["calls"], plan["signature"])
        for statement in result["statements"]
        for plan in statement["plans"]
    ]


def test_a_statement_has_the_line_that_sent_it_its_rows_and_its_plan(found: Results) -> None:
    (statement,) = found["test_reader"]["statements"]
    (source,) = statement["sources"]
    line = next(n for n, text in enumerate(FORMS.splitlines(), 1) if "Staff.email.like" in text)
    assert (source["file"], source["line"]) == ("test_forms.py", line)
    assert (source["calls"], source["different"]) == (3, 2)
    assert _plans(found["test_reader"]) == [("", 3, ["Seq Scan on staffs"])]
    assert found["test_reader"]["plan_source"] == "auto_explain"
    assert found["test_reader"]["memory_bytes"] > 0
    assert len(found["test_reader"]["time"]["rounds_s"]) == 3


@pytest.mark.parametrize(
    ("test", "calls", "query"),
    [
        ("test_reader", 3, "SELECT id FROM staffs WHERE email LIKE '%a%'"),
        ("test_engine", 1, "UPDATE offices SET name = 'x'"),
    ],
)
def test_buffers_are_those_that_explain_tells_on_a_fresh_clone(
    found: Results, own_settings: Settings, test: str, calls: int, query: str
) -> None:
    """The capture adds none; a second run of the update would find the versions of its first."""
    (plan,) = found[test]["statements"][-1]["plans"]
    with Clones(open_target(own_settings), {}, silent) as clones:
        url = clones.make(clones.template("10_offices").template)
        with psycopg.connect(url) as connection:
            told = [_explained(connection, query) for _ in range(2)]
        clones.drop(url)
    assert plan["buffers"] == told[0] * calls
    assert (told[0] == told[1]) == (test == "test_reader")


def _explained(connection: psycopg.Connection[Any], query: str) -> int:
    """Run a statement as the second of its kind where it reads, the first where it writes."""
    connection.execute("SELECT count(*) FROM offices WHERE name = 'x'")
    explain = f"EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) {query}"
    (answer,) = connection.execute(explain.encode()).fetchone() or ([],)
    node = answer[0]["Plan"]
    return int(node["Shared Hit Blocks"] + node["Shared Read Blocks"])


def test_a_writer_is_captured_with_what_its_foreign_keys_read(found: Results) -> None:
    writer = found["test_writer"]
    assert writer["counters"]["wal_records"] > 0
    (inner,) = [(calls, plan) for query, calls, plan in _plans(writer) if query]
    assert inner == (2, ["LockRows", "  Seq Scan on staffs x"])


def test_what_functions_and_triggers_run_is_seen_and_counted_once(found: Results) -> None:
    (nested, own) = found["test_function"]["statements"][0]["plans"]
    assert (nested["calls"], own["calls"]) == (10, 1)
    assert nested["signature"][1].strip().startswith("InitPlan 1: Aggregate")
    assert own["buffers"] == 1, "what the function read is not in it again"
    (nested, own) = found["test_trigger"]["statements"][0]["plans"]
    assert (nested["calls"], nested["query"]) == (10, "SELECT COUNT(*) FROM staffs")
    assert own["signature"][0] == "Update on offices"
    assert own["buffers"] > 10


def test_each_execution_of_a_batch_has_its_plan(found: Results) -> None:
    (statement,) = found["test_executemany"]["statements"]
    assert statement["calls"] == 1
    assert [one["calls"] for one in statement["plans"]] == [7]


def test_every_form_is_captured(found: Results) -> None:
    updates = ["Update on offices", "  Seq Scan on offices"]
    for name in ("test_engine", "test_async_engine"):
        assert found[name]["counters"]["queries"] == 2
        assert ("", 1, updates) in _plans(found[name])
        assert found[name]["time"]["rounds"] == 3
    for name in ("test_psycopg", "test_async_psycopg"):
        counted = [(one["calls"], one["rows"]) for one in found[name]["statements"]]
        assert counted == [(1, 0), (1, 0), (1, 10), (1, 10), (1, 51), (1, 7)]
        assert ("", 2, updates) in _plans(found[name])
        assert ("", 1, ["Seq Scan on staffs"]) in _plans(found[name])
    piped = [(one["calls"], one["rows"]) for one in found["test_pipeline"]["statements"]]
    assert piped == [(1, 51), (1, 10)]
    session = found["test_async_session"]["statements"][0]
    assert session["sources"][0]["function"].endswith("inner")
    for name in ("test_async_session", "test_measured_engine", "test_measured_connection"):
        assert _plans(found[name]) == [("", 1, ["Seq Scan on staffs"])]


def test_the_environment_is_that_of_the_measured_database(found: Results) -> None:
    assert found["test_reader"]["environment"] == {
        "postgresql": "18",
        "provider": "builtin",
        "locale": "C.UTF-8",
        "block_size": "8192",
    }


ASYNCPG = """
@pytest.fixture(scope="session")
def perf_async_driver():
    return "asyncpg"
"""


def test_asyncpg_sends_its_plans_too(found: Results, inner: Pytest) -> None:
    inner.write(test_forms=FORMS + ASYNCPG)
    code, said = inner.run("-k", "async_session or async_engine")
    assert code == 0, said
    for name, one in inner.results().items():
        assert one["counters"] == found[name]["counters"]
        assert _plans(one) == _plans(found[name])


IN_ASYNC = """
import pytest

@pytest.mark.asyncio
@pytest.mark.perf(dataset="10_offices")
async def test_it(perf):
    async def coroutine(session):
        pass
    perf(coroutine)
"""


def test_a_coroutine_in_an_async_test_is_refused_in_words(inner: Pytest) -> None:
    inner.write(test_async=IN_ASYNC)
    code, said = inner.run("-p", "asyncio", "-o", "asyncio_default_fixture_loop_scope=function")
    assert code == 1
    assert "make the test a plain def" in said


@pytest.fixture
def owned(own_settings: Settings) -> Callable[[str, str], str]:
    """Return a function that makes a role and a database of its own, and returns the URL."""
    target = open_target(own_settings)
    socket = conninfo_to_dict(target.conninfo)["host"]

    def make(role: str, options: str) -> str:
        run(
            make_conninfo(target.conninfo, dbname="postgres"),
            f"CREATE ROLE {role} LOGIN {options}",
            f"CREATE DATABASE {role} TEMPLATE perfdata OWNER {role}",
        )
        database = make_conninfo(target.conninfo, dbname=role)
        relations = (
            "SELECT relname FROM pg_class WHERE relkind = 'r'"
            " AND relnamespace = 'public'::regnamespace"
        )
        run(
            database,
            *(f"ALTER TABLE {name} OWNER TO {role}" for (name,) in run(database, relations)),
            f"GRANT ALL ON SCHEMA public TO {role}",
            f"ALTER DATABASE {role} SET timezone TO 'Asia/Tokyo'",
        )
        return f"postgresql://{role}@/{role}?host={socket}"

    return make


def test_a_role_that_may_not_clone_restores_in_place_and_says_so(
    owned: Callable[[str, str], str], inner: Pytest
) -> None:
    """Its plans come from EXPLAIN; buffers and plans are not judged."""
    inner.write(test_forms=FORMS)
    url = owned("plain", "")
    code, said = inner.run(
        *("-k", "reader or executemany or psycopg or pipeline"),
        PERFDATA_DATABASE_URL=url,
        PERFDATA_ALLOW=entry(url),
    )
    assert code == 0, said
    assert "no clones, so buffers and plans are not judged: role plain may not" in said
    reader = inner.results()["test_reader"]
    assert reader["plan_source"] == "explain"
    assert reader["same_layout"] is False
    assert _plans(reader) == [("", 3, ["Seq Scan on staffs"])]
    assert any("CREATEDB" in line for line in reader["not_captured"])
    for name in ("test_executemany", "test_psycopg", "test_async_psycopg"):
        batch = [calls for _, calls, plan in _plans(inner.results()[name]) if "Update" in plan[0]]
        assert batch[0] == (7 if name == "test_executemany" else 2)
    assert inner.results()["test_psycopg"]["time"] is None, "its commits can't be undone"
    piped = inner.results()["test_pipeline"]
    assert [(one["calls"], one["rows"]) for one in piped["statements"]] == [(1, 51), (1, 10)]
    assert _plans(piped) == [], "an EXPLAIN would end the pipeline"


def test_a_role_that_may_make_databases_clones_and_asks_explain(
    found: Results, owned: Callable[[str, str], str], inner: Pytest
) -> None:
    """Counts, buffers and plans are those that auto_explain tells; the database's settings hold."""
    zone = """
def test_zone(perf):
    from sqlalchemy import text
    assert perf.session.scalar(text("SHOW timezone")) == "Asia/Tokyo"
    assert perf.session.scalar(text("SELECT current_database()")).startswith("perfdata_clone_")
"""
    inner.write(test_forms=FORMS + zone)
    url = owned("creator", "CREATEDB")
    code, said = inner.run(
        *("-k", "reader or writer or zone"),
        PERFDATA_DATABASE_URL=url,
        PERFDATA_ALLOW=entry(url),
    )
    assert code == 0, said
    assert "no clones" not in said
    assert "making the tables of project welfare in a new database" in said
    assert "is a clone of" not in said
    reader = inner.results()["test_reader"]
    assert (reader["plan_source"], reader["same_layout"]) == ("explain", True)
    assert reader["counters"] == found["test_reader"]["counters"]
    assert _plans(reader) == _plans(found["test_reader"])


AS_APPLICATION = """
@pytest.fixture
def perf_engine(perf_clone_url):
    from perfdata.perf.capture.connections import make_engine
    owner = make_engine(perf_clone_url)
    with owner.begin() as connection:
        connection.execute(text("GRANT SELECT ON ALL TABLES IN SCHEMA public TO application"))
    owner.dispose()
    engine = make_engine(perf_clone_url.replace("//perfdata@", "//application@"))
    yield engine
    engine.dispose()
"""


def test_a_session_of_another_role_sends_its_plans_too(
    found: Results, owned: Callable[[str, str], str], inner: Pytest
) -> None:
    """It may neither load auto_explain nor switch it off, which is said."""
    owned("application", "")
    inner.write(test_forms=FORMS + AS_APPLICATION)
    code, said = inner.run("-k", "reader")
    assert code == 0, said
    reader = inner.results()["test_reader"]
    assert reader["plan_source"] == "auto_explain"
    assert reader["counters"] == found["test_reader"]["counters"]
    assert "this role may not switch it off" in reader["not_captured"][0]


WAITS = """
import os, signal
from test_forms import *

def test_dies(perf):
    perf.session.scalar(select(func.count(Office.id)))
    os.kill(os.getpid(), signal.SIGKILL)
"""


def _clones(settings: Settings) -> list[str]:
    like = "SELECT datname FROM pg_database WHERE datname LIKE 'perfdata_clone_%'"
    return [name for (name,) in run(open_target(settings).conninfo, like)]


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_a_killed_runs_clone_is_removed_and_a_living_ones_is_not(
    found: Results, own_settings: Settings, inner: Pytest
) -> None:
    assert found
    assert _clones(own_settings) == [], "each session drops its own"
    inner.write(test_forms=FORMS, test_dies=WAITS)
    assert inner.run("test_dies.py::test_dies")[0] == -signal.SIGKILL
    (left,) = _clones(own_settings)
    assert inner.run("test_forms.py", "-k", "reader")[0] == 0
    assert _clones(own_settings) == []
    assert left.startswith("perfdata_clone_")


SLEEPS = """
import pathlib, time
from test_forms import *

def test_sleeps(perf):
    pathlib.Path("ready").touch()
    while not pathlib.Path("go").exists():
        time.sleep(0.05)
    assert perf.session.scalar(select(func.count(Office.id))) == 10
"""


def test_a_clone_in_use_outlives_another_run_and_a_collection(
    found: Results, own_settings: Settings, inner: Pytest
) -> None:
    """Two runs at once on one home."""
    assert found
    inner.write(test_forms=FORMS, test_sleeps=SLEEPS)
    environ = environment(PERFDATA_HOME=str(own_settings.home))
    command = [sys.executable, "-m", "pytest", "-q", "test_sleeps.py::test_sleeps"]
    with subprocess.Popen([*command, "-pno:asyncio"], cwd=inner.folder, env=environ) as sleeper:
        deadline = time.monotonic() + 60
        while not (inner.folder / "ready").exists():
            assert time.monotonic() < deadline
            assert sleeper.poll() is None
            time.sleep(0.05)
        (used,) = _clones(own_settings)
        assert inner.run("test_forms.py", "-k", "reader")[0] == 0
        collect_databases(open_target(own_settings).conninfo, own_settings)
        assert _clones(own_settings) == [used]
        (inner.folder / "go").touch()
        assert sleeper.wait(60) == 0
    assert _clones(own_settings) == []

"""What a capture can't tell exactly is said, and not judged; what others do is not mixed in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.integration.inner import own_frames

if TYPE_CHECKING:
    from tests.integration.inner import Pytest

SCENARIOS = """
import asyncio
import psycopg
import pytest
from sqlalchemy import text

pytestmark = pytest.mark.perf(dataset="10_offices")

@pytest.mark.perf(on="engine")
def test_at_once(perf):
    async def ask(engine, query):
        async with engine.connect() as connection:
            return (await connection.execute(text(query))).all()

    async def scenario(engine):
        slow = ask(engine, "SELECT id, pg_sleep(0.05) FROM (SELECT id FROM offices LIMIT 3) o")
        quick = ask(engine, "SELECT id FROM staffs LIMIT 5")
        await asyncio.gather(slow, quick)

    perf(scenario)

def test_rolls_back(perf):
    def scenario(session):
        session.execute(text("SELECT count(*) FROM offices"))
        session.rollback()
        session.execute(text("SELECT count(*) FROM staffs"))

    perf(scenario)

@pytest.mark.perf(max_buffers=0)
def test_second_connection(perf):
    def scenario(session):
        session.execute(text("SELECT count(*) FROM offices"))
        with perf.engine.connect() as connection:
            connection.execute(text("SELECT count(*) FROM staffs"))

    perf(scenario)

def test_only_elsewhere(perf):
    def scenario(session):
        with perf.engine.connect() as connection:
            connection.execute(text("SELECT count(*) FROM staffs"))

    perf(scenario)

def test_block_raises(perf):
    with pytest.raises(ZeroDivisionError):
        with perf.measure("raises"):
            perf.session.execute(text("SELECT 1"))
            1 / 0
    level = "SELECT current_setting('auto_explain.log_min_duration')"
    assert perf.session.scalar(text(level)) == "-1"

@pytest.mark.perf(on="psycopg")
def test_other_cursors(perf):
    def scenario(connection):
        connection.execute("SELECT count(*) FROM offices")
        psycopg.ClientCursor(connection).execute("SELECT id FROM staffs ORDER BY email")
        connection.execute("SELECT 1")

    perf(scenario)

@pytest.mark.perf(on="psycopg")
def test_cursor_twice(perf):
    def scenario(connection):
        cursor = connection.cursor("named")
        cursor.execute("SELECT id FROM offices")
        offices = cursor.fetchall()
        cursor.execute("SELECT id FROM staffs")
        assert len(offices) == 10 and len(cursor.fetchall()) == 51
        cursor.close()

    perf(scenario)
"""


def test_what_is_not_exact_is_told(inner: Pytest) -> None:
    inner.write(test_honest=SCENARIOS)
    code, said = inner.run()
    assert code == 0, said
    found = inner.results()

    def rows(name: str) -> dict[str, int]:
        return {one["text"].split(" FROM ")[-1]: one["rows"] for one in found[name]["statements"]}

    assert sorted(rows("test_at_once").values()) == [3, 5]
    assert found["test_at_once"]["same_layout"] is False
    offices, staffs = found["test_rolls_back"]["statements"]
    assert offices["plans"][0]["buffers"] > 0
    assert staffs["plans"][0]["buffers"] > 0
    assert found["test_rolls_back"]["same_layout"] is True
    elsewhere = found["test_only_elsewhere"]
    assert elsewhere["same_layout"] is False
    assert any("reports no plans" in line for line in elsewhere["not_captured"])
    second = found["test_second_connection"]
    assert second["same_layout"] is False
    assert any("several connections" in line for line in second["not_captured"])
    others = found["test_other_cursors"]
    assert [len(one["plans"]) for one in others["statements"]] == [1, 1]
    assert any("does not instrument" in line for line in others["not_captured"])
    assert rows("test_cursor_twice") == {"offices": 10, "staffs": 51}


CONNECTS = """
import asyncio
import pytest
from perfdata.perf.capture.connections import connect_psycopg, connect_psycopg_async, make_engine

pytestmark = pytest.mark.perf(dataset="10_offices")
URL = "postgresql://u:TOP" + "SECRET@127.0.0.1:1/db"

def test_engine(perf):
    make_engine(URL).connect()

def test_psycopg(perf):
    connect_psycopg(URL)

def test_async_psycopg(perf):
    asyncio.run(connect_psycopg_async(URL))
"""


def test_a_password_is_in_no_output(inner: Pytest) -> None:
    inner.write(test_connects=CONNECTS)
    code, said = inner.run()
    assert code == 1
    for name in ("engine", "psycopg", "async_psycopg"):
        assert f"FAILED test_connects.py::test_{name} - perfdata.errors.ConnectError" in said
    assert "can't connect to the clone" in said
    assert "TOPSECRET" not in said


def test_what_workers_say_is_told_once(inner: Pytest) -> None:
    inner.write(test_honest=SCENARIOS)
    assert inner.run("-k", "rolls_back")[0] == 0  # so that the template is there
    code, said = inner.run("-n2", "-k", "rolls_back or second")
    assert code == 0, said
    assert said.count("cloning 10_offices from an existing template") == 1


UNJUDGED = """
import pytest
from sqlalchemy import text

pytestmark = pytest.mark.perf(dataset="10_offices", max_queries=1)
QUERY = text("SELECT count(*) FROM offices")


@pytest.mark.asyncio
async def test_async_session(perf_async_session):
    for _ in range(3):
        assert (await perf_async_session.execute(QUERY)).scalar_one() == 10


def test_session(perf_session):
    perf_session.execute(QUERY)


def test_engine(perf_engine):
    with perf_engine.connect() as connection:
        connection.execute(QUERY)


def test_url(perf_clone_url):
    pass


def test_not_called(perf):
    perf.session.execute(QUERY)


def test_caught(perf):
    with pytest.raises(ZeroDivisionError), perf.measure():
        1 / 0


def test_no_fixture():
    pass


@pytest.mark.perf(max_queries=None, buffers_percent=5)
def test_threshold(perf_session):
    pass


@pytest.mark.asyncio
async def test_too_many(perf, perf_async_session):
    async with perf.measure(of=perf_async_session):
        for _ in range(3):
            await perf_async_session.execute(QUERY)


@pytest.mark.asyncio
async def test_measured(perf, perf_async_session):
    async with perf.measure(of=perf_async_session):
        await perf_async_session.execute(QUERY)


@pytest.mark.perf(max_queries=None)
def test_no_limit(perf_session):
    pass


def test_skipped(perf_session):
    pytest.skip("not here")


@pytest.mark.xfail(raises=ZeroDivisionError, strict=True)
def test_fails_as_expected(perf_session):
    1 / 0


@pytest.mark.perf("slow")
@pytest.mark.perf(max_queries=None)
def test_of_another_plugin():
    pass
"""


@pytest.mark.parametrize("workers", [(), ("-n2",)], ids=("here", "in workers"))
def test_a_test_whose_budgets_nothing_was_held_to_fails(
    inner: Pytest, workers: tuple[str, ...]
) -> None:
    inner.write(test_unjudged=UNJUDGED)
    loop = ("-p", "asyncio", "-o", "asyncio_default_fixture_loop_scope=function")
    code, said = inner.run("-rA", *loop, *workers)
    assert code == 1, said
    lines = said.partition("short test summary info")[2].splitlines()
    ended = {
        name.partition(" ")[0]: outcome
        for outcome, _, name in (line.partition(" test_unjudged.py::test_") for line in lines)
        if name
    }
    unjudged = {
        "async_session", "session", "engine", "url", "not_called", "caught", "no_fixture",
        "threshold",
    }  # fmt: skip
    assert ended == {
        **dict.fromkeys({*unjudged, "too_many"}, "FAILED"),
        **dict.fromkeys(("measured", "no_limit", "of_another_plugin"), "PASSED"),
        "fails_as_expected": "XFAIL",
    }
    assert said.count("but nothing was measured in this test: only perf counts statements") >= 8
    assert "the marker perf sets buffers_percent, but nothing" in said
    assert "too_many on 10_offices: 3 queries, max_queries is 1" in said
    assert own_frames(said) == []

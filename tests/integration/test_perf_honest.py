"""What a capture can't tell exactly is said, and not judged; what others do is not mixed in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from perfdata.perf.tally import Tally
from tests.integration.inner import PROJECT, Pytest

if TYPE_CHECKING:
    from pathlib import Path

    from perfdata import Settings

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


def test_what_is_not_exact_is_told(tmp_path: Path, settings: Settings) -> None:
    (tmp_path / "pyproject.toml").write_text(PROJECT, encoding="utf-8")
    inner = Pytest(tmp_path, settings.home)
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
    second = found["test_second_connection"]
    assert second["same_layout"] is False
    assert any("several connections" in line for line in second["not_captured"])
    others = found["test_other_cursors"]
    assert [len(one["plans"]) for one in others["statements"]] == [1, 1]
    assert any("other cursors" in line for line in others["not_captured"])
    assert rows("test_cursor_twice") == {"offices": 10, "staffs": 51}


@pytest.mark.parametrize(
    ("query", "wrote"),
    [
        ("-- find\nSELECT 1", False),
        ("/* a */ ( SELECT 1 )", False),
        ("-- SELECT\nUPDATE t SET a = 1", True),
        ("begin; update t set a = 1; commit", True),
    ],
)
def test_what_writes_is_known_behind_comments_and_in_scripts(query: str, *, wrote: bool) -> None:
    tally = Tally(None)
    tally.begin(query, None)
    assert tally.wrote is wrote
    assert tally.queries == 1

"""A scenario whose commits stay has a handful of rounds on fresh clones, and the table says so."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.integration.inner import Pytest

WRITES = """
import pytest
from perfdata.welfare.models import Office
from sqlalchemy import select, update

pytestmark = pytest.mark.perf(dataset="10_offices")

def rename(engine):
    with engine.begin() as connection:
        old = connection.scalar(select(Office.name).order_by(Office.id))
        connection.execute(update(Office).values(name="renamed"))
        return old

@pytest.mark.perf(on="engine")
def test_rename(perf):
    assert perf(rename) != "renamed"

@pytest.mark.perf(on="psycopg")
@pytest.mark.benchmark(min_rounds=2)
def test_few(perf):
    def write(connection):
        connection.execute("UPDATE offices SET name = 'a'")
        connection.commit()

    perf(write)

@pytest.mark.perf(on="engine")
def test_reads(perf):
    def read(engine):
        with engine.connect() as connection:
            return connection.execute(select(Office)).all()

    assert len(perf(read)) == 10
"""


def test_each_round_of_a_write_is_on_a_fresh_clone(inner: Pytest) -> None:
    inner.write(test_writes=WRITES)
    code, said = inner.run("--benchmark-max-time=0.5")
    assert code == 0, said
    times = {name: one["time"] for name, one in inner.results().items()}
    counts = {name: (time["rounds"], time["fresh_clones"]) for name, time in times.items()}
    assert counts["test_rename"] == (3, 3)
    assert counts["test_few"] == (2, 2)
    rounds, clones = counts["test_reads"]
    assert (rounds > 3, clones) == (True, 0)
    table = said.partition("= perfdata =")[2]
    (line,) = (line for line in table.splitlines() if line.startswith("rename "))
    assert "s (3 clones)" in line
    summary = (inner.home / "results" / "summary.md").read_text(encoding="utf-8")
    assert "s (3 clones)" in summary

"""freeze_time: code that reads the clock reads as_of, and nothing that times a round stands."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.integration.inner import Pytest

pytestmark = pytest.mark.slow

CLOCK = """
import time
import uuid
from datetime import UTC, date, datetime

import pytest
from perfdata.welfare.models import Office
from sqlalchemy import DateTime, MetaData, Table, Column, Integer, insert, select

pytestmark = pytest.mark.perf(dataset="10_offices")
notes = Table(
    "notes", MetaData(),
    Column("id", Integer, primary_key=True),
    Column("written", DateTime, default=datetime.now),
)


def clocks(session):
    began = time.perf_counter(), time.monotonic()
    time.sleep(0.002)
    assert time.perf_counter() > began[0] and time.monotonic() > began[1]
    session.execute(select(Office.id))
    instants = datetime.now(UTC), datetime.fromtimestamp(time.time(), UTC)
    return {date.today(), datetime.now().date(), *(each.date() for each in instants)}


def write(session):
    notes.create(session.connection())
    session.execute(insert(notes))
    return session.scalar(select(notes.c.written)).date()


@pytest.mark.perf(freeze_time=True)
def test_stands(perf):
    as_of = perf.dataset.as_of
    assert date.today() == as_of
    assert perf(clocks) == {as_of}
    assert datetime.now(UTC).hour == 12


@pytest.mark.perf(freeze_time=True)
def test_python_side_default(perf):
    assert perf(write) == perf.dataset.as_of


@pytest.mark.perf(freeze_time=True, max_growth=2, growth="small")
def test_growth(perf):
    assert perf(clocks) == {perf.dataset.as_of}


@pytest.mark.perf(freeze_time=True)
def test_without_perf(perf_session):
    assert date.today() != TODAY


def test_goes(perf):
    assert perf(clocks) == {TODAY}


TODAY = date.today()
"""


def test_code_that_reads_the_clock_reads_as_of(inner: Pytest) -> None:
    inner.write(test_clock=CLOCK.replace(', max_growth=2, growth="small"', ""))
    code, said = inner.run("test_clock.py", "--benchmark-max-time=0.05")
    assert code == 0, said
    for result in inner.results().values():
        assert 0 < result["time"]["min_s"] < 10
        assert result["time"]["rounds"] >= 3
    code, said = inner.run("test_clock.py", "-k", "stands", "--benchmark-timer=time.time")
    assert code == 1, said
    assert "freeze_time=True stops time.time(), which pytest-benchmark would time" in said


def test_in_any_time_zone_and_before_growth_is_measured(inner: Pytest) -> None:
    """The other dataset's template is made while the clock goes: they are removed by their age."""
    inner.write(test_clock=CLOCK.replace('growth="small"', 'growth="100_offices"'))
    for zone in ("Pacific/Pago_Pago", "Asia/Tokyo"):
        code, said = inner.run("test_clock.py", "-k", "stands or growth", TZ=zone)
        assert code == 0, said
    assert inner.results()["test_growth"]["growth"]


def test_without_time_machine_the_error_names_it(inner: Pytest, tmp_path: Path) -> None:
    (tmp_path / "missing").mkdir()
    (tmp_path / "missing" / "time_machine.py").write_text(
        "raise ModuleNotFoundError(\"No module named 'time_machine'\", name='time_machine')\n"
    )
    inner.write(test_clock=CLOCK)
    off = ("-p", "no:time_machine")
    path = str(tmp_path / "missing")
    code, said = inner.run("test_clock.py", "-k", "stands", *off, PYTHONPATH=path)
    assert code == 1, said
    assert "freeze_time=True needs time-machine, which is not installed" in said
    assert "Run: pip install time-machine" in said

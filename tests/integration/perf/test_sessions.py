"""Perf tests as applications are written: own session classes, sessions by keyword, packages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.integration.inner import PROJECT

if TYPE_CHECKING:
    from pathlib import Path

    from tests.integration.inner import Pytest

SESSIONS = """
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

class OwnSession(Session):
    def exec(self, statement):
        return self.scalars(statement)

class OwnAsyncSession(AsyncSession):
    async def exec(self, statement):
        return await self.scalars(statement)
"""

TESTS = """
import pytest
from own_sessions import OwnAsyncSession, OwnSession
from perfdata.welfare.models import Office
from sqlalchemy import select

pytestmark = pytest.mark.perf(dataset="10_offices", max_queries=1)
OFFICES = select(Office)

def first(*, count, db):
    return db.exec(OFFICES.limit(count)).all()

async def first_async(*, count, db):
    return (await db.exec(OFFICES.limit(count))).all()

def connect(count, *, engine):
    with engine.connect() as connection:
        return connection.execute(OFFICES.limit(count)).all()

def test_class(perf):
    assert type(perf.session) is OwnSession
    assert len(perf(lambda session: session.exec(OFFICES).all())) == 10

def test_async_class(perf):
    async def scenario(session):
        return type(session), len((await session.exec(OFFICES)).all())

    assert perf(scenario) == (OwnAsyncSession, 10)

@pytest.mark.perf(session="db")
def test_keyword(perf):
    assert len(perf(first, count=3)) == 3

@pytest.mark.perf(session="db")
def test_async_keyword(perf):
    assert len(perf(first_async, count=3)) == 3

@pytest.mark.perf(session="engine", on="engine")
def test_engine_by_keyword(perf):
    assert len(perf(connect, 3)) == 3

@pytest.mark.perf(session="db")
def test_passed_twice(perf):
    perf(first, count=3, db=perf.session)

@pytest.mark.asyncio
@pytest.mark.perf(max_queries=None)
async def test_fixture(perf_async_session):
    assert type(perf_async_session) is OwnAsyncSession
    assert len((await perf_async_session.exec(OFFICES)).all()) == 10
"""


def settings(inner: Pytest, *lines: str) -> None:
    """Add lines to the project's settings."""
    text = PROJECT.replace("[tool.pytest", "\n".join([*lines, "[tool.pytest"]))
    (inner.folder / "pyproject.toml").write_text(text, encoding="utf-8")


def test_sessions_are_of_the_projects_class_and_passed_by_the_markers_keyword(
    inner: Pytest,
) -> None:
    settings(
        inner,
        'session_class = "own_sessions:OwnSession"',
        'async_session_class = "own_sessions:OwnAsyncSession"',
    )
    inner.write(own_sessions=SESSIONS, test_written=TESTS)
    loop = ("-p", "asyncio", "-o", "asyncio_default_fixture_loop_scope=function")
    code, said = inner.run("test_written.py", *loop)
    assert code == 1, said
    assert "6 passed" in said, said
    assert "FAILED test_written.py::test_passed_twice" in said
    assert "perf(…, db=…) passes the argument that perf() itself passes, as the marker says" in said


def test_a_class_that_is_no_session_is_refused(inner: Pytest) -> None:
    settings(inner, 'session_class = "own_sessions:OwnAsyncSession"')
    inner.write(own_sessions=SESSIONS, test_written=TESTS.partition("@pytest")[0])
    code, said = inner.run("test_written.py", "-k", "test_class")
    assert code == 1, said
    assert (
        "[tool.perfdata] session_class 'own_sessions:OwnAsyncSession' is no subclass of "
        "SQLAlchemy's Session" in said
    )


SHOP = """
from perfdata.welfare.models import Staff
from sqlalchemy import select

def name_of(session, staff):
    return session.scalar(select(Staff.last_name).where(Staff.id == staff))

def names(session):
    return [name_of(session, staff) for staff in session.scalars(select(Staff.id)).all()]
"""

REPORT = """
import pytest
from shop import service

pytestmark = pytest.mark.perf(dataset="10_offices")

def test_names(perf):
    perf(service.names)

@pytest.mark.perf(own_packages="shop")
def test_own(perf):
    perf(service.names)

@pytest.mark.perf(own_packages=("shop", "shpo"))
def test_misspelled(perf):
    perf(service.names)
"""


def test_an_n_plus_one_of_an_installed_application_names_its_lines(
    inner: Pytest, tmp_path: Path
) -> None:
    installed = tmp_path / "lib" / "site-packages"
    (installed / "shop").mkdir(parents=True)
    (installed / "shop" / "service.py").write_text(SHOP, encoding="utf-8")
    inner.write(test_report=REPORT)
    code, said = inner.run("test_report.py", PYTHONPATH=str(installed))
    assert code == 1, said
    service = "lib/site-packages/shop/service.py"
    assert "N+1: test_report.py:8 in test_names sent one statement 51 times" in said
    assert f"{service}:6 in name_of, called in a loop at " in said
    assert f"{service}:9 in names" in said
    assert "own_packages names 'shpo', which is not installed" in said
    (source,) = inner.results()["test_own"]["statements"][1]["sources"]
    assert source["loop"].partition(" in ")[0].endswith(f"{service}:9")
    settings(inner, 'own_packages = ["shop"]')
    code, said = inner.run("test_report.py", "-k", "test_names", PYTHONPATH=str(installed))
    assert f"{service}:6 in name_of, called in a loop at " in said

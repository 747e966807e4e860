"""Passwords that a perf test can know are in nothing that pytest or perfdata writes."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus

import psycopg
import pytest
from psycopg import sql

from perfdata import Settings, open_target
from perfdata.server.embedded import EmbeddedServer
from tests.homes import free_port, project_home
from tests.integration.inner import Pytest
from tests.processes import run_script

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow

PASSWORD = "Pa:ss@w/o%rd 'x' + \\ ende"
TESTS = """
import os
import warnings

import pytest
from psycopg.conninfo import make_conninfo
from sqlalchemy import text

pytestmark = pytest.mark.perf(dataset="10_offices")


def test_compared(perf_clone_url):
    assert perf_clone_url == "postgresql+psycopg://of/another"


def test_differs_behind_the_password(perf_clone_url):
    assert perf_clone_url == perf_clone_url.replace("@127", "@9")


def test_differs_before_the_password(perf_clone_url):
    assert perf_clone_url == perf_clone_url.replace("app:", "apx:")


def test_decoded(perf_engine):
    assert perf_engine.url.password == "of another"


def test_decoded_in_a_list(perf_engine):
    assert [perf_engine.url.password] == []


def test_written_by_sqlalchemy(perf_engine):
    assert perf_engine.url.render_as_string(hide_password=False) == ""


def test_conninfo(perf_engine):
    raise RuntimeError(make_conninfo("", password=perf_engine.url.password))


def test_of_the_environment():
    assert os.environ["PERFDATA_DATABASE_URL"] == os.environ["PGPASSWORD"]


def test_captured(perf_clone_url, record_property):
    print(perf_clone_url)
    record_property("url", perf_clone_url)


def test_warned(perf_clone_url):
    warnings.warn(perf_clone_url)


def test_skipped(perf_clone_url):
    pytest.skip(perf_clone_url)


@pytest.mark.perf(max_queries=0)
def test_sent(perf, perf_engine):
    query = text("SELECT length($$" + perf_engine.url.password.replace(":", "\\\\:") + "$$)")
    perf(lambda session: session.scalar(query))


@pytest.fixture
def broken(perf_clone_url):
    raise RuntimeError(perf_clone_url)


def test_broken(broken):
    pass
"""


@pytest.fixture(scope="module")
def own_settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """A home whose server listens on a port, and whose results hold nobody else's."""
    with project_home(tmp_path_factory.mktemp("redaction")) as settings:
        yield settings


@pytest.fixture
def inner(tmp_path: Path, own_settings: Settings) -> Pytest:
    return Pytest(tmp_path, own_settings.home)


@pytest.fixture(scope="module")
def secret_url(own_settings: Settings) -> str:
    """The URL of a role whose password holds what URLs encode."""
    port = free_port()
    EmbeddedServer(own_settings).start(port)
    with psycopg.connect(open_target(own_settings).conninfo, autocommit=True) as connection:
        role = sql.SQL("CREATE ROLE app LOGIN SUPERUSER PASSWORD {}")
        connection.execute(role.format(PASSWORD))
    return f"postgresql://app:{quote(PASSWORD, safe='')}@127.0.0.1:{port}/perfdata"


@pytest.mark.parametrize("options", [(), ("-vv", "-n2")], ids=("here", "in workers"))
def test_a_password_is_in_nothing_that_is_written(
    tmp_path: Path, inner: Pytest, secret_url: str, options: tuple[str, ...]
) -> None:
    inner.write(test_secrets=TESTS)
    job, junit = tmp_path / "job.md", tmp_path / "junit.xml"
    code, said = inner.run(
        *("-rA", "-W", "default", f"--junitxml={junit}", *options),
        PERFDATA_DATABASE_URL=secret_url,
        PGPASSWORD=PASSWORD,
        GITHUB_STEP_SUMMARY=str(job),
    )
    assert code == 1, said
    assert "9 failed, 2 passed, 1 skipped" in said, said
    drawn = run_script(tmp_path, "perfdata", "perf.report", PERFDATA_HOME=str(inner.home))
    assert drawn.returncode == 0
    results = inner.home / "results"
    written = {
        "the terminal": said,
        **{path.name: path.read_text("utf-8") for path in (job, junit, *results.iterdir())},
    }
    assert {"perf.json", "summary.md", "report.html", "history.jsonl"} <= written.keys()
    for place in ("the terminal", "job.md", "perf.json", "summary.md", "report.html", "junit.xml"):
        assert "app:***@127.0.0.1" in written[place], place
    forms = {PASSWORD, repr(PASSWORD)[1:-1], *(quote(PASSWORD, one) for one in ("", " +"))}
    for name, text in written.items():
        for form in {*forms, quote_plus(PASSWORD)}:
            assert form not in text, name
            assert form[-6:] not in text, name
            assert form[:6] not in text, name


SHORT = """
import pytest

@pytest.mark.perf(dataset="10_offices")
def test_short(perf_clone_url):
    assert perf_clone_url == ""
"""


def test_short_passwords_leave_the_rest_of_a_report_legible(inner: Pytest, secret_url: str) -> None:
    """A password of three letters, or the user's name, is redacted where a URL has it alone."""
    inner.write(test_app=SHORT)
    with psycopg.connect(secret_url, autocommit=True) as connection:
        connection.execute("ALTER ROLE app PASSWORD 'app'")
    short = f"postgresql://app:app@{secret_url.rpartition('@')[2]}"
    code, said = inner.run(PERFDATA_DATABASE_URL=short)
    with psycopg.connect(short, autocommit=True) as connection:
        connection.execute(sql.SQL("ALTER ROLE app PASSWORD {}").format(PASSWORD))
    assert code == 1, said
    assert "app:app@" not in said
    assert "postgresql+psycopg://app:***@127.0.0.1" in said
    assert "FAILED test_app.py::test_short" in said

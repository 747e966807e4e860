"""The variables of an application in pytest: set for perf tests before its code is imported."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.integration.databases import mark_owned, run
from tests.integration.env_shop import EnvShop, env_shop
from tests.integration.inner import entry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow

CONFTEST = """
import shop
from urllib.parse import urlsplit

PORT = int(shop.settings["POSTGRES_PORT"])
assert urlsplit(shop.URL).path == "/perfdata"
assert urlsplit(shop.URL).port == PORT
"""
TESTS = """
import pytest
import shop
from sqlalchemy import text

pytestmark = pytest.mark.perf(dataset="some")


def count(session):
    return session.scalar(text("SELECT count(*) FROM items"))


def test_the_clone_comes_by_the_fixtures(perf):
    shop.connect()
    assert perf(count) == 2
    assert perf.session.scalar(text("SELECT current_database()")) != "perfdata"


def test_shows_the_url(perf_session):
    raise RuntimeError(shop.URL)
"""
COLLECTION = """
import os
raise RuntimeError(f"no application at {os.environ['DATABASE_URL']}")
"""
EMPTIES = """
import os
import psycopg
import pytest


@pytest.fixture(scope="session", autouse=True)
def emptied():
    with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
        connection.execute("DELETE FROM items")
"""
TARGET = """
import shop


def test_target(perf_url):
    assert perf_url.endswith("/real")
    assert shop.URL.endswith("/not_owned_by_perfdata")
"""
UNIT_TEST = """
import shop


def test_unit():
    assert shop.URL.endswith("/live")
    assert "POSTGRES_PORT" not in shop.settings
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EnvShop]:
    """The application, in a folder named like that of perf tests.

    The database of its .env is not connected to.
    """
    for made in env_shop(tmp_path_factory.mktemp("env") / "tests" / "perf"):
        before = made.live_used()
        made.perf_test(conftest=CONFTEST, test_items=TESTS)
        yield made
        assert made.live_used() == before


@pytest.mark.parametrize("workers", [(), ("-n2", "-W", "ignore")], ids=("here", "in workers"))
def test_perf_tests_import_the_application_with_them_and_show_no_password(
    shop: EnvShop, workers: tuple[str, ...]
) -> None:
    done = shop.pytest("tests/perf", *workers)
    assert "1 failed, 1 passed" in done.stdout, done.stdout
    assert "RuntimeError: postgresql://perfdata:***@127.0.0.1:" in done.stdout, done.stdout
    assert _password(shop) not in done.stdout


def test_an_error_of_the_collection_shows_no_password(shop: EnvShop) -> None:
    shop.perf_test(test_broken=COLLECTION)
    done = shop.pytest("tests/perf/test_broken.py")
    (shop.folder / "tests" / "perf" / "test_broken.py").unlink()
    assert "no application at postgresql://perfdata:***@127.0.0.1:" in done.stdout
    assert _password(shop) not in done.stdout


def test_a_session_with_other_tests_leaves_the_applications_own(shop: EnvShop) -> None:
    """Which may empty the database that they find there."""
    shop.perf_test(conftest="", test_items=TESTS.replace("    shop.connect()\n", ""))
    (shop.folder / "tests" / "test_unit.py").write_text(UNIT_TEST)
    done = shop.pytest("-k", "test_unit or test_the_clone")
    assert "2 passed" in done.stdout, done.stdout
    assert "perfdata: the variables of [tool.perfdata] environment are not set" in done.stdout
    done = shop.pytest("--perf-only", "-k", "test_the_clone")
    assert "1 passed" in done.stdout, done.stdout
    assert "are not set" not in done.stdout


def test_testpaths_count_where_pytest_reads_them(shop: EnvShop) -> None:
    """In the root only, and not where they match nothing."""
    test = 'import os\n\ndef test_set():\n    assert "POSTGRES_PORT" in os.environ\n'
    shop.perf_test(conftest="", test_set=test)
    tests = shop.folder / "tests"
    (tests / "test_unit.py").write_text(UNIT_TEST)
    options = ("-k", "test_set or test_unit", "-otestpaths=tests/perf")
    assert "1 passed" in shop.pytest(*options).stdout
    inside = shop.pytest(*options, cwd=tests)
    missing = shop.pytest(*options[:2], "-otestpaths=nothing/tests/perf", "-Wdefault")
    for done in (inside, missing):
        assert "1 failed, 1 passed" in done.stdout, done.stdout
        assert "KeyError" not in done.stdout
        assert "test_set.py::test_set - " in done.stdout
    (tests / "perf" / "test_set.py").unlink()


@pytest.mark.parametrize(
    ("listed", "owned", "said"),
    [
        (False, True, "refused: perfdata replaces rows only"),
        (True, False, "perfdata does not own 127.0.0.1:"),
        (True, True, ""),
    ],
)
def test_only_a_database_that_perfdata_owns_is_given_to_fixtures_that_empty_it(
    shop: EnvShop, tmp_path: Path, *, listed: bool, owned: bool, said: str
) -> None:
    shop.perf_test(conftest=EMPTIES, test_target="def test_nothing(): pass\n")
    with real_database(shop, owned=owned) as url:
        done = shop.pytest(
            *("tests/perf/test_target.py", "--tb=short"),
            PERFDATA_DATABASE_URL=url,
            PERFDATA_HOME=str(tmp_path),
            PERFDATA_ALLOW=entry(url) if listed else "",
        )
        assert (done.returncode == 0) is (said == ""), done.stdout
        assert said in done.stdout
        assert "Traceback" not in done.stdout
        left = run(url, "SELECT count(*) FROM items")
    assert left == [(0 if listed and owned else 1,)]


def test_a_session_says_that_the_variables_lead_nowhere(shop: EnvShop, tmp_path: Path) -> None:
    shop.perf_test(conftest="", test_target=TARGET)
    with real_database(shop, owned=False) as url:
        done = shop.pytest(
            "tests/perf/test_target.py",
            PERFDATA_DATABASE_URL=url,
            PERFDATA_HOME=str(tmp_path),
            PERFDATA_ALLOW=entry(url),
        )
    assert "1 passed" in done.stdout, done.stdout
    assert f"perfdata does not own {entry(url)}" in done.stdout
    assert f"perfdata db.adopt --name {entry(url)}" in done.stdout


@contextmanager
def real_database(shop: EnvShop, *, owned: bool) -> Iterator[str]:
    """Make a database with a row, as another home's server has it; yield its URL."""
    maintenance = shop.server.conninfo("postgres")
    url = shop.server.status().url("real", password=True)
    run(maintenance, "CREATE DATABASE real")
    try:
        run(url, "CREATE TABLE items (id int)", "INSERT INTO items VALUES (1)")
        if owned:
            mark_owned(url)
        yield url
    finally:
        run(maintenance, "DROP DATABASE real")
        (shop.folder / "tests" / "perf" / "test_target.py").unlink()
        shop.perf_test(conftest="")


def test_settings_that_cannot_be_read_end_a_session_of_perf_tests(shop: EnvShop) -> None:
    pyproject = shop.folder / "pyproject.toml"
    before = pyproject.read_text()
    pyproject.write_text(before.replace("{url}", "{uri}"))
    done = shop.pytest("tests/perf")
    (shop.folder / "tests" / "test_plain.py").write_text("def test_plain(): pass\n")
    plain = shop.pytest("tests/test_plain.py")
    pyproject.write_text(before)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "environment.DATABASE_URL has an unknown placeholder {uri}; there are {url}" in (
        done.stdout
    )
    assert "Traceback" not in done.stdout
    assert "1 passed" in plain.stdout


def _password(shop: EnvShop) -> str:
    return (shop.settings.home / "server" / "password").read_text()

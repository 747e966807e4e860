"""Errors of perfdata's in whole pytest sessions: the sentence, and the user's own line."""

from __future__ import annotations

import re

import psycopg
import pytest

from tests.integration.inner import Pytest, entry, own_frames

SCENARIOS = """
import pytest
from sqlalchemy import func, select
from perfdata.welfare.models import Office

pytestmark = pytest.mark.perf(dataset="10_offices")

def count(session):
    return session.scalar(select(func.count(Office.id)))

def test_damaged(perf):
    perf(count)

def test_twice(perf):
    perf(lambda session: count(session))
    assert perf.dataset
    perf(count)
"""


CHAINED = ("direct cause", "During handling", "Traceback", "json/decoder")


@pytest.fixture
def broken(inner: Pytest) -> Pytest:
    inner.write(test_it=SCENARIOS)
    return inner


def test_an_error_in_a_test_is_its_sentence_below_the_tests_own_lines(broken: Pytest) -> None:
    damaged = broken.folder / "baselines" / "pg18" / "count.10_offices.json"
    damaged.parent.mkdir(parents=True)
    damaged.write_text("{")
    code, said = broken.run()
    assert code == 1
    shown = said.partition(" FAILURES ")[2].partition(" perfdata ")[0]
    one, _, other = shown.partition(" test_twice ")
    for text, sentence in ((one, "json is damaged (JSON"), (other, "perf() was already called")):
        assert ">       perf(count)\n" in text
        assert text.count(sentence) == 1
        assert "\ntest_it.py:" in text
        assert not [words for words in CHAINED if words in text], text
        assert own_frames(text) == []
    whole = broken.run("--full-trace")[1]
    assert "direct cause" in whole
    assert own_frames(whole)


@pytest.mark.parametrize(
    ("role", "sentence"),
    [("nobody", "can't connect to nobody@"), ("poor", "role poor may not read which")],
)
def test_an_error_before_a_test_is_one_sentence(
    broken: Pytest, database_url: str, role: str, sentence: str
) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("CREATE ROLE poor LOGIN")
        try:
            url = re.sub("//[^@]*@", f"//{role}@", database_url)
            code, said = broken.run(PERFDATA_DATABASE_URL=url, PERFDATA_ALLOW=entry(url))
        finally:
            connection.execute("DROP ROLE poor")
    assert code == 1
    shown = said.partition(" ERROR at setup of test_damaged ")[2].partition("\n____")[0]
    assert shown.count(sentence) == 1
    assert not [words for words in CHAINED if words in shown], shown
    assert own_frames(shown) == []

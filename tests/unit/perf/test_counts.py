from __future__ import annotations

import json
from pathlib import Path

import pytest

from perfdata.callers import Callers
from perfdata.perf.capture.counts import StatementCounter

RECORDED = json.loads((Path(__file__).parent / "recorded_plans.json").read_text(encoding="utf-8"))
UPDATE = "update big set name='y' where id = %s"
HERE = "tests/unit/perf/test_counts.py"


def _tally() -> StatementCounter:
    return StatementCounter(Callers(Path(__file__).parents[3]), {"after_f()"})


def test_a_plan_that_comes_with_the_next_statement_is_the_last_ones() -> None:
    """So it is with an open transaction: the server drops a portal when it needs the next."""
    tally = _tally()
    *inner, own = RECORDED["18"]["triggers"]
    tally.begin(UPDATE, (7,))
    for one in inner:
        tally.message(one["message"], one["context"])
    tally.begin("SELECT 2", None)
    tally.message(own["message"], own["context"])
    update, other = tally.statements()
    assert [plan.calls for plan in update.plans] == [2, 1]
    assert update.plans[1].signature[0] == "Update on big"
    assert update.buffers == 2 + 2 + update.plans[1].buffers
    assert other.plans == ()
    assert tally.wrote


def test_plans_inside_of_what_has_none_of_its_own_stay_with_it() -> None:
    tally = _tally()
    inner = RECORDED["18"]["functions"][0]
    tally.begin("DO $$ BEGIN PERFORM count(*) FROM other; END $$", None)
    tally.message(inner["message"], inner["context"])
    tally.begin(UPDATE, (7,))
    own = RECORDED["18"]["triggers"][-1]
    tally.message(own["message"], own["context"])
    block, update = tally.statements()
    assert [plan.query for plan in block.plans] == ["SELECT COUNT(*) FROM other"]
    assert [plan.query for plan in update.plans] == [""]


def test_calls_of_a_line_are_counted_with_their_different_parameters() -> None:
    tally = _tally()
    for n in (1, 2, 2):
        tally.begin("SELECT %s", (n,))
    tally.begin("SELECT 3", None)
    tally.begin("COMMIT", None)
    (statement,) = tally.statements()
    assert (statement.calls, tally.queries) == (4, 4)
    assert [(one.file, one.calls, one.different) for one in statement.sources] == [
        (HERE, 3, 2),
        (HERE, 1, 1),
    ]
    assert statement.sources[0].function == (
        "test_calls_of_a_line_are_counted_with_their_different_parameters"
    )


def test_what_may_have_written() -> None:
    for query, wrote in {
        "SELECT 1": False,
        "WITH a AS (SELECT 1) SELECT * FROM a": False,
        "WITH a AS (DELETE FROM t RETURNING 1) SELECT * FROM a": True,
        "SELECT 1 FROM t FOR NO KEY UPDATE": True,
        "COPY (SELECT 1) TO STDOUT": False,
        "COPY t FROM STDIN": True,
        "CALL p()": True,
        "CREATE TEMPORARY TABLE t ()": True,
    }.items():
        tally = _tally()
        tally.begin(query, None)
        assert tally.wrote is wrote, query


def test_what_one_connection_tells_is_not_given_to_what_another_sent_since() -> None:
    tally, one, other = _tally(), object(), object()
    *inner, own = RECORDED["18"]["triggers"]
    tally.begin(UPDATE, (7,), one)
    tally.begin("SELECT 2", None, other)
    for message in (*inner, own):
        tally.message(message["message"], message["context"], one)
    assert tally.connections == 2
    update, quick = tally.statements()
    assert [plan.calls for plan in update.plans] == [2, 1]
    assert quick.plans == ()


def test_a_plan_of_what_nobody_counted_is_given_to_nothing() -> None:
    tally = _tally()
    own = RECORDED["18"]["triggers"][-1]
    tally.begin("SELECT 2", None)
    tally.message(own["message"], own["context"])
    (statement,) = tally.statements()
    assert statement.plans == ()
    assert tally.unmatched


@pytest.mark.parametrize(
    ("query", "wrote"),
    [
        ("-- find\nSELECT 1", False),
        ("/* a */ ( SELECT 1 )", False),
        ("-- SELECT\nUPDATE t SET a = 1", True),
        ("SELECT id INTO TEMP x FROM t", True),
        ("begin; update t set a = 1; commit", True),
    ],
)
def test_what_writes_is_known_behind_comments_and_in_scripts(query: str, *, wrote: bool) -> None:
    tally = StatementCounter(None)
    tally.begin(query, None)
    assert tally.wrote is wrote
    assert tally.queries == 1


def test_what_only_bounds_a_transaction_is_not_counted() -> None:
    tally = StatementCounter(None)
    for query in ("BEGIN", "-- now\nCOMMIT;", "/* a\nb */ ROLLBACK TO SAVEPOINT s"):
        assert tally.begin(query, None) is None
    assert tally.queries == 0

"""What parts of a long list are, and what N+1 with a long list in it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from perfdata.callers import Callers
from perfdata.perf.capture.counts import StatementCounter
from perfdata.perf.capture.statements import values_of

LONG = list(range(100))
VECTOR = [number / 7 for number in range(384)]


def _holes(number: int, hole: str = "%s") -> str:
    return ", ".join([hole] * number)


def _parts(calls: list[tuple[str, Any]], *, many: bool = False) -> tuple[int, int]:
    """Send calls from one line; return how many differ, and how many of these are further parts."""
    tally = StatementCounter(Callers(Path(__file__).parents[3]))
    for query, parameters in calls:
        tally.begin(query, parameters, many=many)
    (statement,) = tally.statements()
    (source,) = statement.sources
    return source.different, source.parts


def _shifted(by: int, size: int = 100) -> list[int]:
    return [one + by * 1_000 for one in range(size)]


@pytest.mark.parametrize(
    ("query", "parameters", "many"),
    [
        (f"SELECT a FROM t WHERE b IN ({_holes(100)})", tuple, False),
        ("SELECT a FROM t WHERE b IN ({values})", lambda _: None, False),
        (f"SELECT a FROM t WHERE (b, c) IN ({_holes(50, '(%s, %s)')})", tuple, False),
        (f"SELECT a FROM t WHERE c = %s AND b IN ({_holes(100)})", lambda p: (7, *p), False),
        (
            f"SELECT a FROM t WHERE b IN ({', '.join(f'${n + 1}::UUID' for n in LONG)})"
            " AND c = $101",
            lambda p: (*p, 7),
            False,
        ),
        (
            f"SELECT a FROM t WHERE b IN ({', '.join(f'%(b_{n})s::BIGINT' for n in LONG)})"
            " AND c LIKE %(c)s || '%%'",
            lambda p: {"c": "x", **{f"b_{n}": one for n, one in enumerate(p)}},
            False,
        ),
        ("SELECT a FROM t WHERE b = ANY (ARRAY[{values}])", lambda _: None, False),
        ("SELECT a FROM t WHERE b = ANY (%s)", lambda p: (p,), False),
        ("SELECT a FROM t WHERE b = ANY (%(b)s) AND c = %(c)s", lambda p: {"b": p, "c": 7}, False),
        ("UPDATE t SET a = n.a FROM unnest(%s, %s) n (b, a)", lambda p: (p, p), False),
        ("UPDATE t SET a = %s WHERE b = %s", lambda p: [(1, one) for one in p], True),
        (
            f"INSERT INTO t VALUES {_holes(100, '(%s::varchar(9))')} ON CONFLICT DO NOTHING",
            tuple,
            False,
        ),
    ],
)
def test_calls_that_differ_in_a_long_list_alone_are_its_parts(
    query: str, parameters: Any, *, many: bool
) -> None:
    lists = [_shifted(n) for n in range(12)]
    calls = [
        (query.replace("{values}", ", ".join(map(str, one))), parameters(one)) for one in lists
    ]
    assert _parts(calls, many=many) == (12, 11)


def test_the_last_part_may_be_shorter_and_a_short_one_counts() -> None:
    def call(size: int) -> tuple[str, Any]:
        holes = ", ".join(f"${n + 1}::UUID" for n in range(size))
        return f"SELECT a FROM t WHERE b IN ({holes}) AND c = ${size + 1}", (*range(size), 7)

    assert _parts([call(500), call(499), call(100)]) == (3, 2)
    assert _parts([call(500), call(499), call(99)]) == (3, 1)


def test_what_was_sent_with_other_values_beside_is_another_list() -> None:
    query = "SELECT a FROM t WHERE b = %s AND c = ANY (%s)"
    assert _parts([(query, (n % 2, _shifted(n))) for n in range(12)]) == (12, 10)


@pytest.mark.parametrize(
    ("query", "parameters"),
    [
        (f"SELECT a FROM t WHERE b = %s AND c IN ({_holes(200)})", lambda n: (n, *range(200))),
        (f"SELECT a FROM t WHERE c IN ({_holes(200)}) AND b = %s", lambda n: (*range(200), n)),
        (
            f"SELECT a FROM t WHERE b = {{n}} AND c IN ({_holes(200)})",
            lambda n: _shifted(n, 200),
        ),
        ("SELECT a FROM t WHERE b = %s AND c = ANY (%s)", lambda n: (n, LONG)),
        ("SELECT a FROM t WHERE b = %s AND c = ANY (%s)", lambda n: (n, _shifted(n))),
        ("SELECT a FROM t WHERE b = ANY (%s)", lambda n: (_shifted(n, 99),)),
        (f"SELECT a FROM t WHERE b IN ({_holes(12)})", lambda n: _shifted(n, 12)),
        (
            f"SELECT a FROM t WHERE {' AND '.join([f'b IN ({_holes(35)})'] * 3)}",
            lambda n: _shifted(n, 105),
        ),
        (f"UPDATE t SET {_holes(100, 'c = %s')} WHERE b = %s", lambda n: _shifted(n, 101)),
        (f"INSERT INTO t VALUES ({_holes(120)})", lambda n: _shifted(n, 120)),
        ("INSERT INTO t (a) VALUES (%s)", lambda n: (_shifted(n),)),
        ("INSERT INTO t (a) VALUES (%s)", lambda n: ([n, *VECTOR],)),
        (f"INSERT INTO t (a) VALUES (ARRAY[{_holes(384)}])", lambda n: _shifted(n, 384)),
        ("SELECT a FROM t ORDER BY b <-> %s LIMIT 5", lambda n: ([n / 3, *VECTOR],)),
        ("SELECT a FROM t WHERE b = %s", lambda n: (n,)),
    ],
)
def test_anything_else_is_sent_again_and_again(query: str, parameters: Any) -> None:
    """Columns are no list, however many they are, nor is a value that is an array."""
    calls = [(query.replace("{n}", str(n)), parameters(n)) for n in range(12)]
    assert _parts(calls) == (12, 0)


def test_a_batch_of_few_rows_is_no_part() -> None:
    query = "UPDATE t SET a = %s WHERE b = %s"
    batches = [[(1, one) for one in _shifted(n, 99)] for n in range(12)]
    assert _parts([(query, one) for one in batches], many=True) == (12, 0)


def test_a_batchs_values_tell_batches_apart() -> None:
    assert values_of("q", [(1,), (2,)]) == values_of("q", [(1,), (2,)])
    assert values_of("q", [(1,), (2,)]) != values_of("q", [(1,), (3,)])
    assert values_of("q", {"a": 1}) != values_of("q", {"a": 2})

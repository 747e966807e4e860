from __future__ import annotations

from typing import Any

import pytest

from tests.rehearsal.expressions import Expressions, Unsupported

CONTEXTS: dict[str, Any] = {
    "github": {"ref": "refs/heads/main", "event_name": "schedule"},
    "inputs": {},
    "job": {"services": {"postgres": {"ports": {"5432": "49153"}}}},
    "needs": {"perf": {"result": "failure"}},
}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("github.ref == 'refs/heads/main'", True),
        ("github.ref == 'REFS/heads/MAIN'", True),
        ("inputs.dataset || '100_offices'", "100_offices"),
        ("inputs.rebuild != 'true'", True),
        ("inputs.rebuild == ''", True),
        ("!(github.event_name == 'push') && needs.perf.result", "failure"),
        ("job.services.postgres.ports['5432']", "49153"),
        ("job.services.other.ports['5432']", None),
        ("format('{0}-{1}', 'a', 2)", "a-2"),
        ("'it''s'", "it's"),
        ("1 == '1'", True),
        ("null == 0", True),
        ("'x' == 0", False),
    ],
)
def test_values_are_githubs(text: str, value: object) -> None:
    assert Expressions(CONTEXTS).evaluate(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "github.ref > 1",
        "hashFiles('a')",
        "github.",
        "format('{{x}}')",
        "secrets.TOKEN",
        "github.ref ==",
        "(1",
        "1 2",
        "",
        "a b",
    ],
)
def test_what_is_not_known_is_not_passed_over(text: str) -> None:
    with pytest.raises(Unsupported):
        Expressions(CONTEXTS).evaluate(text)


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        (None, False),
        ("github.ref", False),
        ("always()", True),
        ("${{ !cancelled() }}", True),
        ("!cancelled() && github.event_name == 'schedule'", True),
        ("failure()", True),
        ("${{ !cancelled() && github.event_name == 'push' }}", False),
    ],
)
def test_a_condition_asks_for_success_unless_it_says_otherwise(
    condition: str | None, holds: bool
) -> None:
    status = {
        "success": lambda: False,
        "failure": lambda: True,
        "always": lambda: True,
        "cancelled": lambda: False,
    }
    assert Expressions(CONTEXTS, status).holds(condition) is holds


def test_texts_are_filled() -> None:
    filled = Expressions(CONTEXTS).fill("a ${{ github.ref }} b ${{ inputs.x }}c ${{ 1 == 1 }}")
    assert filled == "a refs/heads/main b c true"

"""Checks: what a result alone tells, without a baseline. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from perfdata.perf.comparison import shorten
from perfdata.perf.model import Finding, FindingKind, PlanSource

if TYPE_CHECKING:
    from collections.abc import Iterator

    from perfdata.perf.model import ScenarioResult, Source, StatementCount

_INSERT = re.compile(r"\s*INSERT\b", re.IGNORECASE)


def check(result: ScenarioResult) -> list[Finding]:
    """Return the repeated statements, which fail, and what is to be told besides."""
    return [*_repeated(result), *_misestimates(result), *_not_judged(result)]


def _repeated(result: ScenarioResult) -> Iterator[Finding]:
    """Find N+1: a line that sends one statement again and again, with other parameters.

    Rows that are inserted in batches are not, however many batches there are, nor are parts of a
    long list; what executemany sends is one call.
    """
    limit = result.budgets.max_repeats
    for statement in result.statements:
        if limit is None or _is_batch(statement):
            continue
        for source in statement.sources:
            if source.different - source.parts > limit:
                yield _repeat(statement, source, limit)


def _is_batch(statement: StatementCount) -> bool:
    return _INSERT.match(statement.text) is not None and statement.rows > statement.calls


def _repeat(statement: StatementCount, source: Source, limit: int) -> Finding:
    different = source.different - source.parts
    return Finding(
        FindingKind.REPEATED,
        fails=True,
        message=f"N+1: {source} sent {source.calls:,} times, with {different:,} different "
        f"parameters (max_repeats is {limit}): {shorten(statement.text)}",
        statement=statement.text,
        fingerprint=statement.fingerprint,
        new=source.calls,
    )


def _misestimates(result: ScenarioResult) -> Iterator[Finding]:
    for statement in result.statements:
        for one in statement.misestimates:
            yield Finding(
                FindingKind.MISESTIMATE,
                fails=False,
                message=f"misestimate: {one.node} was planned for {one.estimated:,} rows and gave "
                f"{one.actual:,}: {shorten(statement.text)}",
                statement=statement.text,
                fingerprint=statement.fingerprint,
                old=one.estimated,
                new=one.actual,
            )


def _not_judged(result: ScenarioResult) -> Iterator[Finding]:
    """Say which budgets hold for nothing, as what they limit was not counted."""
    no_plans = result.plan_source is PlanSource.NONE
    unjudged = {
        "max_buffers": no_plans or not result.same_layout,
        "max_temp_blocks": no_plans,
        "max_growth": not result.same_layout,
    }
    names = [
        name
        for name, is_so in unjudged.items()
        if is_so and getattr(result.budgets, name) is not None
    ]
    if names:
        why = "; ".join(result.not_captured) or "plans could not be captured"
        message = f"{' and '.join(names)} could not be judged: {why}"
        yield Finding(FindingKind.NOT_COMPARED, fails=False, message=message)

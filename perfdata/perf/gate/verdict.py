"""The verdict: check a result, compare it with its baseline, and raise the error of a failure."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from perfdata.errors import BudgetExceededError, NotJudgedError, RegressedError
from perfdata.perf.gate.advice import failure_lines, unjudged_lines
from perfdata.perf.gate.baselines import baseline_path, read_baseline, shared_baseline
from perfdata.perf.gate.excerpts import shorten
from perfdata.perf.gate.growth import (
    exponents,
    growth_findings,
    join_reasons,
    unjudged_block,
    unjudged_finding,
)
from perfdata.perf.gate.regressions import (
    DEFAULT_THRESHOLD,
    Threshold,
    compare_with_baseline,
)
from perfdata.perf.model import Finding, FindingKind, PlanSource, Verdict, broken_budgets

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from perfdata.perf.gate.growth import Point
    from perfdata.perf.model import ScenarioResult, Source, StatementCount

_NO_MEMORY = (
    "Python's memory was not measured, as that takes another run (a block runs once, and so does "
    "what writes without a clone) and tracemalloc for itself"
)
_NONE_SEEN = (
    "no statement was seen on the session that perf passed: does the code use its own engine? Give "
    "it the scenario's session or engine (docs/perf.md, The application's settings); max_queries=0 "
    "says that none is expected"
)
# What needs statements; max_repeats is always set, and memory is measured without them.
_OF_STATEMENTS = ("max_queries", "max_rows", "max_buffers", "max_temp_blocks", "max_growth")
_INSERT = re.compile(r"\s*INSERT\b", re.IGNORECASE)
_WARNED_TEXT = 100  # characters of a statement in a warning, which should fit on a line


@dataclass(frozen=True)
class Judge:
    """Judges the results of a test.

    ``root`` is the project's folder, ``folder`` the folder of the test's file, which contains the
    baselines; ``width`` is the terminal's, in columns. With ``strict``, a result that could not be
    judged fails too. ``measured`` are the tests that were judged so far, by their baselines.
    """

    root: Path
    folder: Path
    threshold: Threshold = DEFAULT_THRESHOLD
    width: int = 80
    strict: bool = False
    measured: dict[Path, str] = field(default_factory=dict)

    def judge(self, result: ScenarioResult, points: Sequence[Point] = ()) -> ScenarioResult:
        """Return the result with its findings.

        ``points`` are the scenario's runs on datasets of different sizes; a block has none, and a
        finding says that its growth was not judged. Raises BaselineError for an unreadable file,
        and ConfigError if another test has the same baseline.
        """
        found = check_result(result)
        growth = {}
        limit = result.budgets.max_growth
        if limit is not None and points:
            growth = exponents(points)
            found += growth_findings(points, limit, result.not_captured)
        elif limit is not None and result.same_layout:  # else check_result() found the reason
            found.append(unjudged_block())
        if not result.environment:
            return dataclasses.replace(result, findings=tuple(found), growth=growth)
        path = baseline_path(self.folder, result.environment, result.scenario, result.dataset)
        baseline = read_baseline(path, result.scenario, result.dataset)
        other = self.measured.setdefault(path, result.test)
        if baseline is not None:
            if other != result.test:
                raise shared_baseline(result, [other, result.test])
            found = [*compare_with_baseline(result, baseline, self.threshold), *found]
        return dataclasses.replace(
            result,
            findings=tuple(sorted(found, key=_order)),
            growth=growth,
            baseline=_shown(path, self.root),
            accepted=baseline is not None,
            accepted_counters=dict(baseline.counters) if baseline else {},
        )

    def raise_failure(self, result: ScenarioResult) -> None:
        """Raise RegressedError with all failures; BudgetExceededError if a budget is among them.

        A strict judge raises NotJudgedError for what could not be measured.
        """
        lines = failure_lines(result, self.root, self.width)
        if lines:
            kind = BudgetExceededError if broken_budgets(result) else RegressedError
            raise kind("\n".join(lines))
        if self.strict and result.verdict is Verdict.NOT_JUDGED:
            raise NotJudgedError("\n".join(unjudged_lines(result)))


def _order(finding: Finding) -> tuple[bool, bool]:
    """Sort failures first, and of these an N+1, which causes others."""
    return not finding.fails, finding.kind is not FindingKind.REPEATED


def _shown(path: Path, root: Path) -> str:
    return (path.relative_to(root) if path.is_relative_to(root) else path).as_posix()


def check_result(result: ScenarioResult) -> list[Finding]:
    """Return the findings that need no baseline: N+1, and budgets of no statement, fail.

    The others are information.
    """
    return [*_repeated(result), *_misestimates(result), *_unseen(result), *_not_judged(result)]


def _unseen(result: ScenarioResult) -> Iterator[Finding]:
    """Find that no statement was seen, which fails if the marker limits what statements do."""
    if result.statements or result.budgets.max_queries == 0:
        return
    limited = any(getattr(result.budgets, name) is not None for name in _OF_STATEMENTS)
    fails = limited and "queries" not in result.incomplete_counters
    yield Finding(FindingKind.NOT_JUDGED, fails=fails, message=_NONE_SEEN)


def _repeated(result: ScenarioResult) -> Iterator[Finding]:
    """Find N+1: a line that sends a statement repeatedly with different parameters.

    Batches of inserted rows and the parts of a long list are not N+1; executemany is one call.
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
    loop = f", called in a loop at {source.loop}," if source.loop else ""
    return Finding(
        FindingKind.REPEATED,
        fails=True,
        message=f"N+1: {source}{loop} sent one statement {source.calls:,} times with {different:,} "
        f"different parameters (max_repeats is {limit}): {shorten(statement.text)}",
        statement=statement.text,
        fingerprint=statement.fingerprint,
        new=source.calls,
    )


def _misestimates(result: ScenarioResult) -> Iterator[Finding]:
    for statement in result.statements:
        for wrong in statement.misestimates:
            yield Finding(
                FindingKind.MISESTIMATE,
                fails=False,
                message=f"misestimate: {wrong.node} estimated {wrong.estimated:,} rows, returned "
                f"{wrong.actual:,}: {shorten(statement.text, _WARNED_TEXT)}",
                statement=statement.text,
                fingerprint=statement.fingerprint,
                old=wrong.estimated,
                new=wrong.actual,
            )


def _not_judged(result: ScenarioResult) -> Iterator[Finding]:
    """Find the budgets that could not be judged, as what they limit was not measured."""
    no_plans = result.plan_source is PlanSource.NONE
    incomplete = result.incomplete_counters
    unjudged = {
        "max_queries": "queries" in incomplete,
        "max_rows": "rows" in incomplete,
        "max_buffers": no_plans or not result.same_layout,
        "max_temp_blocks": no_plans or "temp_blocks" in incomplete,
        "max_growth": not result.same_layout,
    }
    exceeded = {broken.name for broken in broken_budgets(result)}
    names = [
        name
        for name, is_so in unjudged.items()
        if is_so and getattr(result.budgets, name) is not None and name not in exceeded
    ]
    if names:
        why = join_reasons(result.not_captured) or "plans could not be captured"
        yield unjudged_finding(" and ".join(names), why)
    if result.budgets.max_memory_mb is not None and result.memory_bytes is None:
        yield unjudged_finding("max_memory_mb", _NO_MEMORY)

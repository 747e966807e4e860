"""The verdict: check a result, compare it with its baseline, and raise the error of a failure."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from perfdata.errors import BudgetExceededError, RegressedError
from perfdata.perf.gate.advice import failure_lines
from perfdata.perf.gate.baselines import baseline_path, read_baseline
from perfdata.perf.gate.excerpts import shorten
from perfdata.perf.gate.growth import exponents, growth_findings, unjudged_block
from perfdata.perf.gate.regressions import (
    DEFAULT_THRESHOLD,
    Threshold,
    compare_with_baseline,
)
from perfdata.perf.model import Finding, FindingKind, PlanSource, broken_budgets

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from perfdata.perf.gate.growth import Point
    from perfdata.perf.model import ScenarioResult, Source, StatementCount

_INSERT = re.compile(r"\s*INSERT\b", re.IGNORECASE)
_WARNED_TEXT = 100  # characters of a statement in a warning, which should fit on a line


@dataclass(frozen=True)
class Judge:
    """Judges the results of a test.

    ``root`` is the project's folder, ``folder`` the folder of the test's file, which contains the
    baselines; ``width`` is the terminal's, in columns.
    """

    root: Path
    folder: Path
    threshold: Threshold = DEFAULT_THRESHOLD
    width: int = 80

    def judge(self, result: ScenarioResult, points: Sequence[Point] = ()) -> ScenarioResult:
        """Return the result with its findings.

        ``points`` are the scenario's runs on datasets of different sizes; a block has none, and a
        finding says that its growth was not judged. Raises BaselineError for an unreadable file.
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
        if baseline is not None:
            found = [*compare_with_baseline(result, baseline, self.threshold), *found]
        return dataclasses.replace(
            result,
            findings=tuple(sorted(found, key=lambda finding: not finding.fails)),
            growth=growth,
            baseline=_shown(path, self.root),
            accepted=baseline is not None,
            accepted_counters=dict(baseline.counters) if baseline else {},
        )

    def raise_failure(self, result: ScenarioResult) -> None:
        """Raise RegressedError with all failures; BudgetExceededError if a budget is among them."""
        lines = failure_lines(result, self.root, self.width)
        if lines:
            kind = BudgetExceededError if broken_budgets(result) else RegressedError
            raise kind("\n".join(lines))


def _shown(path: Path, root: Path) -> str:
    return (path.relative_to(root) if path.is_relative_to(root) else path).as_posix()


def check_result(result: ScenarioResult) -> list[Finding]:
    """Return the findings that need no baseline: N+1 fails, the others are information."""
    return [*_repeated(result), *_misestimates(result), *_not_judged(result)]


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
    """Find the budgets that could not be judged, as their counters are missing."""
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

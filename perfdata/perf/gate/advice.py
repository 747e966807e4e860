"""Advice: describe failures, notices and warnings in lines of text, with the command that helps."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from perfdata.config import command
from perfdata.perf.capture.plans import side_by_side
from perfdata.perf.gate.excerpts import shorten
from perfdata.perf.gate.regressions import change
from perfdata.perf.model import FindingKind, PlanSource, Verdict, broken_budgets

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from perfdata.perf.model import BrokenBudget, Finding, ScenarioResult, StatementCount

_SHOWN_TEXT = 200  # characters of a statement in a list
_LISTED = 20  # statements
_BAR = " │ "
# Failures relative to the baseline: only these are fixed by accepting.
_AGAINST_BASELINE = {
    *(FindingKind.NEW_STATEMENT, FindingKind.VANISHED_STATEMENT, FindingKind.MORE_QUERIES),
    *(FindingKind.MORE_ROWS, FindingKind.MORE_BUFFERS, FindingKind.TEMP_BLOCKS),
    FindingKind.CHANGED_PLAN,
}
# Failures that do not depend on the baseline, and the budgets that they exceed.
_LIMITS = {FindingKind.REPEATED: "max_repeats", FindingKind.GROWTH: "max_growth"}
_CAUSES = {FindingKind.SETTINGS, FindingKind.DATA}
_UNJUDGED = {FindingKind.NOT_COMPARED, FindingKind.NOT_JUDGED}


def accept_command(root: Path, scenario: str = "") -> str:
    """Return the command that accepts a scenario, or all."""
    return command(root, "perf.accept" + (f" --only {shlex.quote(scenario)}" if scenario else ""))


def is_acceptable(finding: Finding) -> bool:
    """Return whether accepting the result fixes a finding."""
    return finding.fails and finding.kind in _AGAINST_BASELINE


def remaining_failures(result: ScenarioResult) -> Iterator[str]:
    """Describe the failures that accepting a result does not fix, and what does."""
    for name, message in _exceeded_limits(result):
        yield (
            f"still fails: {message}; accepting does not fix this: change the code, or set {name} "
            "in the test's marker"
        )


def _exceeded_limits(result: ScenarioResult) -> list[tuple[str, str]]:
    """Return the marker's arguments that a result exceeds, each with what was found."""
    found = [(broken.name, describe_budget(broken)) for broken in broken_budgets(result)]
    limits = ((_LIMITS.get(finding.kind), finding) for finding in result.findings if finding.fails)
    return [*found, *((name, finding.message) for name, finding in limits if name)]


def failure_lines(result: ScenarioResult, root: Path, width: int) -> list[str]:
    """Describe all failures of a result: scenario, statement, old → new, and plans.

    Returns no lines for a result without failures.
    """
    who = f"{result.scenario} on {result.dataset}"
    broken = broken_budgets(result)
    failures = [finding for finding in result.findings if finding.fails]
    lines = []
    if broken:
        lines += [f"{who}: {'; '.join(map(describe_budget, broken))}", *statement_lines(result)]
    for finding in failures:
        lines += [f"{who}: {finding.message}", *plan_lines(finding, width)]
    if failures:
        lines += [f"  {cause}" for cause in _causes(result)]
    if any(map(is_acceptable, failures)):
        lines.append(f"  {_way_out(result, root)}")
    return lines


def _way_out(result: ScenarioResult, root: Path) -> str:
    """Name the command that accepts the differences, unless the test would fail all the same."""
    names = dict.fromkeys(name for name, _ in _exceeded_limits(result))
    if not names:
        return f"if this is intended, accept it: {accept_command(root, result.scenario)}"
    limits = " and ".join(names)
    return f"accepting this does not fix {limits}: change the code, or set {limits} in the marker"


def _causes(result: ScenarioResult) -> list[str]:
    return [finding.message for finding in result.findings if finding.kind in _CAUSES]


def describe_budget(broken: BrokenBudget) -> str:
    """Describe an exceeded budget: ``12 queries, max_queries is 4``."""
    name = broken.name.removeprefix("max_").replace("_mb", " (MiB)").replace("_", " ")
    return f"{broken.found:,} {name}, {broken.name} is {broken.limit:,}"


def plan_lines(finding: Finding, width: int) -> list[str]:
    """Show a finding's plans with changed nodes marked, side by side if the width allows.

    ``-`` marks a removed node, ``+`` a new one, ``~`` a replaced one.
    """
    if not finding.new_plan or not finding.old_plan or finding.old_plan == finding.new_plan:
        return []
    pairs = side_by_side(finding.old_plan, finding.new_plan)
    left = max(len(pair.old or "") for pair in pairs)
    right = max(len(pair.new or "") for pair in pairs)
    if len("    ~ ") + left + len(_BAR) + right <= width:
        head = f"      {'old plan':<{left}}{_BAR}new plan"
        return [
            head,
            *(
                f"    {_mark(pair.old, pair.new, changed=pair.changed)} "
                f"{pair.old or '':<{left}}{_BAR}{pair.new or ''}".rstrip()
                for pair in pairs
            ),
        ]
    old = [_marked(pair.old, "-", changed=pair.changed) for pair in pairs if pair.old is not None]
    new = [_marked(pair.new, "+", changed=pair.changed) for pair in pairs if pair.new is not None]
    return ["    old plan", *old, "    new plan", *new]


def _mark(old: str | None, new: str | None, *, changed: bool) -> str:
    if not changed:
        return " "
    return "+" if old is None else "-" if new is None else "~"


def _marked(line: str, mark: str, *, changed: bool) -> str:
    return f"    {mark if changed else ' '} {line}"


def statement_lines(result: ScenarioResult) -> list[str]:
    """List a result's statements with their counts, most called first."""
    calls = sorted(result.statements, key=lambda sent: (-sent.calls, -sent.rows))
    width = max((len(f"{sent.calls:,}") for sent in calls), default=0)
    has_plans = result.plan_source is not PlanSource.NONE
    lines = [
        f"  {sent.calls:>{width},} x {shorten(sent.text, _SHOWN_TEXT)}  "
        f"({_counts(sent, has_plans=has_plans)})"
        for sent in calls[:_LISTED]
    ]
    more = len(calls) - _LISTED
    return [*lines, f"  and {more} more statements"] if more > 0 else lines


def _counts(statement: StatementCount, *, has_plans: bool) -> str:
    buffers = f", {statement.buffers:,} buffers" if has_plans else ""
    temp = f", {statement.temp_blocks:,} temp blocks" if statement.temp_blocks else ""
    return f"{statement.rows:,} rows{buffers}{temp}"


def notices(results: Sequence[ScenarioResult], root: Path) -> Iterator[str]:
    """Yield notices on scenarios without a baseline, on unjudged and on improved ones."""
    missing = [
        result
        for result in results
        if not result.accepted and result.baseline and result.verdict is not Verdict.REGRESSED
    ]
    if missing:
        names = ", ".join(dict.fromkeys(result.scenario for result in missing))
        yield (
            f"NO BASELINE: {names}: not compared with an accepted run; review the counts, accept "
            f"them and commit: {accept_command(root)}"
        )
    unjudged = [result for result in results if result.verdict is Verdict.NOT_JUDGED]
    if unjudged:
        names = ", ".join(dict.fromkeys(result.scenario for result in unjudged))
        yield f"NOT JUDGED: {names}: the warnings say what could not be measured, and why"
    for result in results:
        if improved := list(_improved_counters(result)):
            command_line = accept_command(root, result.scenario)
            yield (
                f"{result.scenario} on {result.dataset} improved on its baseline "
                f"({', '.join(improved)}); to lower the baseline: {command_line}"
            )
            yield from (f"  {cause}" for cause in _causes(result))


def _improved_counters(result: ScenarioResult) -> Iterator[str]:
    if result.verdict is not Verdict.IMPROVED:
        return
    for name, old in result.accepted_counters.items():
        new = result.counters.get(name)
        if new is not None and new < old:
            yield f"{name} {change(old, new)}"


def warning_lines(results: Sequence[ScenarioResult]) -> Iterator[str]:
    """Yield the findings that do not fail, one line each: of misestimates the worst.

    The others are in the results and in the report.
    """
    for result in results:
        who = f"{result.scenario} on {result.dataset}"
        wrong = [each for each in result.findings if each.kind is FindingKind.MISESTIMATE]
        for finding in result.findings:
            if finding.kind in _UNJUDGED and not finding.fails:
                yield " ".join(f"{who}: {finding.message}".split())
        if wrong:
            more = f" (and {len(wrong) - 1} more)" if wrong[1:] else ""
            yield f"{who}: {max(wrong, key=_factor).message}{more}"


def _factor(misestimate: Finding) -> float:
    estimated, actual = misestimate.old or 0, misestimate.new or 0
    return max(estimated, actual) / max(1, min(estimated, actual))


def unjudged_lines(result: ScenarioResult) -> list[str]:
    """Describe what was asked for and could not be measured, one line each."""
    who = f"{result.scenario} on {result.dataset}"
    return [f"{who}: {message}" for message in unjudged_messages(result)]


def unjudged_messages(result: ScenarioResult) -> list[str]:
    """Return the messages on what was asked for and could not be measured."""
    kind = FindingKind.NOT_JUDGED
    return [finding.message for finding in result.findings if finding.kind is kind]

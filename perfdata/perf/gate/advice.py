"""What a result says in lines of text: an error's, the terminal's, a summary's."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from perfdata.config import command
from perfdata.perf.capture.plans import side_by_side
from perfdata.perf.gate.regressions import change, shorten
from perfdata.perf.model import FindingKind, PlanSource, Verdict, broken_budgets

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from perfdata.perf.model import BrokenBudget, Finding, ScenarioResult, StatementCount

_SHOWN_TEXT = 400  # characters of a statement in a list: what lies beyond tells little more
_LISTED = 20  # statements
_BAR = " │ "
# What is red against a baseline: accepting it mends that, and nothing else.
_AGAINST_BASELINE = {
    *(FindingKind.NEW_STATEMENT, FindingKind.VANISHED_STATEMENT, FindingKind.MORE_QUERIES),
    *(FindingKind.MORE_ROWS, FindingKind.MORE_BUFFERS, FindingKind.TEMP_BLOCKS),
    FindingKind.CHANGED_PLAN,
}
# What is red whatever was accepted, besides budgets that count: the budget that it exceeds.
_LIMITS = {FindingKind.REPEATED: "max_repeats", FindingKind.GROWTH: "max_growth"}
_CAUSES = {FindingKind.SETTINGS, FindingKind.DATA}


def accept_command(root: Path, scenario: str = "") -> str:
    """Return the command that accepts a scenario, or all."""
    return command(root, "perf.accept" + (f" --only {shlex.quote(scenario)}" if scenario else ""))


def is_acceptable(finding: Finding) -> bool:
    """Tell whether a finding is red against the baseline, so that accepting makes it green."""
    return finding.fails and finding.kind in _AGAINST_BASELINE


def still_red(result: ScenarioResult) -> Iterator[str]:
    """Say what a result is red for whatever is accepted, and what mends that."""
    found = [(one.name, budget(one)) for one in broken_budgets(result)]
    limits = ((_LIMITS.get(one.kind), one) for one in result.findings if one.fails)
    found += [(name, one.message) for name, one in limits if name]
    for name, message in found:
        yield (
            f"still red: {message}; accepting does not mend that: mend the code, or set {name} "
            "in the test's marker"
        )


def failure_lines(result: ScenarioResult, root: Path, width: int) -> list[str]:
    """Say all that a result is red for: each with scenario, statement, old → new, and plans.

    Returns no lines for a result that is not red.
    """
    who = f"{result.scenario} on {result.dataset}"
    broken = broken_budgets(result)
    red = [one for one in result.findings if one.fails]
    lines = []
    if broken:
        lines += [f"{who}: {'; '.join(map(budget, broken))}", *listed(result)]
    for finding in red:
        lines += [f"{who}: {finding.message}", *plans(finding, width)]
    if red:
        lines += [f"  {one.message}" for one in result.findings if one.kind in _CAUSES]
    if any(map(is_acceptable, red)):
        accepting = accept_command(root, result.scenario)
        lines.append(f"  if it is meant to be so, accept it: {accepting}")
    return lines


def budget(broken: BrokenBudget) -> str:
    """Say what was found where a budget allows less."""
    name = broken.name.removeprefix("max_").replace("_mb", " (MiB)").replace("_", " ")
    return f"{broken.found:,} {name}, {broken.name} is {broken.limit:,}"


def plans(finding: Finding, width: int) -> list[str]:
    """Show a finding's plans, the changed nodes marked: beside each other where there is room.

    ``-`` stands before a node that is no more, ``+`` before a new one, ``~`` between two that
    stand for each other.
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


def listed(result: ScenarioResult) -> list[str]:
    """List a result's statements with their counts, the most called first."""
    calls = sorted(result.statements, key=lambda one: (-one.calls, -one.rows))
    width = max((len(f"{one.calls:,}") for one in calls), default=0)
    has_plans = result.plan_source is not PlanSource.NONE
    lines = [
        f"  {one.calls:>{width},} x {shorten(one.text, _SHOWN_TEXT)}  "
        f"({_counts(one, has_plans=has_plans)})"
        for one in calls[:_LISTED]
    ]
    more = len(calls) - _LISTED
    return [*lines, f"  and {more} more statements"] if more > 0 else lines


def _counts(statement: StatementCount, *, has_plans: bool) -> str:
    buffers = f", {statement.buffers:,} buffers" if has_plans else ""
    temp = f", {statement.temp_blocks:,} temp blocks" if statement.temp_blocks else ""
    return f"{statement.rows:,} rows{buffers}{temp}"


def notices(results: Sequence[ScenarioResult], root: Path) -> Iterator[str]:
    """Say what is to be known of results that are not red: what has no baseline, what is better."""
    missing = [one for one in results if not one.accepted and one.baseline]
    if missing:
        names = ", ".join(dict.fromkeys(one.scenario for one in missing))
        yield (
            f"NO BASELINE: {names}: nothing was compared with an accepted run; look at the "
            f"counts, accept them and commit: {accept_command(root)}"
        )
    for one in results:
        if better := list(_better(one)):
            accepting = accept_command(root, one.scenario)
            yield (
                f"{one.scenario} on {one.dataset} does less than was accepted "
                f"({', '.join(better)}); to hold it to that: {accepting}"
            )
            yield from (f"  {each.message}" for each in one.findings if each.kind in _CAUSES)


def _better(result: ScenarioResult) -> Iterator[str]:
    if result.verdict is not Verdict.IMPROVED:
        return
    for name, old in result.accepted_counters.items():
        new = result.counters.get(name)
        if new is not None and new < old:
            yield f"{name} {change(old, new)}"


def warnings(results: Sequence[ScenarioResult]) -> Iterator[str]:
    """Say what was found that nothing is red for: misestimates, what could not be compared."""
    told = {FindingKind.MISESTIMATE, FindingKind.NOT_COMPARED}
    for one in results:
        for finding in one.findings:
            if finding.kind in told:
                yield f"{one.scenario} on {one.dataset}: {finding.message}"

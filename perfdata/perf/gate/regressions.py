"""Compare a result with its baseline. Pure.

Queries, rows and plans are compared exactly: on the same data they are deterministic. Buffers and
temporary blocks may differ by a Threshold, since one row more may need another page.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import TYPE_CHECKING

from perfdata.perf.gate.baselines import AcceptedPlan
from perfdata.perf.gate.excerpts import shorten
from perfdata.perf.gate.growth import join_reasons
from perfdata.perf.model import Finding, FindingKind, PlanSource

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from perfdata.perf.gate.baselines import AcceptedStatement, Baseline
    from perfdata.perf.model import ScenarioResult, StatementCount

# A new statement is paired with the most similar vanished one from this ratio on.
_SIMILAR = 0.6
_OTHER_CODE = {FindingKind.NEW_STATEMENT, FindingKind.VANISHED_STATEMENT}


@dataclass(frozen=True)
class Threshold:
    """The allowed difference in blocks: an increase counts only if it exceeds both limits."""

    percent: float = 2
    blocks: int = 8

    def exceeded(self, old: int, new: int) -> bool:
        """Return whether ``new`` exceeds ``old`` by more than the threshold."""
        return new - old > self.blocks and (new - old) * 100 > old * self.percent


DEFAULT_THRESHOLD = Threshold()


def compare_with_baseline(
    result: ScenarioResult, baseline: Baseline, threshold: Threshold = DEFAULT_THRESHOLD
) -> list[Finding]:
    """Return a result's differences from its baseline as findings, failures first."""
    found = list(_statements(result, baseline, threshold))
    if not any(finding.fails for finding in found):
        found += _total(result, baseline, threshold)
    # Neither settings nor data make code send another statement.
    explained = [finding for finding in found if finding.kind not in _OTHER_CODE]
    if any(finding.fails for finding in explained):
        found += _settings(result, baseline)
    if explained:
        found += _data(result, baseline)
    found += _not_compared(result, baseline)
    return sorted(found, key=lambda finding: not finding.fails)


def change(old: float, new: float) -> str:
    """Format two counts and their relative change: ``120 → 1,001 (+734 %)``."""
    if not old:
        return f"{old:,} → {new:,}"
    return f"{old:,} → {new:,} ({(new - old) / old * 100:+,.0f} %)"


def _judged(result: ScenarioResult, baseline: Baseline) -> bool:
    """Return whether result and baseline have plans and buffers from the same source."""
    source = result.plan_source
    return result.same_layout and source is baseline.plan_source is not PlanSource.NONE


def _statements(
    result: ScenarioResult, baseline: Baseline, threshold: Threshold
) -> Iterator[Finding]:
    before = {accepted.fingerprint: accepted for accepted in baseline.statements}
    now = {sent.fingerprint: sent for sent in result.statements}
    vanished = [accepted for key, accepted in before.items() if key not in now]
    new = [sent for key, sent in now.items() if key not in before]
    replaced = _replaced(vanished, new)
    judged = _judged(result, baseline)
    for statement in result.statements:
        accepted = before.get(statement.fingerprint)
        if accepted is None:
            yield _new(statement, replaced.get(statement.fingerprint))
            continue
        yield from _counts(statement, accepted)
        if judged:
            yield from _blocks(statement, accepted, threshold)
            yield from _plans(statement, accepted)
    for accepted in vanished:
        yield _vanished(accepted)


def _replaced(
    vanished: Sequence[AcceptedStatement], new: Iterable[StatementCount]
) -> dict[str, AcceptedStatement]:
    """Map new statements' fingerprints to the vanished statements that they probably replace."""
    found: dict[str, AcceptedStatement] = {}
    left = list(vanished)
    for statement in new:
        ratios = [(SequenceMatcher(None, old.text, statement.text).ratio(), old) for old in left]
        ratio, best = max(ratios, key=lambda pair: pair[0], default=(0.0, None))
        if best is not None and ratio >= _SIMILAR:
            found[statement.fingerprint] = best
            left.remove(best)
    return found


def _new(statement: StatementCount, instead_of: AcceptedStatement | None) -> Finding:
    own = next((plan.signature for plan in statement.plans if not plan.query), ())
    old_plans = instead_of.plans if instead_of else ()
    before = f", instead of: {shorten(instead_of.text)}" if instead_of else ""
    return Finding(
        FindingKind.NEW_STATEMENT,
        fails=True,
        message=f"new statement, calls 0 → {statement.calls:,}: {shorten(statement.text)}{before}",
        statement=statement.text,
        fingerprint=statement.fingerprint,
        old=0,
        new=statement.calls,
        old_plan=next((plan.signature for plan in old_plans if not plan.query), ()),
        new_plan=own,
    )


def _vanished(accepted: AcceptedStatement) -> Finding:
    return Finding(
        FindingKind.VANISHED_STATEMENT,
        fails=True,
        message=f"statement no longer sent, calls {accepted.calls:,} → 0: {shorten(accepted.text)}",
        statement=accepted.text,
        fingerprint=accepted.fingerprint,
        old=accepted.calls,
        new=0,
    )


def _counts(statement: StatementCount, accepted: AcceptedStatement) -> Iterator[Finding]:
    more, fewer = FindingKind.MORE_QUERIES, FindingKind.FEWER_QUERIES
    if statement.calls != accepted.calls:
        kind = more if statement.calls > accepted.calls else fewer
        yield _counted(kind, "calls", accepted.calls, statement.calls, statement)
    if statement.rows != accepted.rows:
        increased = statement.rows > accepted.rows
        kind = FindingKind.MORE_ROWS if increased else FindingKind.FEWER_ROWS
        yield _counted(kind, "rows", accepted.rows, statement.rows, statement)


_FAILING = {
    *(FindingKind.MORE_QUERIES, FindingKind.MORE_ROWS),
    *(FindingKind.MORE_BUFFERS, FindingKind.TEMP_BLOCKS),
}


def _counted(
    kind: FindingKind, what: str, old: int, new: int, statement: StatementCount
) -> Finding:
    return Finding(
        kind,
        fails=kind in _FAILING,
        message=f"{what} {change(old, new)}: {shorten(statement.text)}",
        statement=statement.text,
        fingerprint=statement.fingerprint,
        old=old,
        new=new,
    )


def _blocks(
    statement: StatementCount, accepted: AcceptedStatement, threshold: Threshold
) -> Iterator[Finding]:
    old, new = accepted.buffers or 0, statement.buffers
    if threshold.exceeded(old, new):
        yield _counted(FindingKind.MORE_BUFFERS, "buffers", old, new, statement)
    elif threshold.exceeded(new, old):
        yield _counted(FindingKind.FEWER_BUFFERS, "buffers", old, new, statement)
    old, new = accepted.temp_blocks or 0, statement.temp_blocks
    if (new and not old) or threshold.exceeded(old, new):
        what = "temp blocks (work_mem exceeded)"
        yield _counted(FindingKind.TEMP_BLOCKS, what, old, new, statement)


def _plans(statement: StatementCount, accepted: AcceptedStatement) -> Iterator[Finding]:
    """Yield the changed plans, each new one paired with one that is gone."""
    found = list(
        dict.fromkeys(AcceptedPlan(plan.query, plan.signature) for plan in statement.plans)
    )
    for query in dict.fromkeys(plan.query for plan in (*found, *accepted.plans)):
        now = [plan.signature for plan in found if plan.query == query]
        before = [plan.signature for plan in accepted.plans if plan.query == query]
        new = [signature for signature in now if signature not in before]
        gone = [signature for signature in before if signature not in now]
        for number in range(max(len(new), len(gone))):
            old_plan = gone[number] if number < len(gone) else next(iter(before), ())
            new_plan = new[number] if number < len(new) else next(iter(now), ())
            yield _changed(statement, query, old_plan, new_plan)


def _changed(
    statement: StatementCount, query: str, old: tuple[str, ...], new: tuple[str, ...]
) -> Finding:
    inside = f" (inside: {shorten(query)})" if query else ""
    return Finding(
        FindingKind.CHANGED_PLAN,
        fails=True,
        message=f"changed plan: {shorten(statement.text)}{inside}",
        statement=statement.text,
        fingerprint=statement.fingerprint,
        old_plan=old,
        new_plan=new,
    )


def _total(result: ScenarioResult, baseline: Baseline, threshold: Threshold) -> Iterator[Finding]:
    """Find an increase of all statements together, where each is within the threshold."""
    if not _judged(result, baseline):
        return
    old, new = baseline.counters.get("buffers", 0), result.buffers or 0
    if threshold.exceeded(old, new):
        message = f"buffers {change(old, new)} in total, each statement within the threshold"
        yield Finding(FindingKind.MORE_BUFFERS, fails=True, message=message, old=old, new=new)


def _settings(result: ScenarioResult, baseline: Baseline) -> Iterator[Finding]:
    names = sorted({*result.settings, *baseline.settings})
    differing = [
        f"{name} {baseline.settings.get(name, 'not set')} → {result.settings.get(name, 'not set')}"
        for name in names
        if result.settings.get(name) != baseline.settings.get(name)
    ]
    if differing:
        what = ", ".join(differing)
        message = f"likely cause: the baseline was accepted with other settings, {what}"
        yield Finding(FindingKind.SETTINGS, fails=False, message=message)


def _data(result: ScenarioResult, baseline: Baseline) -> Iterator[Finding]:
    """Find a changed dataset or changed migrations; older baselines record neither."""
    differing = {
        name: f"{old} → {result.data[name]}"
        for name, old in baseline.data.items()
        if result.data.get(name, old) != old
    }
    texts = {
        "dataset": f"the dataset {result.dataset} has changed (its definition or its code)",
        "migrations": f"the migrations have changed ({differing.get('migrations')})",
    }
    if causes := " and ".join(text for name, text in texts.items() if name in differing):
        message = f"likely cause: since the baseline was accepted, {causes}"
        yield Finding(FindingKind.DATA, fails=False, message=message)


def _not_compared(result: ScenarioResult, baseline: Baseline) -> Iterator[Finding]:
    no_plans = result.plan_source is PlanSource.NONE or not result.same_layout
    if _judged(result, baseline) or (no_plans and baseline.plan_source is PlanSource.NONE):
        return
    kind = FindingKind.NOT_JUDGED
    if no_plans:
        why = join_reasons(result.not_captured) or "they could not be captured"
    elif baseline.plan_source is PlanSource.NONE:
        kind = FindingKind.NOT_COMPARED
        why = "it has none; accept this run, which has them"
    else:
        why = (
            f"they come from {result.plan_source.value}, the baseline's from "
            f"{baseline.plan_source.value}; run with a role of the same rights (a superuser has "
            "auto_explain), or accept this run"
        )
    message = f"buffers and plans were not compared with the baseline: {why}"
    yield Finding(kind, fails=False, message=message)

"""What the perf tasks print or open: the table of perf.compare, a report in the browser."""

from __future__ import annotations

import os
import sys
from itertools import zip_longest
from statistics import median
from typing import TYPE_CHECKING

from perfdata.perf.capture.plans import side_by_side
from perfdata.perf.gate.excerpts import shorten
from perfdata.perf.report.terminal import seconds
from perfdata.tasks.output import aligned, one_line, print_table, show
from perfdata.text import make_printable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from perfdata.perf.compare.differences import (
        Comparison,
        CountDifference,
        MedianChange,
        ScenarioComparison,
    )

_HASH_DIGITS = 10
_STATEMENT_CHARACTERS = 120


def print_comparison(comparison: Comparison) -> None:
    """Print the table of scenarios, the counts that differ, and notes; errors go to stderr."""
    rev = comparison.rev
    if not comparison.commit.startswith(rev):
        rev = f"{rev} {comparison.commit[:_HASH_DIGITS]}"
    numbers = ("this tree", rev, "change", "null 95 %", "A/A")
    if comparison.scenarios:
        print_table(
            ("scenario", "dataset", *numbers, "verdict"),
            [_row(scenario) for scenario in comparison.scenarios],
            numbers,
        )
    for scenario in comparison.scenarios:
        for line in _differences(scenario, rev):
            show(line)
    if comparison.dirty:
        print("this tree includes uncommitted changes")
    for note in comparison.notes:
        show(_indented(note))
    for error in comparison.errors:
        print(make_printable(f"error: {_indented(error)}"), file=sys.stderr)


def _row(scenario: ScenarioComparison) -> tuple[str, ...]:
    names = (scenario.scenario, scenario.dataset)
    if scenario.times is None or scenario.verdict is None:
        return (*names, *("-",) * 6)
    medians = [seconds(median(scenario.times.rounds_s[side])) for side in ("this", "rev")]
    null = f"{scenario.change.null_95:.1%}" if scenario.change else ""
    changes = (_percent(scenario.change), null, _percent(scenario.same))
    return (*names, *medians, *changes, scenario.verdict.value)


def _percent(change: MedianChange | None) -> str:
    return f"{change.relative:+.1%}" if change else ""


def _differences(scenario: ScenarioComparison, rev: str) -> Iterator[str]:
    """Yield the lines of the counts that differ, as ``revision -> this tree``."""
    name = scenario.scenario
    if scenario.differences:
        yield ""
        yield f"{name}: counts that changed, {rev} -> this tree (counts have no noise)"
        for difference in scenario.differences:
            yield from _lines(difference)
    if scenario.unsteady:
        yield ""
        yield f"{name}: counts that vary between runs of this tree (not due to the revision)"
        for difference in scenario.unsteady:
            yield from _lines(difference)


def _lines(difference: CountDifference) -> Iterator[str]:
    statement = shorten(one_line(difference.statement), _STATEMENT_CHARACTERS)
    where = f"  in {statement}" if statement else ""
    if difference.name != "plan":
        counts = f"{_count(difference.rev)} -> {_count(difference.this)}"
        yield f"  {difference.name}: {counts}{where}"
        return
    yield f"  plan changed{where}"
    for old, new in zip_longest(difference.rev, difference.this, fillvalue=()):
        pairs = side_by_side(old, new)
        rows = [["*" if pair.changed else " ", pair.old or "", pair.new or ""] for pair in pairs]
        yield from (f"    {line}" for line in aligned(rows))


def _count(count: int | None) -> str:
    return "none" if count is None else f"{count:,}"


def _indented(text: str) -> str:
    return "\n  ".join(map(one_line, text.splitlines()))


def open_in_browser(path: Path) -> str | None:
    """Open a file in the user's browser; return why it was not opened, else None."""
    import webbrowser

    if os.environ.get("CI"):
        return "running in CI"
    # Without a display Python would start a text browser in this terminal and wait for it.
    if sys.platform == "linux" and not {"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys():
        return "there is no display"
    return None if webbrowser.open(path.resolve().as_uri()) else "no browser was found"

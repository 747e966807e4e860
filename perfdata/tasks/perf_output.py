"""What perf.compare prints."""

from __future__ import annotations

import sys
from itertools import zip_longest
from statistics import median
from typing import TYPE_CHECKING

from perfdata.perf.terminal import seconds
from perfdata.perf.trees import side_by_side
from perfdata.printable import make_printable
from perfdata.tasks.output import aligned, one_line, print_table, show

if TYPE_CHECKING:
    from collections.abc import Iterator

    from perfdata.perf.compared import Compared, Comparison, Difference
    from perfdata.perf.randomisation import Change

_SHORT = 10  # digits of a hash
_SHOWN_TEXT = 120  # characters of a statement


def print_comparison(found: Comparison) -> None:
    """Print the table, what was counted differently, and the notes; errors go to stderr."""
    rev = (
        found.rev if found.commit.startswith(found.rev) else f"{found.rev} {found.commit[:_SHORT]}"
    )
    numbers = ("this tree", rev, "change", "null 95 %", "A/A")
    if found.scenarios:
        print_table(
            ("scenario", "dataset", *numbers, "verdict"), list(map(_row, found.scenarios)), numbers
        )
    for one in found.scenarios:
        for line in _differences(one, rev):
            show(line)
    if found.dirty:
        print("this tree was compared as it lies there, with what is not committed")
    for note in found.notes:
        show(_indented(note))
    for error in found.errors:
        print(make_printable(f"error: {_indented(error)}"), file=sys.stderr)


def _row(one: Compared) -> tuple[str, ...]:
    if one.times is None or one.verdict is None:
        return (one.scenario, one.dataset, *("-",) * 6)
    medians = [seconds(median(one.times.rounds_s[side])) for side in ("this", "rev")]
    null = f"{one.change.null_95:.1%}" if one.change else ""
    changes = (_percent(one.change), null, _percent(one.same))
    return (one.scenario, one.dataset, *medians, *changes, one.verdict.value)


def _percent(change: Change | None) -> str:
    return f"{change.relative:+.1%}" if change else ""


def _differences(one: Compared, rev: str) -> Iterator[str]:
    """Write what the sides counted differently, as ``revision -> this tree``."""
    if one.differences:
        yield ""
        yield f"{one.scenario}, counted, {rev} -> this tree (no noise: the code does it)"
        for difference in one.differences:
            yield from _lines(difference)
    if one.unsteady:
        yield ""
        yield f"{one.scenario}, counted differently by two runs of this tree: not the revision's"
        for difference in one.unsteady:
            yield from _lines(difference)


def _lines(one: Difference) -> Iterator[str]:
    text = one_line(one.statement)
    shown = f"{text[:_SHOWN_TEXT]}…" if len(text) > _SHOWN_TEXT else text
    where = f"  of {shown}" if shown else ""
    if one.name != "plan":
        yield f"  {one.name}: {_count(one.rev)} -> {_count(one.this)}{where}"
        return
    yield f"  plan: another{where}"
    for old, new in zip_longest(one.rev, one.this, fillvalue=()):
        pairs = side_by_side(old, new)
        rows = [["*" if pair.changed else " ", pair.old or "", pair.new or ""] for pair in pairs]
        yield from (f"    {line}" for line in aligned(rows))


def _count(count: int | None) -> str:
    return "none" if count is None else f"{count:,}"


def _indented(text: str) -> str:
    return "\n  ".join(map(one_line, text.splitlines()))

"""What a perf run shows at its end: a table of all scenarios, and what is to be known below it."""

from __future__ import annotations

from io import StringIO
from typing import TYPE_CHECKING

from perfdata.perf.model import Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perfdata.perf.model import ScenarioResult

_COLOURS = {
    Verdict.OK: "green",
    Verdict.IMPROVED: "green",
    Verdict.REGRESSED: "bold red",
    Verdict.UNSTABLE: "yellow",
    Verdict.NO_BASELINE: "yellow",
}
_COUNTERS = ("queries", "rows", "buffers", "temp_blocks")
_GAP = 2
# What a narrow terminal has no room for goes in this order, before names are folded.
_LEAST_MISSED = ("memory", "time", "rows", "temp_blocks", "dataset")


def table(results: Sequence[ScenarioResult], width: int, *, colour: bool) -> str:
    """Lay results out in columns, in the order in which they were measured.

    Counters stand with what they changed by since the baseline. Without ``colour`` there is no
    code and no line in it; what a narrow terminal has no room for is left out.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    laid = Table(box=box.SIMPLE_HEAD if colour else None, pad_edge=False, padding=(0, _GAP, 0, 0))
    columns = _columns(results, width)
    for heading in columns:
        is_text = heading in {"scenario", "dataset", "verdict"}
        laid.add_column(
            Text(heading.replace("_", " ")),
            justify="left" if is_text else "right",
            overflow="fold",
            no_wrap=heading not in {"scenario", "dataset"},
        )
    for one in results:
        cells = [Text(_cell(one, heading)) for heading in columns]
        cells[-1].stylize(_COLOURS[one.verdict])
        laid.add_row(*cells)
    text = StringIO()
    Console(
        file=text,
        width=width,
        force_terminal=colour,
        color_system="standard" if colour else None,
        highlight=False,
    ).print(laid)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())


def _columns(results: Sequence[ScenarioResult], width: int) -> list[str]:
    """Choose the columns: what nobody counted, and what is nothing everywhere, has none."""
    shown = ["scenario", "dataset", "queries", "rows"]
    if any(one.buffers is not None for one in results):
        shown.append("buffers")
    if any(one.temp_blocks or one.accepted_counters.get("temp_blocks") for one in results):
        shown.append("temp_blocks")
    if any(one.memory_bytes is not None for one in results):
        shown.append("memory")
    shown += ["time", "verdict"]
    for heading in _LEAST_MISSED:
        if _needed(results, shown) > width and heading in shown:
            shown.remove(heading)
    return shown


def _needed(results: Sequence[ScenarioResult], headings: Sequence[str]) -> int:
    """Return the width of columns in which nothing is folded."""
    cells = ([heading, *(_cell(one, heading) for one in results)] for heading in headings)
    return sum(max(map(len, column)) + _GAP for column in cells)


def _cell(result: ScenarioResult, heading: str) -> str:
    if heading in _COUNTERS:
        return counted(result, heading)
    memory = result.memory_bytes
    return {
        "scenario": result.scenario,
        "dataset": result.dataset,
        "memory": "-" if memory is None else f"{memory / 2**20:.1f} MiB",
        "time": "-" if result.time is None else seconds(result.time.median_s),
        "verdict": result.verdict.value,
    }[heading]


def counted(result: ScenarioResult, name: str) -> str:
    """Write a counter, and what it changed by since it was accepted: ``101 (+97)``."""
    found = result.counters.get(name)
    if found is None:
        return "-"
    difference = found - result.accepted_counters.get(name, found)
    return f"{found:,} ({difference:+,})" if difference else f"{found:,}"


def seconds(duration_s: float) -> str:
    """Write a duration in the unit that a person would choose."""
    if duration_s >= 1:
        return f"{duration_s:.2f} s"
    if duration_s >= 0.001:  # noqa: PLR2004  a millisecond
        return f"{duration_s * 1e3:.1f} ms"
    return f"{duration_s * 1e6:.0f} µs"

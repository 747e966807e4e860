"""The table of scenarios that a perf run prints at its end."""

from __future__ import annotations

from io import StringIO
from typing import TYPE_CHECKING

from perfdata.perf.model import Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perfdata.perf.model import ScenarioResult, TimeStats

_COLOURS = {
    Verdict.OK: "green",
    Verdict.IMPROVED: "green",
    Verdict.REGRESSED: "bold red",
    Verdict.UNSTABLE: "yellow",
    Verdict.NO_BASELINE: "yellow",
    Verdict.NOT_JUDGED: "yellow",
}
_COUNTERS = ("queries", "rows", "buffers", "temp_blocks")
_GAP = 2
_UNLIMITED = 10_000
# The columns that a narrow terminal omits, in this order, before names are wrapped.
_OPTIONAL_COLUMNS = ("memory", "time", "rows", "temp_blocks", "dataset")


def results_table(results: Sequence[ScenarioResult], width: int | None, *, colour: bool) -> str:
    """Lay out results as a table, in the order in which they were measured.

    Counters show their change since the baseline. Without ``colour`` the text contains no escape
    codes and no lines. A narrow ``width`` omits columns, and a last line names them; None is as
    wide as needed.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    layout = Table(box=box.SIMPLE_HEAD if colour else None, pad_edge=False, padding=(0, _GAP, 0, 0))
    width = width or _UNLIMITED
    columns, omitted = _columns(results, width)
    for heading in columns:
        is_text = heading in {"scenario", "dataset", "verdict"}
        layout.add_column(
            Text(heading.replace("_", " ")),
            justify="left" if is_text else "right",
            overflow="fold",
            no_wrap=heading not in {"scenario", "dataset"},
        )
    for result in results:
        cells = [Text(_cell(result, heading)) for heading in columns]
        cells[-1].stylize(_COLOURS[result.verdict])
        layout.add_row(*cells)
    text = StringIO()
    Console(
        file=text,
        width=width,
        force_terminal=colour,
        color_system="standard" if colour else None,
        highlight=False,
    ).print(layout)
    lines = [line.rstrip() for line in text.getvalue().splitlines()]
    if omitted:
        names = ", ".join(heading.replace("_", " ") for heading in omitted)
        lines.append(f"the terminal is too narrow for: {names}")
    return "\n".join(lines)


def _columns(results: Sequence[ScenarioResult], width: int) -> tuple[list[str], list[str]]:
    """Choose the columns that have any value but zeros; also return those that do not fit."""
    shown = ["scenario", "dataset", "queries", "rows"]
    if any(result.buffers is not None for result in results):
        shown.append("buffers")
    if any(result.temp_blocks or result.accepted_counters.get("temp_blocks") for result in results):
        shown.append("temp_blocks")
    if any(result.memory_bytes is not None for result in results):
        shown.append("memory")
    shown += ["time", "verdict"]
    omitted = []
    for heading in _OPTIONAL_COLUMNS:
        if _needed(results, shown) > width and heading in shown:
            shown.remove(heading)
            omitted.append(heading)
    return shown, omitted


def _needed(results: Sequence[ScenarioResult], headings: Sequence[str]) -> int:
    """Return the width of columns in which nothing is wrapped."""
    cells = ([heading, *(_cell(result, heading) for result in results)] for heading in headings)
    return sum(max(map(len, column)) + _GAP for column in cells)


def _cell(result: ScenarioResult, heading: str) -> str:
    if heading in _COUNTERS:
        return counted(result, heading)
    memory = result.memory_bytes
    return {
        "scenario": result.scenario,
        "dataset": result.dataset,
        "memory": "-" if memory is None else f"{memory / 2**20:.1f} MiB",
        "time": "-" if result.time is None else median_time(result.time),
        "verdict": result.verdict.value,
    }[heading]


def counted(result: ScenarioResult, name: str) -> str:
    """Format a counter and its change since the baseline: ``101 (+97)``."""
    found = result.counters.get(name)
    if found is None:
        return "-"
    difference = found - result.accepted_counters.get(name, found)
    return f"{found:,} ({difference:+,})" if difference else f"{found:,}"


def median_time(time: TimeStats) -> str:
    """Format the median, with the number of fresh clones that it took: ``31.2 ms (5 clones)``."""
    clones = f" ({time.fresh_clones} clones)" if time.fresh_clones else ""
    return seconds(time.median_s) + clones


def seconds(duration_s: float) -> str:
    """Format a duration in s, ms or µs."""
    if duration_s >= 1:
        return f"{duration_s:.2f} s"
    if duration_s >= 0.001:  # noqa: PLR2004  a millisecond
        return f"{duration_s * 1e3:.1f} ms"
    return f"{duration_s * 1e6:.0f} µs"

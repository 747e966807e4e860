"""The table at the end of a perf run, as plain text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perfdata.perf.model import ScenarioResult, Verdict

_HEAD = ("scenario", "dataset", "queries", "rows", "time", "verdict")
_NUMBERS = {"queries", "rows", "time"}  # these stand on the right of their columns


@dataclass(frozen=True)
class Line:
    """A line of the table; ``verdict`` None is the heading's."""

    text: str
    verdict: Verdict | None = None


def table(results: Sequence[ScenarioResult]) -> list[Line]:
    """Lay the results out in columns, in the order in which they were measured."""
    rows = [_HEAD, *(_cells(result) for result in results)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    verdicts = [None, *(result.verdict for result in results)]
    return [
        Line(_aligned(cells, widths), verdict)
        for cells, verdict in zip(rows, verdicts, strict=True)
    ]


def seconds(duration_s: float) -> str:
    """Write a duration in the unit that a person would choose."""
    if duration_s >= 1:
        return f"{duration_s:.2f} s"
    if duration_s >= 0.001:  # noqa: PLR2004  a millisecond
        return f"{duration_s * 1e3:.1f} ms"
    return f"{duration_s * 1e6:.0f} µs"


def _cells(result: ScenarioResult) -> tuple[str, ...]:
    return (
        result.scenario,
        result.dataset,
        f"{result.queries:,}",
        f"{result.rows:,}",
        "-" if result.time is None else seconds(result.time.median_s),
        result.verdict.value,
    )


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    columns = zip(_HEAD, cells, widths, strict=True)
    return "  ".join(
        f"{cell:>{width}}" if name in _NUMBERS else f"{cell:<{width}}"
        for name, cell, width in columns
    ).rstrip()

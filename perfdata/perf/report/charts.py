"""Charts of a scenario's rounds and runs, drawn by matplotlib and inlined as SVG.

They are small enough for a phone. Their colours are variables of the page's style sheet.
"""

from __future__ import annotations

import importlib.util
import io
import re
from contextlib import contextmanager
from enum import Enum
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

from perfdata.perf.model import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from perfdata.perf.report.history import Entry, Run


class Ink(Enum):
    """The page's colours, with the placeholders that matplotlib draws with."""

    TEXT = "#000001"
    MUTED = "#000002"
    GRID = "#000003"
    LINE = "#000004"
    BAND = "#000005"
    BAD = "#000006"

    @property
    def variable(self) -> str:
        """The colour's variable in the page's style sheet."""
        return f"var(--{self.name.lower()})"


NO_CHARTS = 'no charts: matplotlib is not installed (pip install "perfdata[report]")'
_WIDTH_IN = 4.0
_ROUNDS_IN, _SERIES_IN = 2.0, 1.1
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text remains searchable, readable aloud and copyable
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": Ink.MUTED.value,
    "axes.labelcolor": Ink.TEXT.value,
    "axes.titlesize": 9,
    "axes.titlecolor": Ink.TEXT.value,
    "axes.titlelocation": "left",
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": Ink.GRID.value,
    "xtick.color": Ink.MUTED.value,
    "ytick.color": Ink.MUTED.value,
    "text.color": Ink.TEXT.value,
}
_UNITS = ((1.0, "s", 1.0), (1e-3, "ms", 1e3), (0.0, "µs", 1e6))
_HREF = "{http://www.w3.org/1999/xlink}href"
_REFERENCE = re.compile(r"(?<=url\(#)")
# Metadata of the file, and a style sheet that would apply to the whole page.
_REMOVED = {"metadata", "style"}
_MOST_DOTS = 40  # more are indistinguishable


def have_charts() -> bool:
    """Return whether matplotlib is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def draw_rounds(rounds_s: Sequence[float], prefix: str, title: str) -> str:
    """Draw the times of the rounds in order, with a box plot."""
    unit, factor = _unit(max(rounds_s))
    times = [round_s * factor for round_s in rounds_s]
    with _styled(prefix):
        figure = _figure(_ROUNDS_IN)
        axes, box = figure.subplots(
            1, 2, sharey=True, gridspec_kw={"width_ratios": [7, 1], "wspace": 0.03}
        )
        axes.scatter(range(1, len(times) + 1), times, s=9, color=Ink.LINE.value, linewidths=0)
        axes.set(xlabel="round", title=unit, ylim=(0, max(times) * 1.08))
        _use_integers(axes.xaxis)
        _box(box, times)
        return _svg(figure, prefix, title)


def draw_trend(runs: Sequence[tuple[Run, Entry]], prefix: str, title: str) -> str:
    """Draw queries, buffers and median time of a scenario's runs, oldest first."""
    unit, factor = _unit(max((entry.median_s or 0 for _, entry in runs), default=0))
    series: dict[str, list[float | None]] = {
        "queries": [entry.queries for _, entry in runs],
        "buffers": [entry.buffers for _, entry in runs],
        f"median time, {unit}": [entry.median_s and entry.median_s * factor for _, entry in runs],
    }
    drawn = {name: counts for name, counts in series.items() if any(c is not None for c in counts)}
    regressed = [entry.verdict == Verdict.REGRESSED.value for _, entry in runs]
    with _styled(prefix):
        figure = _figure(_SERIES_IN * len(drawn) + 0.3)
        columns = figure.subplots(len(drawn), 1, sharex=True, squeeze=False)
        for axes, (name, counts) in zip(columns[:, 0], drawn.items(), strict=True):
            _series(axes, name, counts, regressed)
        _days(columns[-1, 0], [f"{run.at:%Y-%m-%d}" for run, _ in runs])
        return _svg(figure, prefix, title)


def _box(axes: Axes, times: Sequence[float]) -> None:
    line = {"color": Ink.LINE.value}
    axes.boxplot(
        times,
        widths=0.6,
        showfliers=False,  # the scatter plot shows each round
        patch_artist=True,
        boxprops={"facecolor": Ink.BAND.value, "edgecolor": Ink.LINE.value},
        medianprops={"color": Ink.TEXT.value, "linewidth": 1.5},
        whiskerprops=line,
        capprops=line,
    )
    axes.set_xticks([])
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.tick_params(left=False)


def _series(
    axes: Axes, name: str, counts: Sequence[float | None], regressed: Sequence[bool]
) -> None:
    values = [float("nan") if count is None else count for count in counts]
    dots: dict[str, Any] = {"marker": "o", "markersize": 2.5} if len(values) <= _MOST_DOTS else {}
    axes.plot(values, color=Ink.LINE.value, linewidth=1.2, **dots)
    bad = [place for place, is_bad in enumerate(regressed) if is_bad]
    axes.scatter(
        bad, [values[place] for place in bad], marker="x", s=28, zorder=3, color=Ink.BAD.value
    )
    known = [count for count in counts if count is not None]
    axes.set(title=name, ylim=(0, max(known) * 1.15 or 1))
    if all(count == int(count) for count in known):
        _use_integers(axes.yaxis)


def _days(axes: Axes, days: Sequence[str]) -> None:
    places = sorted({0, len(days) // 2, len(days) - 1})
    axes.set_xticks(places, [days[place] for place in places])
    for label, side in zip(axes.get_xticklabels(), ("left", "center", "right"), strict=False):
        label.set(horizontalalignment=side)


def _use_integers(axis: Any) -> None:
    from matplotlib.ticker import MaxNLocator, StrMethodFormatter

    axis.set_major_locator(MaxNLocator(nbins=4, integer=True))
    axis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))


def _unit(duration_s: float) -> tuple[str, float]:
    """Return a suitable unit for a duration, and the number of units in a second."""
    return next((unit, factor) for least, unit, factor in _UNITS if duration_s >= least)


@contextmanager
def _styled(prefix: str) -> Iterator[None]:
    from matplotlib import rc_context

    # The salt makes the IDs of clip paths and markers reproducible.
    with rc_context({**_STYLE, "svg.hashsalt": prefix}):
        yield


def _figure(height_in: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(_WIDTH_IN, height_in), layout="constrained")


def _svg(figure: Figure, prefix: str, title: str) -> str:
    file = io.StringIO()
    figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    return _inlined(file.getvalue(), prefix, title)


def _inlined(svg: str, prefix: str, title: str) -> str:
    """Convert matplotlib's SVG document to an element of the page.

    ``prefix`` makes its IDs unique within the page; ``title`` is the text for screen readers.
    """
    chart = ET.fromstring(svg)  # noqa: S314  matplotlib's own output
    for element in _elements(chart):
        element.tag = element.tag.rpartition("}")[2]
        attributes = dict(element.attrib)
        element.attrib.clear()
        element.attrib.update(
            (name.rpartition("}")[2], _value(name, value, prefix))
            for name, value in attributes.items()
        )
    view = chart.get("viewBox", "")
    chart.attrib.clear()
    chart.attrib.update({"viewBox": view, "role": "img", "aria-label": title})
    text = ET.tostring(chart, encoding="unicode")
    for ink in Ink:
        text = text.replace(ink.value, ink.variable)
    return text


def _elements(parent: ET.Element) -> Iterator[ET.Element]:
    """Yield a tree's elements, after removing what does not belong in a page."""
    yield parent
    for child in list(parent):
        if child.tag.rpartition("}")[2] in _REMOVED:
            parent.remove(child)
        else:
            yield from _elements(child)


def _value(name: str, value: str, prefix: str) -> str:
    if name == "id":
        return prefix + value
    if name == _HREF:
        return f"#{prefix}{value.removeprefix('#')}"
    return _REFERENCE.sub(prefix, value)

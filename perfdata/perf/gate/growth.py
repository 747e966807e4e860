"""Growth: fit exponents to how a scenario's counters grow with the data. Pure.

A dataset's size is the number of rows in its snapshot. A counter that stays constant has the
exponent 0, a linear one 1, a quadratic one 2. Where some tables grow faster than others, counters
that depend on the fastest are close to 1 and the others below.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from perfdata.errors import ConfigError
from perfdata.perf.model import SHOWN_ONLY, Finding, FindingKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from perfdata.dataset import Dataset
    from perfdata.project import Project

COUNTERS = ("queries", "rows", "buffers")
# Reading more rows from more data is normal, sending more statements for them is not. 0.1 allows
# for an additional chunk now and then.
MOST_QUERIES = 0.1


@dataclass(frozen=True)
class Point:
    """The counters of a scenario on a dataset of ``size`` rows."""

    dataset: str
    size: int
    counters: Mapping[str, int]


def exponents(points: Sequence[Point]) -> dict[str, float]:
    """Fit an exponent to each counter that all points have, by least squares of logarithms.

    Raises ConfigError if all points have the same size.
    """
    if len({point.size for point in points}) < 2:  # noqa: PLR2004  a line needs two points
        sizes = " and ".join(f"{point.dataset} ({point.size:,} rows)" for point in points)
        raise ConfigError(f"growth needs datasets of different sizes, not {sizes}")
    names = [name for name in COUNTERS if all(name in point.counters for point in points)]
    return {name: _slope(points, name) for name in names}


def _slope(points: Sequence[Point], name: str) -> float:
    """Return the slope of log(counter) over log(size), to three decimals; 0 counts as 1."""
    x = [math.log(max(point.size, 1)) for point in points]
    y = [math.log(max(point.counters[name], 1)) for point in points]
    middle_x, middle_y = sum(x) / len(x), sum(y) / len(y)
    over = sum((a - middle_x) * (b - middle_y) for a, b in zip(x, y, strict=True))
    return round(over / sum((a - middle_x) ** 2 for a in x), 3) + 0.0  # no -0.0


def limits(max_growth: float | Mapping[str, float]) -> dict[str, float]:
    """Return the limit of each counter's exponent; a number applies to rows and buffers."""
    if isinstance(max_growth, (int, float)):
        return {"queries": min(max_growth, MOST_QUERIES), "rows": max_growth, "buffers": max_growth}
    return dict(max_growth)


def growth_findings(
    points: Sequence[Point],
    max_growth: float | Mapping[str, float],
    not_captured: Sequence[str] = (),
) -> Iterator[Finding]:
    """Find the counters that exceed their limit, then those that could not be judged.

    The latter were not counted on all points; ``not_captured`` gives the reasons.
    """
    found = exponents(points)
    ordered = sorted(points, key=lambda point: point.size)
    for name, limit in limits(max_growth).items():
        exponent = found.get(name)
        if exponent is None:
            yield _not_judged(name, ordered, not_captured)
        elif exponent > limit:
            counts = ", ".join(f"{point.counters[name]:,} on {point.dataset}" for point in ordered)
            yield Finding(
                FindingKind.GROWTH,
                fails=True,
                message=f"{name} grow with exponent {exponent:.2f}, max_growth is {limit:g}: "
                f"{counts}",
                old=limit,
                new=exponent,
            )


def unjudged_block() -> Finding:
    """Return the finding that the growth of a block, which runs once, cannot be judged."""
    return unjudged_finding(
        "max_growth",
        "a block of perf.measure() runs on one dataset only; pass a function to perf() instead",
    )


def join_reasons(not_captured: Iterable[str]) -> str:
    """Join the lines on what could not be captured to a reason for a finding."""
    return "; ".join(line.removeprefix(SHOWN_ONLY) for line in not_captured)


def unjudged_finding(budget: str, why: str) -> Finding:
    """Return the finding that a budget cannot be judged."""
    message = f"{budget} could not be judged: {why}"
    return Finding(FindingKind.NOT_JUDGED, fails=False, message=message)


def _not_judged(name: str, points: Sequence[Point], not_captured: Sequence[str]) -> Finding:
    where = " and ".join(point.dataset for point in points if name not in point.counters)
    why = join_reasons(not_captured) or "plans could not be captured there"
    return unjudged_finding(f"max_growth of {name}", f"not counted on {where} ({why})")


def other_datasets(
    dataset: Dataset, asked: Iterable[str], project: Project | None
) -> tuple[str, ...]:
    """Return the other datasets that a scenario runs on: the ones ``asked`` for, or a smaller one.

    The smaller dataset has the smallest product of parameters among the project's datasets with the
    same parameters, none of them greater. Raises ConfigError if there is none.
    """
    if given := tuple(name for name in dict.fromkeys(asked) if name != dataset.name):
        return given
    datasets = project.datasets if project else ()
    smaller = [other for other in datasets if _is_smaller(other.parameters, dataset.parameters)]
    if not smaller:
        raise ConfigError(
            f"max_growth needs a second dataset, and the project has no smaller one with the "
            f'parameters of {dataset.name}: name one, perf(growth="…", max_growth=…)'
        )
    return (min(smaller, key=lambda other: math.prod(other.parameters.values())).name,)


def _is_smaller(parameters: Mapping[str, int], than: Mapping[str, int]) -> bool:
    if parameters.keys() != than.keys() or parameters == than:
        return False
    return all(parameters[name] <= than[name] for name in parameters)

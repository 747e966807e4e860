"""Growth: how a scenario's counters grow with the data, as exponents. Pure.

The size of a dataset is the number of all its rows, as its snapshot holds them. Over datasets of
one shape that is as good as the number of offices; where some tables grow more than others, what
hangs on the fastest of them is close to 1, and the rest is below. A counter that does not change
has the exponent 0, one that doubles with the data 1, one that is squared 2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from perfdata.errors import ConfigError
from perfdata.perf.model import Finding, FindingKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from perfdata.dataset import Dataset
    from perfdata.project import Project

COUNTERS = ("queries", "rows", "buffers")
# A scenario may read what there is, and more of it where there is more; to send more statements
# for that is what growth is to find. A tenth is what a chunk here and there comes to.
MOST_QUERIES = 0.1


@dataclass(frozen=True)
class Point:
    """What a scenario did on a dataset of so many rows."""

    dataset: str
    size: int
    counters: Mapping[str, int]


def exponents(points: Sequence[Point]) -> dict[str, float]:
    """Fit an exponent for each counter that all points have, by least squares of logarithms.

    Raises ConfigError where the points do not differ in size.
    """
    if len({point.size for point in points}) < 2:  # noqa: PLR2004  a line needs two points
        said = " and ".join(f"{one.dataset} ({one.size:,} rows)" for one in points)
        raise ConfigError(f"growth needs datasets of different sizes, not {said}")
    names = [name for name in COUNTERS if all(name in point.counters for point in points)]
    return {name: _slope(points, name) for name in names}


def _slope(points: Sequence[Point], name: str) -> float:
    """Return the slope of log(counter) over log(size), to three decimals; a count of 0 is as 1."""
    x = [math.log(max(point.size, 1)) for point in points]
    y = [math.log(max(point.counters[name], 1)) for point in points]
    middle_x, middle_y = sum(x) / len(x), sum(y) / len(y)
    over = sum((a - middle_x) * (b - middle_y) for a, b in zip(x, y, strict=True))
    return round(over / sum((a - middle_x) ** 2 for a in x), 3) + 0.0  # no -0.0


def limits(max_growth: float | Mapping[str, float]) -> dict[str, float]:
    """Return what each counter may grow by: a plain number is for rows and buffers."""
    if isinstance(max_growth, (int, float)):
        return {"queries": min(max_growth, MOST_QUERIES), "rows": max_growth, "buffers": max_growth}
    return dict(max_growth)


def grown(
    points: Sequence[Point],
    max_growth: float | Mapping[str, float],
    not_captured: Sequence[str] = (),
) -> Iterator[Finding]:
    """Find the counters that grow faster with the data than they may, then what is not known.

    That is what was not counted on all points: ``not_captured`` says why, as a result does.
    """
    found = exponents(points)
    ordered = sorted(points, key=lambda one: one.size)
    for name, limit in limits(max_growth).items():
        if (exponent := found.get(name)) is not None and exponent > limit:
            counts = ", ".join(f"{_count(one, name)} on {one.dataset}" for one in ordered)
            yield Finding(
                FindingKind.GROWTH,
                fails=True,
                message=f"{name} grow with the data by the exponent {exponent:.2f}, where "
                f"max_growth allows {limit:g}: {counts}",
                old=limit,
                new=exponent,
            )

    for name in (one for one in limits(max_growth) if one not in found):
        yield _not_judged(name, ordered, not_captured)


def of_block() -> Finding:
    """Say that a block of perf.measure() is not judged for growth: it is there only once."""
    message = (
        "max_growth could not be judged, as a block of perf.measure() runs on this dataset alone: "
        "give what it does to perf() as a function"
    )
    return Finding(FindingKind.NOT_COMPARED, fails=False, message=message)


def _not_judged(name: str, points: Sequence[Point], not_captured: Sequence[str]) -> Finding:
    where = " and ".join(one.dataset for one in points if name not in one.counters)
    why = "; ".join(not_captured) or "plans could not be captured there"
    message = (
        f"max_growth of {name} could not be judged, as they were not counted on {where}: {why}"
    )
    return Finding(FindingKind.NOT_COMPARED, fails=False, message=message)


def _count(point: Point, name: str) -> str:
    return f"{point.counters[name]:,}"


def others(dataset: Dataset, asked: Iterable[str], project: Project | None) -> tuple[str, ...]:
    """Return the datasets that a scenario also runs on: those asked for, else a small one.

    That is the project's dataset with the smallest product of parameters, of those none of whose
    parameters is greater. Raises ConfigError where there is none.
    """
    if given := tuple(name for name in dict.fromkeys(asked) if name != dataset.name):
        return given
    smaller = [one for one in (project.datasets if project else ()) if _is_less(one, dataset)]
    if not smaller:
        raise ConfigError(
            f"max_growth needs a second dataset, and the project has none that is like "
            f'{dataset.name}, only smaller: name one, perf(growth="…", max_growth=…)'
        )
    return (min(smaller, key=lambda one: math.prod(one.parameters.values())).name,)


def _is_less(one: Dataset, other: Dataset) -> bool:
    if one.parameters.keys() != other.parameters.keys() or one.parameters == other.parameters:
        return False
    return all(one.parameters[name] <= other.parameters[name] for name in one.parameters)

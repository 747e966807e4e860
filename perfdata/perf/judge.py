"""Judge: what is to be thought of a result, and the one error for all that is red."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

from perfdata.errors import BudgetExceededError, RegressedError
from perfdata.perf.baselines import baseline_path, read_baseline
from perfdata.perf.checks import check
from perfdata.perf.comparison import DEFAULT_THRESHOLD, Threshold, compare
from perfdata.perf.growth import exponents, grown, of_block
from perfdata.perf.model import broken_budgets
from perfdata.perf.telling import red_lines

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from perfdata.perf.growth import Point
    from perfdata.perf.model import ScenarioResult


@dataclass(frozen=True)
class Judge:
    """What the results of a test are judged by.

    ``folder`` is the one of the test's file, beside which the baselines are; ``root`` that of
    the project. ``width`` is that of the terminal, in columns.
    """

    root: Path
    folder: Path
    threshold: Threshold = DEFAULT_THRESHOLD
    width: int = 80

    def judged(self, result: ScenarioResult, points: Sequence[Point] = ()) -> ScenarioResult:
        """Return the result with its findings; ``points`` are its runs on datasets of other sizes.

        There are none of a block, which runs once: its growth is not judged, and that is found.
        Raises BaselineError for a baseline that can't be read.
        """
        found = check(result)
        growth = {}
        limit = result.budgets.max_growth
        if limit is not None and points:
            growth = exponents(points)
            found += grown(points, limit, result.not_captured)
        elif limit is not None and result.same_layout:  # else check() has said why not
            found.append(of_block())
        if not result.environment:
            return dataclasses.replace(result, findings=tuple(found), growth=growth)
        path = baseline_path(self.folder, result.environment, result.scenario, result.dataset)
        baseline = read_baseline(path, result.scenario, result.dataset)
        if baseline is not None:
            found = [*compare(result, baseline, self.threshold), *found]
        return dataclasses.replace(
            result,
            findings=tuple(sorted(found, key=lambda one: not one.fails)),
            growth=growth,
            baseline=_shown(path, self.root),
            accepted=baseline is not None,
            accepted_counters=dict(baseline.counters) if baseline else {},
        )

    def raise_red(self, result: ScenarioResult) -> None:
        """Raise RegressedError, saying all that the result is red for.

        BudgetExceededError where a budget of the marker is among that.
        """
        lines = red_lines(result, self.root, self.width)
        if lines:
            kind = BudgetExceededError if broken_budgets(result) else RegressedError
            raise kind("\n".join(lines))


def _shown(path: Path, root: Path) -> str:
    return (path.relative_to(root) if path.is_relative_to(root) else path).as_posix()

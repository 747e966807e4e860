"""What a scenario did, what it was allowed to do, and the JSON file of a run's results.

The file, ``results/perf.json`` under PERFDATA_HOME, holds ``format`` ("perfdata-results/1"),
``created_at`` (UTC) and ``scenarios``: of each ScenarioResult its fields, enums by their values.
``rows`` counts what statements returned, and what writes changed; ``time`` is in seconds, or null
where nothing was timed. A new meaning of a field gets another number after the slash; fields may
be added under the same.
"""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perfdata.errors import BudgetExceededError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from perfdata.config import Settings

FORMAT = "perfdata-results/1"
_SHOWN_TEXT = 400  # characters of a statement in a message: what lies beyond tells little more


class Verdict(Enum):
    """What is to be thought of a scenario's result."""

    OK = "ok"
    IMPROVED = "improved"
    REGRESSED = "regressed"
    UNSTABLE = "unstable"
    NO_BASELINE = "no_baseline"


@dataclass(frozen=True)
class StatementCount:
    """How often one statement was sent, and the rows of all its calls together."""

    fingerprint: str
    text: str
    calls: int
    rows: int


@dataclass(frozen=True)
class TimeStats:
    """The time of a scenario's rounds."""

    median_s: float
    min_s: float
    rounds: int


@dataclass(frozen=True)
class Budgets:
    """What a scenario may do at most; None is no limit."""

    max_queries: int | None = None
    max_rows: int | None = None


@dataclass(frozen=True)
class BrokenBudget:
    """A budget, by its name in the marker, and what was found instead."""

    name: str
    limit: int
    found: int


@dataclass(frozen=True, kw_only=True)
class ScenarioResult:
    """One scenario's counts and times on one dataset; ``test`` is the pytest node that ran it.

    ``statements`` are in the order of their first call. ``settings`` are those of the measured
    database session that decide plans.
    """

    scenario: str
    test: str
    dataset: str
    statements: tuple[StatementCount, ...]
    time: TimeStats | None = None
    budgets: Budgets = Budgets()
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def queries(self) -> int:
        """The number of statements that were sent."""
        return sum(statement.calls for statement in self.statements)

    @property
    def rows(self) -> int:
        """The number of rows that came back, or were changed."""
        return sum(statement.rows for statement in self.statements)

    @property
    def verdict(self) -> Verdict:
        """REGRESSED where a budget is broken, NO_BASELINE where there is nothing to judge by."""
        if broken_budgets(self):
            return Verdict.REGRESSED
        return Verdict.NO_BASELINE if self.budgets == Budgets() else Verdict.OK

    def to_json(self) -> dict[str, Any]:
        """Return the result as the results file holds it."""
        document = asdict(self)
        counts = {"queries": self.queries, "rows": self.rows, "verdict": self.verdict.value}
        order = ("scenario", "test", "dataset", "verdict", "queries", "rows", "time", "budgets")
        document = {**document, **counts}
        return {key: document[key] for key in (*order, "settings", "statements")}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> ScenarioResult:
        """Read a result back; fields that a newer perfdata added are left out."""
        time = document["time"]
        return cls(
            scenario=document["scenario"],
            test=document["test"],
            dataset=document["dataset"],
            statements=tuple(_known(StatementCount, one) for one in document["statements"]),
            time=None if time is None else _known(TimeStats, time),
            budgets=_known(Budgets, document["budgets"]),
            settings=dict(document["settings"]),
        )


def _known(kind: Any, document: Mapping[str, Any]) -> Any:
    return kind(**{key: document[key] for key in kind.__dataclass_fields__ if key in document})


def broken_budgets(result: ScenarioResult) -> list[BrokenBudget]:
    """Return the budgets that a result does not keep, in the order of Budgets' fields."""
    found = {"max_queries": result.queries, "max_rows": result.rows}
    limits: dict[str, int | None] = asdict(result.budgets)
    return [
        BrokenBudget(name, limit, found[name])
        for name, limit in limits.items()
        if limit is not None and found[name] > limit
    ]


def check_budgets(result: ScenarioResult) -> None:
    """Raise BudgetExceededError, saying which budgets are broken and by what statements."""
    if broken := broken_budgets(result):
        raise BudgetExceededError(_broken_message(result, broken))


def _broken_message(result: ScenarioResult, broken: Iterable[BrokenBudget]) -> str:
    found = "; ".join(
        f"{one.found:,} {one.name.removeprefix('max_')}, {one.name} is {one.limit:,}"
        for one in broken
    )
    return "\n".join([f"{result.scenario} on {result.dataset}: {found}", *listed(result)])


def listed(result: ScenarioResult) -> list[str]:
    """List a result's statements with their counts, the most called first."""
    calls = sorted(result.statements, key=lambda one: (-one.calls, -one.rows))
    width = max((len(f"{one.calls:,}") for one in calls), default=0)
    return [f"  {one.calls:>{width},} x {_short(one.text)}  ({one.rows:,} rows)" for one in calls]


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN_TEXT else f"{text[:_SHOWN_TEXT]}…"


def write_results(results: Iterable[ScenarioResult], settings: Settings) -> Path:
    """Write a run's results as JSON in one step, and return the file."""
    document = {
        "format": FORMAT,
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "scenarios": [result.to_json() for result in results],
    }
    path = settings.make_home() / "results" / "perf.json"
    path.parent.mkdir(exist_ok=True)
    write_whole(path, json.dumps(document, ensure_ascii=False, indent=2) + "\n")
    return path


def write_whole(path: Path, text: str) -> None:
    """Write a file that is never seen half-written."""
    with tempfile.NamedTemporaryFile(
        "w", encoding="utf-8", dir=path.parent, prefix=".perf-", delete=False
    ) as file:
        try:
            file.write(text)
            file.close()
            Path(file.name).chmod(0o644)
            os.replace(file.name, path)  # noqa: PTH105  the name of both is what is at hand
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise

"""The recorder of a perf test, which turns captures into judged results, and the test's options."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from perfdata.errors import ConfigError
from perfdata.perf.model import SHOWN_ONLY, Budgets, ScenarioResult, TimeStats

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager

    from sqlalchemy.ext.asyncio import AsyncSession

    from perfdata.dataset import Dataset
    from perfdata.perf.capture.events import Capture
    from perfdata.perf.gate.growth import Point
    from perfdata.perf.gate.verdict import Judge


class Benchmark(Protocol):
    """The part of pytest-benchmark's fixture that perfdata uses."""

    disabled: bool
    skipped: bool
    extra_info: dict[str, Any]
    stats: Any

    def pedantic(self, target: Callable[..., Any], **options: Any) -> Any:
        """Time rounds of ``target``, each between a setup and a teardown that are not timed."""


class Databases(Protocol):
    """The databases that scenarios run on: clones of datasets."""

    def fresh_clone(self) -> str:
        """Replace the test's clone with a new one, and return its URL."""

    def clone_of(self, dataset: str) -> AbstractContextManager[str]:
        """Clone another dataset for a block, which receives the clone's URL."""

    def rows(self, dataset: str) -> int:
        """Return the number of rows in a dataset's snapshot."""


@dataclass(frozen=True)
class ScenarioOptions:
    """The options of a perf test.

    ``name`` and ``test`` are the test's name and node ID; ``max_time_s`` limits the timed rounds.
    ``on`` is what the scenario receives: "session", "engine" or "psycopg", as its first argument or
    as the keyword argument ``keyword``. ``own_packages`` are those of Callers. ``scenario`` names
    the result (None: after the function) and ``parameters``, pytest's ID of the test's parameters,
    is appended in brackets. ``others`` are the other datasets that growth is measured on.
    """

    name: str
    test: str
    dataset: Dataset
    budgets: Budgets
    min_rounds: int
    max_time_s: float
    on: str = "session"
    keyword: str = ""
    own_packages: tuple[str, ...] = ()
    scenario: str | None = None
    parameters: str = ""
    others: tuple[str, ...] = ()


@dataclass(frozen=True)
class ScenarioDatabase:
    """The database that a scenario runs on, and the source of further clones.

    ``url`` is the URL of the test's clone. Without clones it is the URL of the target,
    ``databases`` is None and ``no_clones`` gives the reason. Coroutine functions receive engines of
    ``driver``, and sessions of ``async_session_class`` (None: SQLAlchemy's); ``data`` is
    ScenarioResult.data.
    """

    url: str
    root: Path = field(default_factory=Path.cwd)
    databases: Databases | None = None
    no_clones: str = ""
    driver: str = "psycopg"
    async_session_class: type[AsyncSession] | None = None
    data: Mapping[str, str] = field(default_factory=dict)


class Recorder:
    """Turns a test's captures into results, has them judged, and appends them to ``results``."""

    def __init__(
        self,
        options: ScenarioOptions,
        database: ScenarioDatabase,
        judge: Judge,
        benchmark: Benchmark,
        results: list[ScenarioResult],
    ) -> None:
        self._options = options
        self._database = database
        self._judge = judge
        self._benchmark = benchmark
        self._results = results
        self._names: set[str] = set()

    def result(self, scenario: str, capture: Capture) -> ScenarioResult:
        """Return the result of a capture, not yet judged."""
        no_layout = self._database.no_clones or capture.partial
        no_clone = f"{SHOWN_ONLY}{no_layout}"
        return ScenarioResult(
            scenario=scenario,
            test=self._options.test,
            dataset=self._options.dataset.name,
            statements=capture.statements(),
            budgets=self._options.budgets,
            settings=capture.facts.settings,
            environment=capture.facts.environment,
            data=self._database.data,
            plan_source=capture.facts.plans,
            same_layout=not no_layout,
            not_captured=(
                *([no_clone] if no_layout else []),
                *capture.facts.notes,
                *sorted(capture.unseen),
            ),
            incomplete_counters=capture.incomplete_counters,
        )

    def record(self, result: ScenarioResult, points: Sequence[Point] = ()) -> None:
        """Judge a result, append it, and raise RegressedError if it regressed.

        ``points`` are the scenario's runs on datasets of different sizes. Raises ConfigError if the
        test already has a result of that name.
        """
        __tracebackhide__ = True
        if result.scenario in self._names:
            raise ConfigError(
                f"this test already has a result named {result.scenario!r}: give each block its "
                'own name, perf.measure("…")'
            )
        self._names.add(result.scenario)
        result = self._judge.judge(result, points)
        self._benchmark.extra_info.update(
            dataset=result.dataset, queries=result.queries, rows=result.rows
        )
        self._results.append(result)
        self._judge.raise_failure(result)

    def record_block(self, name: str, capture: Capture, duration_s: float) -> None:
        """Record a block that ran once."""
        __tracebackhide__ = True
        time = TimeStats(duration_s, duration_s, 1, (duration_s,))
        self.record(replace(self.result(name, capture), time=time))

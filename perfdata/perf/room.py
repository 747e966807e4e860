"""The ``perf`` object of a test: runs a scenario, counts what it does, times it, undoes it."""

from __future__ import annotations

import functools
import inspect
import math
import time
import tracemalloc
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from perfdata.callers import Callers
from perfdata.errors import ConfigError
from perfdata.perf.engine import make_async_engine, make_engine
from perfdata.perf.growth import Point
from perfdata.perf.measuring import Measuring
from perfdata.perf.model import Budgets, ScenarioResult, TimeStats
from perfdata.perf.openers import (
    AsyncEngineOpener,
    AsyncPsycopgOpener,
    EngineOpener,
    PsycopgOpener,
)
from perfdata.perf.runs import AsyncSessionRun, Loop, OpenedRun, Run, SessionRun, joined_connection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

    from perfdata.dataset import Dataset
    from perfdata.perf.capture import Capture
    from perfdata.perf.engine import Facts
    from perfdata.perf.judge import Judge
    from perfdata.perf.openers import Opener

T = TypeVar("T")

# More rounds tell nothing about a median, and a scenario of 1 ms would run a thousand times.
_MOST_ROUNDS = 100
# tracemalloc makes Python two to four times as slow: a scenario that takes longer than this is
# run once more for its memory only where a budget asks for that.
_CHEAP_S = 1.0


class Benchmark(Protocol):
    """What is used of pytest-benchmark's fixture."""

    disabled: bool
    skipped: bool
    extra_info: dict[str, Any]
    stats: Any

    def pedantic(self, target: Callable[..., Any], **options: Any) -> Any:
        """Time rounds of ``target``, each between a setup and a teardown that are not timed."""


@dataclass(frozen=True)
class Task:
    """What a test asks for: its name and node, its budgets, and how long it may be timed."""

    name: str
    test: str
    dataset: Dataset
    budgets: Budgets
    min_rounds: int
    max_time_s: float
    on: str = "session"
    scenario: str | None = None  # what its scenario is called; None: by its function
    parameters: str = ""  # pytest's name for the test's parameters, which its scenario carries too


@dataclass(frozen=True)
class Place:
    """Where scenarios run: the URL of a clone, and what makes another.

    ``fresh`` None: there are no clones, and ``why_not`` says why; the URL is the database's own.
    ``driver`` is the one that engines of coroutine functions are on; ``data`` is ScenarioResult's.
    """

    url: str
    root: Path = field(default_factory=Path.cwd)
    fresh: Callable[[], str] | None = None
    why_not: str = ""
    driver: str = "psycopg"
    elsewhere: Elsewhere | None = None
    data: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Elsewhere:
    """The other datasets that growth is measured on: a clone's URL for a while, and their rows."""

    datasets: tuple[str, ...]
    opened: Callable[[str], AbstractContextManager[str]]
    rows: Callable[[str], int]


class Perf:
    """Runs scenarios on one dataset.

    ``perf(scenario, *args, **kwargs)`` calls ``scenario(session, *args, **kwargs)``, or with an
    engine or a connection where the marker says ``on``: once to warm up, once counted, then in
    timed rounds. What writes is counted in its first run, as each leaves the tables laid out in
    another way. Every run begins with nothing in the session, and what it wrote is rolled back,
    also what it committed. ``perf.measure()`` counts a block instead.
    """

    def __init__(
        self,
        session: Session,
        benchmark: Benchmark,
        task: Task,
        record: Callable[[ScenarioResult], None],
        place: Place,
        judge: Judge,
    ) -> None:
        """Take where it runs, what takes results, and what judges them."""
        self.session = session
        self._benchmark = benchmark
        self._task = task
        self._record = record
        self._place = place
        self._judge = judge
        self._callers = Callers(place.root)
        self._loop = Loop()
        self._timed = False
        self._recorded: set[str] = set()

    @property
    def dataset(self) -> Dataset:
        """The dataset that the test runs on: its name, ``as_of`` and parameters."""
        return self._task.dataset

    @property
    def engine(self) -> Engine:
        """The engine whose connections are counted: the session's."""
        return joined_connection(self.session).engine

    def __call__(self, scenario: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Run a scenario, and return what its counted run returned.

        Objects in it are detached from the session. Raises RegressedError, after the
        result was recorded, and ConfigError for what is no scenario.
        """
        __tracebackhide__ = True  # the test's line is to blame, or the scenario's
        self._check(scenario)

        def call(on: Any) -> T:
            return scenario(on, *args, **kwargs)

        asynchronous = is_coroutine_function(scenario)
        run: Run[T] = self._run(call, self._place, self.session, asynchronous=asynchronous)
        try:
            capture, facts, value, duration_s = self._capture(run)
            wrote = capture.tally.wrote
            times = memory = None
            if run.can_repeat(wrote=wrote):
                run.quieten(wrote=wrote)
                memory = self._memory(run, duration_s)
                times = self._time(run, self._rounds(duration_s))
        finally:
            run.close()
        result = self._result(_scenario_name(self._task, scenario), capture, facts)
        result = replace(result, time=times, memory_bytes=memory)
        self._conclude(result, list(self._points(result, call, asynchronous=asynchronous)))
        return value

    def measure(self, name: str | None = None, *, of: Any = None) -> Measuring:
        """Count the statements of a block; the marker's budgets hold for it.

        What is counted is the test's session, or what is given: an Engine, Session or Connection
        of SQLAlchemy, a connection of psycopg; of their asynchronous forms by ``async with``. The
        block is recorded under ``name`` (default: the test's), with its time as one round; a
        second one of that name in a test is a ConfigError. It is not undone before the test ends.
        """

        def conclude(capture: Capture, facts: Facts, duration_s: float) -> None:
            __tracebackhide__ = True
            times = TimeStats(duration_s, duration_s, 1, (duration_s,))
            result = self._result(name or self._task.scenario or self._task.name, capture, facts)
            self._conclude(replace(result, time=times))

        return Measuring(self.session if of is None else of, self._callers, conclude)

    def close(self) -> None:
        """End the loop of coroutine functions."""
        self._loop.close()

    def _run(
        self, call: Callable[[Any], Any], place: Place, session: Session, *, asynchronous: bool
    ) -> Run[Any]:
        on, loop = self._task.on, self._loop
        if on == "session" and asynchronous:
            return AsyncSessionRun(loop, make_async_engine(place.url, place.driver), call)
        if on == "session":
            return SessionRun(session, lambda: call(session))
        opener: Opener
        if on == "engine":
            opener = AsyncEngineOpener(loop, place.driver) if asynchronous else EngineOpener()
        else:
            opener = AsyncPsycopgOpener(loop) if asynchronous else PsycopgOpener()
        return OpenedRun(opener, place.url, place.fresh, call)

    def _points(
        self, result: ScenarioResult, call: Callable[[Any], Any], *, asynchronous: bool
    ) -> Iterator[Point]:
        """Yield what a scenario did here, and does on each dataset that growth is measured on."""
        elsewhere = self._place.elsewhere
        if elsewhere is None:
            return
        yield Point(result.dataset, elsewhere.rows(result.dataset), result.counters)
        for name in elsewhere.datasets:
            with elsewhere.opened(name) as url, _session_like(self.session, url) as session:
                place = replace(self._place, url=url, fresh=None)
                counters = self._counters(
                    self._run(call, place, session, asynchronous=asynchronous)
                )
            yield Point(name, elsewhere.rows(name), counters)

    def _counters(self, run: Run[Any]) -> dict[str, int]:
        """Capture a scenario where nothing is timed, and return what was counted."""
        self._warm = False
        try:
            capture, facts, _, _ = self._capture(run)
        finally:
            run.close()
        return self._result("", capture, facts).counters

    def _capture(self, run: Run[T]) -> tuple[Capture, Facts, T, float]:
        """Return the capture of the run that counts: the first where it wrote, else the second."""
        facts, warm = run.facts(), False
        while True:
            began = time.perf_counter()
            run.begin()
            try:
                with run.captured(facts, self._callers) as capture:
                    value = run.call()
            finally:
                run.undo()
            duration_s = time.perf_counter() - began
            if warm or capture.tally.wrote:
                return capture, facts, value, duration_s
            warm = True

    def _memory(self, run: Run[Any], duration_s: float) -> int | None:
        """Return the peak of Python's memory in a run of its own."""
        wanted = self._task.budgets.max_memory_mb is not None
        if tracemalloc.is_tracing() or not (wanted or duration_s < _CHEAP_S):
            return None
        run.begin()
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            run.call()
            return tracemalloc.get_traced_memory()[1] - before
        finally:
            tracemalloc.stop()
            run.undo()

    def _result(self, scenario: str, capture: Capture, facts: Facts) -> ScenarioResult:
        return ScenarioResult(
            scenario=scenario,
            test=self._task.test,
            dataset=self.dataset.name,
            statements=capture.statements(),
            budgets=self._task.budgets,
            settings=facts.settings,
            environment=facts.environment,
            data=self._place.data,
            plan_source=capture.plans,
            same_layout=not (self._place.why_not or capture.partial),
            not_captured=self._not_captured(capture, facts),
        )

    def _conclude(self, result: ScenarioResult, points: Sequence[Point] = ()) -> None:
        __tracebackhide__ = True
        self._check_name(result.scenario)
        result = self._judge.judged(result, points)
        self._benchmark.extra_info.update(
            dataset=result.dataset, queries=result.queries, rows=result.rows
        )
        self._record(result)
        self._judge.raise_red(result)

    def _check_name(self, name: str) -> None:
        """Have each result of the test under a name of its own: of two, the first would be lost."""
        __tracebackhide__ = True
        if name in self._recorded:
            raise ConfigError(
                f"this test has a result named {name!r} already: give each block a name of its "
                'own, perf.measure("…")'
            )
        self._recorded.add(name)

    def _not_captured(self, capture: Capture, facts: Facts) -> tuple[str, ...]:
        why_not = self._place.why_not or capture.partial
        no_clone = f"buffers and plans are shown, not judged: {why_not}"
        return (*([no_clone] if why_not else []), *facts.notes, *sorted(capture.unseen))

    def _check(self, scenario: Callable[..., Any]) -> None:
        __tracebackhide__ = True
        if not callable(scenario):
            raise ConfigError(f"perf() takes a function of a session, not {scenario!r}")
        if self._timed:
            raise ConfigError(
                "perf() was called before in this test, and a test is timed once; put the second "
                "scenario into a test of its own, or count it with perf.measure()"
            )
        self._timed = True

    def _rounds(self, duration_s: float) -> int:
        wanted = math.ceil(self._task.max_time_s / max(duration_s, 1e-9))
        return max(self._task.min_rounds, min(wanted, _MOST_ROUNDS))

    def _time(self, run: Run[Any], rounds: int) -> TimeStats | None:
        try:
            self._benchmark.pedantic(run.call, setup=run.begin, teardown=run.undo, rounds=rounds)
        finally:
            run.undo()  # pytest-benchmark calls no teardown when it is disabled
        if self._benchmark.disabled:
            return None
        stats = self._benchmark.stats.stats
        return TimeStats(stats.median, stats.min, stats.rounds, tuple(stats.data))


def is_coroutine_function(scenario: Any) -> bool:
    """Tell whether a call makes a coroutine, also through functools.partial or ``__call__``."""
    while isinstance(scenario, functools.partial):
        scenario = scenario.func
    return inspect.iscoroutinefunction(scenario) or (
        not inspect.isroutine(scenario)
        and inspect.iscoroutinefunction(getattr(scenario, "__call__", None))  # noqa: B004
    )


@contextmanager
def _session_like(session: Session, url: str) -> Iterator[Session]:
    """Open a session of the same class on another database, undone like the test's own."""
    engine = make_engine(url)
    try:
        with engine.connect() as connection, connection.begin() as transaction:
            with type(session)(connection, join_transaction_mode="create_savepoint") as other:
                yield other
            transaction.rollback()
    finally:
        engine.dispose()


def _scenario_name(task: Task, scenario: Callable[..., Any]) -> str:
    """Name a scenario: as its marker does, else by its function, else by its test."""
    found = task.scenario or _name(scenario)
    if found is None:
        return task.name
    return f"{found}[{task.parameters}]" if task.parameters else found


def _name(scenario: Callable[..., Any]) -> str | None:
    """Return the name of a function, also of one behind functools.partial; None of a lambda."""
    while hasattr(scenario, "func"):
        scenario = scenario.func
    name = getattr(scenario, "__name__", None)
    return None if name == "<lambda>" else name

"""The ``perf`` object of a test: runs a scenario, counts what it does, times it, undoes it."""

from __future__ import annotations

import functools
import inspect
import math
import time
import tracemalloc
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from perfdata.callers import Callers
from perfdata.errors import ConfigError
from perfdata.perf.capture.sessions import make_engine
from perfdata.perf.gate.growth import Point
from perfdata.perf.model import TimeStats
from perfdata.perf.scenario.blocks import Block
from perfdata.perf.scenario.recorder import Recorder
from perfdata.perf.scenario.runners import (
    AsyncSessionRunner,
    EngineRunner,
    EventLoop,
    PsycopgRunner,
    SessionRunner,
    joined_connection,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

    from perfdata.dataset import Dataset
    from perfdata.perf.capture.events import Capture
    from perfdata.perf.gate.verdict import Judge
    from perfdata.perf.model import ScenarioResult
    from perfdata.perf.scenario.recorder import Benchmark, ScenarioDatabase, ScenarioOptions
    from perfdata.perf.scenario.runners import Runner

T = TypeVar("T")

# More rounds tell nothing about a median, and a scenario of 1 ms would run a thousand times.
_MOST_ROUNDS = 100
# tracemalloc makes Python two to four times as slow: a scenario that takes longer than this is
# run once more for its memory only where a budget asks for that.
_CHEAP_S = 1.0


class Perf:
    """Runs scenarios on one dataset.

    ``perf(scenario, *args, **kwargs)`` calls ``scenario(session, *args, **kwargs)``, or with an
    engine or a connection where the marker says ``on``: once to warm up, once counted, then in
    timed rounds. What writes is counted in its first run, as each leaves the tables laid out in
    another way. Every run begins with nothing in the session, and what it wrote is rolled back,
    also what it committed. ``perf.measure()`` counts a block instead. Results are appended to
    ``results``.
    """

    def __init__(
        self,
        session: Session,
        benchmark: Benchmark,
        options: ScenarioOptions,
        place: ScenarioDatabase,
        judge: Judge,
        results: list[ScenarioResult],
    ) -> None:
        self.session = session
        self._benchmark = benchmark
        self._options = options
        self._place = place
        self._recorder = Recorder(options, place, judge, benchmark, results)
        self._callers = Callers(place.root)
        self._loop = EventLoop()
        self._timed = False

    @property
    def dataset(self) -> Dataset:
        """The dataset that the test runs on: its name, ``as_of`` and parameters."""
        return self._options.dataset

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
        runner: Runner[T] = self._runner(call, self._place, self.session, asynchronous=asynchronous)
        try:
            capture, value, duration_s = self._capture(runner)
            wrote = capture.tally.wrote
            times = memory = None
            if runner.can_repeat(wrote=wrote):
                runner.quieten(wrote=wrote)
                memory = self._memory(runner, duration_s)
                times = self._time(runner, self._rounds(duration_s))
        finally:
            runner.close()
        result = self._recorder.result(_scenario_name(self._options, scenario), capture)
        result = replace(result, time=times, memory_bytes=memory)
        points = list(self._points(result, call, asynchronous=asynchronous))
        self._recorder.record(result, points)
        return value

    def measure(self, name: str | None = None, *, of: Any = None) -> Block:
        """Count the statements of a block; the marker's budgets hold for it.

        What is counted is the test's session, or what is given: an Engine, Session or Connection
        of SQLAlchemy, a connection of psycopg; of their asynchronous forms by ``async with``. The
        block is recorded under ``name`` (default: the test's), with its time as one round; a
        second one of that name in a test is a ConfigError. It is not undone before the test ends.
        """
        name = name or self._options.scenario or self._options.name
        return Block(self.session if of is None else of, name, self._callers, self._recorder)

    def close(self) -> None:
        """End the loop of coroutine functions."""
        self._loop.close()

    def _runner(
        self,
        call: Callable[[Any], Any],
        place: ScenarioDatabase,
        session: Session,
        *,
        asynchronous: bool,
    ) -> Runner[Any]:
        """Choose how a scenario is run: by what it receives, and whether it is a coroutine's."""
        loop = self._loop if asynchronous else None
        if self._options.on == "engine":
            return EngineRunner(place.url, place.databases, call, loop, driver=place.driver)
        if self._options.on == "psycopg":
            return PsycopgRunner(place.url, place.databases, call, loop)
        if loop is not None:
            return AsyncSessionRunner(place.url, place.driver, loop, call)
        return SessionRunner(session, call)

    def _points(
        self, result: ScenarioResult, call: Callable[[Any], Any], *, asynchronous: bool
    ) -> Iterator[Point]:
        """Yield what a scenario did here, and does on each dataset that growth is measured on."""
        databases = self._place.databases
        if databases is None or not self._options.others:
            return
        yield Point(result.dataset, databases.rows(result.dataset), result.counters)
        for name in self._options.others:
            with databases.clone_of(name) as url, _session_like(self.session, url) as session:
                place = replace(self._place, url=url, databases=None)
                runner = self._runner(call, place, session, asynchronous=asynchronous)
                try:
                    capture, _, _ = self._capture(runner)
                finally:
                    runner.close()
            counters = self._recorder.result("", capture).counters
            yield Point(name, databases.rows(name), counters)

    def _capture(self, runner: Runner[T]) -> tuple[Capture, T, float]:
        """Return the capture of the run that counts: the first where it wrote, else the second.

        With it come what the scenario returned, and how long the run took in seconds.
        """
        facts, warm = runner.facts(), False
        while True:
            began = time.perf_counter()
            runner.begin()
            try:
                with runner.captured(facts, self._callers) as capture:
                    value = runner.call()
            finally:
                runner.undo()
            duration_s = time.perf_counter() - began
            if warm or capture.tally.wrote:
                return capture, value, duration_s
            warm = True

    def _memory(self, runner: Runner[Any], duration_s: float) -> int | None:
        """Return the peak of Python's memory in a run of its own."""
        wanted = self._options.budgets.max_memory_mb is not None
        if tracemalloc.is_tracing() or not (wanted or duration_s < _CHEAP_S):
            return None
        runner.begin()
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            runner.call()
            return tracemalloc.get_traced_memory()[1] - before
        finally:
            tracemalloc.stop()
            runner.undo()

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
        wanted = math.ceil(self._options.max_time_s / max(duration_s, 1e-9))
        return max(self._options.min_rounds, min(wanted, _MOST_ROUNDS))

    def _time(self, runner: Runner[Any], rounds: int) -> TimeStats | None:
        try:
            self._benchmark.pedantic(
                runner.call, setup=runner.begin, teardown=runner.undo, rounds=rounds
            )
        finally:
            runner.undo()  # pytest-benchmark calls no teardown when it is disabled
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


def _scenario_name(options: ScenarioOptions, scenario: Callable[..., Any]) -> str:
    """Name a scenario: as its marker does, else by its function, else by its test."""
    found = options.scenario or _name(scenario)
    if found is None:
        return options.name
    return f"{found}[{options.parameters}]" if options.parameters else found


def _name(scenario: Callable[..., Any]) -> str | None:
    """Return the name of a function, also of one behind functools.partial; None of a lambda."""
    while hasattr(scenario, "func"):
        scenario = scenario.func
    name = getattr(scenario, "__name__", None)
    return None if name == "<lambda>" else name

"""The ``perf`` fixture's object: runs a scenario, counts what it does, times it and undoes it."""

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
from perfdata.perf.capture.connections import make_engine
from perfdata.perf.gate.growth import Point
from perfdata.perf.model import TimeStats
from perfdata.perf.scenario.blocks import Block
from perfdata.perf.scenario.recorder import Recorder
from perfdata.perf.scenario.runners import EngineRunner, EventLoop, PsycopgRunner
from perfdata.perf.scenario.session_runners import (
    AsyncSessionRunner,
    SessionRunner,
    joined_connection,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

    from perfdata.dataset import Dataset
    from perfdata.perf.capture.events import Capture
    from perfdata.perf.gate.verdict import Judge
    from perfdata.perf.model import ScenarioResult
    from perfdata.perf.scenario.recorder import Benchmark, ScenarioDatabase, ScenarioOptions
    from perfdata.perf.scenario.runners import Runner

T = TypeVar("T")

# More rounds do not make a median more precise; a scenario of 1 ms would run a thousand times.
_MOST_ROUNDS = 100
# tracemalloc slows Python down two to four times: a slower scenario's memory is measured only if
# a budget limits it.
_CHEAP_S = 1.0


class Perf:
    """Runs scenarios on one dataset.

    ``perf(scenario, *args, **kwargs)`` calls ``scenario(session, *args, **kwargs)``; the marker's
    ``on`` replaces the session by an engine or a psycopg connection, and its ``session`` names the
    keyword argument by which it is passed. The scenario runs once to
    warm up, once counted, and then in timed rounds. A scenario that writes is counted in its first
    run, because each run changes the tables' physical layout. Every run starts with an empty
    session, and all its changes are undone, including commits. ``perf.measure()`` counts a block
    instead. Results are appended to ``results``.
    """

    def __init__(
        self,
        session: Session,
        benchmark: Benchmark,
        options: ScenarioOptions,
        database: ScenarioDatabase,
        judge: Judge,
        results: list[ScenarioResult],
    ) -> None:
        self.session = session
        self._benchmark = benchmark
        self._options = options
        self._database = database
        self._recorder = Recorder(options, database, judge, benchmark, results)
        self._callers = Callers(database.root, options.own_packages)
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
        """Run a scenario, and return the return value of its counted run.

        ORM objects in it are detached. Raises RegressedError after the result was recorded, and
        ConfigError for something that is not a scenario or a second scenario in a test.
        """
        __tracebackhide__ = True  # the traceback should end at the test's line
        keyword = self._options.keyword
        self._check(scenario, kwargs)

        def call(on: Any) -> T:
            if keyword:
                return scenario(*args, **{keyword: on}, **kwargs)
            return scenario(on, *args, **kwargs)

        asynchronous = is_coroutine_function(scenario)
        runner: Runner[T] = self._runner(
            call, self._database, self.session, asynchronous=asynchronous
        )
        try:
            capture, value, duration_s = self._capture(runner)
            wrote = capture.counter.wrote
            times = memory = None
            if runner.can_repeat(wrote=wrote):
                runner.disable_plans(wrote=wrote)
                memory = self._memory(runner, duration_s)
                times = self._time(runner, duration_s)
        finally:
            runner.close()
        result = self._recorder.result(_scenario_name(self._options, scenario), capture)
        result = replace(result, time=times, memory_bytes=memory)
        points = list(self._points(result, call, asynchronous=asynchronous))
        self._recorder.record(result, points)
        return value

    def measure(self, name: str | None = None, *, of: Any = None) -> Block:
        """Count the statements of a ``with`` block; the marker's budgets apply to it.

        ``of`` is what is counted: an Engine, Session or Connection of SQLAlchemy or a psycopg
        connection (default: the test's session); asynchronous ones take ``async with``. The block
        is recorded under ``name`` (default: the test's), its time as one round; a name used twice
        in a test raises ConfigError. The block's changes last until the test ends.
        """
        name = name or self._options.scenario or self._options.name
        return Block(self.session if of is None else of, name, self._callers, self._recorder)

    def close(self) -> None:
        """Close the event loop of coroutine functions."""
        self._loop.close()

    def _runner(
        self,
        call: Callable[[Any], Any],
        database: ScenarioDatabase,
        session: Session,
        *,
        asynchronous: bool,
    ) -> Runner[Any]:
        """Return the runner for what the scenario receives, and for coroutine functions."""
        loop = self._loop if asynchronous else None
        if self._options.on == "engine":
            return EngineRunner(database.url, database.databases, call, loop, database.driver)
        if self._options.on == "psycopg":
            return PsycopgRunner(database.url, database.databases, call, loop)
        if loop is not None:
            kind = database.async_session_class
            return AsyncSessionRunner(database.url, database.driver, loop, call, kind)
        return SessionRunner(session, call)

    def _points(
        self, result: ScenarioResult, call: Callable[[Any], Any], *, asynchronous: bool
    ) -> Iterator[Point]:
        """Yield the scenario's counters on this dataset, and on each other one for its growth."""
        databases = self._database.databases
        if databases is None or not self._options.others:
            return
        yield Point(result.dataset, databases.rows(result.dataset), result.counters)
        for name in self._options.others:
            with databases.clone_of(name) as url, _session_like(self.session, url) as session:
                database = replace(self._database, url=url, databases=None)
                runner = self._runner(call, database, session, asynchronous=asynchronous)
                try:
                    capture, _, _ = self._capture(runner)
                finally:
                    runner.close()
            counters = self._recorder.result("", capture).counters
            yield Point(name, databases.rows(name), counters)

    def _capture(self, runner: Runner[T]) -> tuple[Capture, T, float]:
        """Return the counted run's capture, return value and duration in seconds.

        The first run is counted if it wrote, else the second.
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
            if warm or capture.counter.wrote:
                return capture, value, duration_s
            warm = True

    def _memory(self, runner: Runner[Any], duration_s: float) -> int | None:
        """Return the peak of Python's memory during an extra run; None if it is not measured."""
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

    def _check(self, scenario: Callable[..., Any], kwargs: Mapping[str, Any]) -> None:
        __tracebackhide__ = True
        if not callable(scenario):
            raise ConfigError(f"perf() takes a function of a session, not {scenario!r}")
        if (keyword := self._options.keyword) in kwargs:
            raise ConfigError(
                f"perf(…, {keyword}=…) passes the argument that perf() itself passes, as "
                f'the marker says session="{keyword}": leave it out'
            )
        if self._timed:
            raise ConfigError(
                "perf() was already called in this test, and a test can time only one scenario: "
                "move the second one to its own test, or count it with perf.measure()"
            )
        self._timed = True

    def _rounds(self, runner: Runner[Any], duration_s: float) -> int:
        if runner.needs_clones:  # a clone takes longer than most scenarios
            return self._options.min_rounds
        wanted = math.ceil(self._options.max_time_s / max(duration_s, 1e-9))
        return max(self._options.min_rounds, min(wanted, _MOST_ROUNDS))

    def _time(self, runner: Runner[Any], duration_s: float) -> TimeStats | None:
        rounds = self._rounds(runner, duration_s)
        try:
            self._benchmark.pedantic(
                runner.call, setup=runner.begin, teardown=runner.undo, rounds=rounds
            )
        finally:
            runner.undo()  # pytest-benchmark calls no teardown when it is disabled
        if self._benchmark.disabled:
            return None
        stats = self._benchmark.stats.stats
        clones = stats.rounds if runner.needs_clones else 0
        return TimeStats(stats.median, stats.min, stats.rounds, tuple(stats.data), clones)


def is_coroutine_function(scenario: Any) -> bool:
    """Return whether a call returns a coroutine, also through functools.partial or ``__call__``."""
    while isinstance(scenario, functools.partial):
        scenario = scenario.func
    return inspect.iscoroutinefunction(scenario) or (
        not inspect.isroutine(scenario)
        and inspect.iscoroutinefunction(getattr(scenario, "__call__", None))  # noqa: B004
    )


@contextmanager
def _session_like(session: Session, url: str) -> Iterator[Session]:
    """Open a session of the same class on another database, in a transaction that is undone."""
    engine = make_engine(url)
    try:
        with engine.connect() as connection, connection.begin() as transaction:
            with type(session)(connection, join_transaction_mode="create_savepoint") as other:
                yield other
            transaction.rollback()
    finally:
        engine.dispose()


def _scenario_name(options: ScenarioOptions, scenario: Callable[..., Any]) -> str:
    """Return a scenario's name: its marker's, else its function's, else its test's."""
    found = options.scenario or _name(scenario)
    if found is None:
        return options.name
    return f"{found}[{options.parameters}]" if options.parameters else found


def _name(scenario: Callable[..., Any]) -> str | None:
    """Return the name of a function, also inside functools.partial; None for a lambda."""
    while hasattr(scenario, "func"):
        scenario = scenario.func
    name = getattr(scenario, "__name__", None)
    return None if name == "<lambda>" else name

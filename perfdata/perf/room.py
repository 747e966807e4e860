"""The ``perf`` object of a test: runs a scenario, counts what it does, times it, undoes it."""

from __future__ import annotations

import inspect
import math
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from perfdata.errors import ConfigError
from perfdata.perf.capture import Capture
from perfdata.perf.engine import settings_in_force
from perfdata.perf.model import Budgets, ScenarioResult, TimeStats
from perfdata.perf.results import check_budgets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Connection, Engine
    from sqlalchemy.engine import NestedTransaction
    from sqlalchemy.orm import Session

    from perfdata.dataset import Dataset

T = TypeVar("T")

# More rounds tell nothing about a median, and a scenario of 1 ms would run a thousand times.
_MOST_ROUNDS = 100


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


class Perf:
    """Runs scenarios on one dataset.

    ``perf(scenario, *args, **kwargs)`` calls ``scenario(session, *args, **kwargs)``: once to warm
    up, once counted, then in timed rounds. Every run begins with nothing in the session, and what
    it wrote is rolled back, also what it committed. ``perf.measure()`` counts a block instead.
    """

    def __init__(
        self,
        session: Session,
        benchmark: Benchmark,
        task: Task,
        record: Callable[[ScenarioResult], None],
    ) -> None:
        self.session = session
        self._benchmark = benchmark
        self._task = task
        self._record = record
        self._timed = False

    @property
    def dataset(self) -> Dataset:
        """The dataset that the test runs on: its name, ``as_of`` and parameters."""
        return self._task.dataset

    @property
    def engine(self) -> Engine:
        """The engine whose connections are counted: the session's."""
        return _connection(self.session).engine

    def __call__(self, scenario: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Run a scenario, and return what its counted run returned.

        Objects in it are detached from the session. Raises BudgetExceededError, after the
        result was recorded, and ConfigError for what is no scenario.
        """
        self._check(scenario)
        settings = settings_in_force(_connection(self.session))
        run = _Run(self.session, lambda: scenario(self.session, *args, **kwargs))
        run.once()
        began = time.perf_counter()
        with Capture(self.engine) as capture:
            value = run.once()
        times = self._time(run, self._rounds(time.perf_counter() - began))
        self._conclude(_name(scenario) or self._task.name, capture, times, settings)
        return value

    @contextmanager
    def measure(self, name: str | None = None) -> Iterator[Capture]:
        """Count the statements of a block; the marker's budgets hold for it.

        The block is recorded under ``name`` (default: the test's), with its time as one round. It
        is not undone before the test ends.
        """
        settings = settings_in_force(_connection(self.session))
        began = time.perf_counter()
        with Capture(self.engine) as capture:
            yield capture
        duration = time.perf_counter() - began
        times = TimeStats(duration, duration, 1)
        self._conclude(name or self._task.name, capture, times, settings)

    def _conclude(
        self, scenario: str, capture: Capture, times: TimeStats | None, settings: dict[str, str]
    ) -> None:
        result = ScenarioResult(
            scenario=scenario,
            test=self._task.test,
            dataset=self.dataset.name,
            statements=capture.statements(),
            time=times,
            budgets=self._task.budgets,
            settings=settings,
        )
        self._benchmark.extra_info.update(
            dataset=result.dataset, queries=result.queries, rows=result.rows
        )
        self._record(result)
        check_budgets(result)

    def _check(self, scenario: Callable[..., Any]) -> None:
        if not callable(scenario):
            raise ConfigError(f"perf() takes a function of a session, not {scenario!r}")
        if inspect.iscoroutinefunction(scenario):
            raise ConfigError(
                f"{_name(scenario)} is a coroutine function; perf() runs plain functions of a "
                "SQLAlchemy Session"
            )
        if self._timed:
            raise ConfigError(
                "perf() was called before in this test, and a test is timed once; put the second "
                "scenario into a test of its own, or count it with perf.measure()"
            )
        self._timed = True

    def _rounds(self, duration_s: float) -> int:
        wanted = math.ceil(self._task.max_time_s / max(duration_s, 1e-9))
        return max(self._task.min_rounds, min(wanted, _MOST_ROUNDS))

    def _time(self, run: _Run[Any], rounds: int) -> TimeStats | None:
        try:
            self._benchmark.pedantic(run.call, setup=run.begin, teardown=run.undo, rounds=rounds)
        finally:
            run.undo()  # pytest-benchmark calls no teardown when it is disabled
        if self._benchmark.disabled:
            return None
        stats = self._benchmark.stats.stats
        return TimeStats(stats.median, stats.min, stats.rounds, tuple(stats.data))


class _Run(Generic[T]):
    """A scenario in a savepoint of its own, so that whatever it commits can be undone.

    A savepoint, not a transaction: what the test wrote to its session before is seen by each run.
    """

    def __init__(self, session: Session, scenario: Callable[[], T]) -> None:
        self._session = session
        self._connection = _connection(session)
        self._scenario = scenario
        self._savepoint: NestedTransaction | None = None

    def once(self) -> T:
        self.begin()
        try:
            return self.call()
        finally:
            self.undo()

    def begin(self) -> None:
        self._session.flush()
        self._session.expunge_all()
        self._session.commit()  # into the test's own transaction, which is rolled back
        self._savepoint = self._connection.begin_nested()
        # The session's own savepoint stands for the application's BEGIN: neither is timed.
        self._session.connection()

    def call(self) -> T:
        return self._scenario()

    def undo(self) -> None:
        savepoint, self._savepoint = self._savepoint, None
        if savepoint is None:
            return
        self._session.expunge_all()  # first: a rollback would empty the objects it returned
        self._session.rollback()
        savepoint.rollback()


def _connection(session: Session) -> Connection:
    """Return the connection whose transaction a session has joined."""
    from sqlalchemy import Connection

    bind = session.bind
    if isinstance(bind, Connection) and session.join_transaction_mode == "create_savepoint":
        return bind
    raise ConfigError(
        "perf_session must be a Session on a Connection in a transaction, so that what a scenario "
        'commits can be undone: Session(connection, join_transaction_mode="create_savepoint")'
    )


def _name(scenario: Callable[..., Any]) -> str | None:
    """Return the name of a function, also of one behind functools.partial; None of a lambda."""
    while hasattr(scenario, "func"):
        scenario = scenario.func
    name = getattr(scenario, "__name__", None)
    return None if name == "<lambda>" else name

"""Runners: run a scenario repeatedly, each time from the same state.

What an engine or a psycopg connection commits cannot be undone: after a run that wrote, the next
one starts on a fresh clone. The runners of sessions are in session_runners.py.
"""

from __future__ import annotations

import asyncio
import sys
from abc import ABC, abstractmethod
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from perfdata.errors import ConfigError
from perfdata.perf.capture.connections import (
    QUESTIONS,
    SessionFacts,
    ask,
    connect_psycopg,
    connect_psycopg_async,
    make_async_engine,
    make_engine,
)
from perfdata.perf.capture.events import Capture

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator
    from contextlib import AbstractContextManager

    from sqlalchemy import Connection
    from sqlalchemy.ext.asyncio import AsyncEngine

    from perfdata.callers import Callers
    from perfdata.perf.scenario.recorder import Databases

R = TypeVar("R")
T = TypeVar("T")


class Runner(ABC, Generic[T]):
    """Runs one scenario repeatedly."""

    @abstractmethod
    def begin(self) -> None:
        """Prepare the next run."""

    @abstractmethod
    def call(self) -> T:
        """Run the scenario, and nothing else."""

    @abstractmethod
    def undo(self) -> None:
        """Undo the run as far as possible; a second call does nothing."""

    @abstractmethod
    def facts(self) -> SessionFacts:
        """Read the facts of the session that the scenario will run in."""

    @abstractmethod
    def captured(self, facts: SessionFacts, callers: Callers) -> AbstractContextManager[Capture]:
        """Capture the statements of a block."""

    def can_repeat(self, *, wrote: bool) -> bool:  # noqa: ARG002
        """Return whether the scenario can run again; ``wrote``: the last run did."""
        return True

    @property
    def needs_clones(self) -> bool:
        """Whether each run starts on a fresh clone, since the one before wrote."""
        return False

    def disable_plans(self, *, wrote: bool) -> None:
        """Stop the sessions from sending plans; ``wrote`` tells whether the scenario writes."""

    def close(self) -> None:
        """Release connections and engines."""


class EventLoop:
    """The event loop on which a test's coroutines run, one after the other.

    The loop is created when it is first used.
    """

    def __init__(self) -> None:
        self._runner: asyncio.Runner | None = None

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine; raise ConfigError if an event loop is already running."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return self._opened().run(coroutine)
        coroutine.close()
        raise ConfigError(
            "perf() runs coroutine functions on its own event loop, but one is already running "
            "here: make the test a plain def, or count it with perf.measure(of=…)"
        )

    def _opened(self) -> asyncio.Runner:
        if self._runner is None:
            # psycopg can't use Windows' default loop.
            windows = sys.platform == "win32"
            factory = asyncio.SelectorEventLoop if windows else None
            self._runner = asyncio.Runner(loop_factory=factory)
        return self._runner

    def close(self) -> None:
        """Close the loop."""
        if self._runner is not None:
            self._runner.close()


class CloneRunner(Runner[T]):
    """Runs a scenario that receives an engine or a driver's connection.

    ``databases`` makes the fresh clones, or is None if there can be none. With ``loop`` the
    scenario is a coroutine function, whose engine uses ``driver``.
    """

    def __init__(
        self,
        url: str,
        databases: Databases | None,
        scenario: Callable[[Any], Any],
        loop: EventLoop | None,
        driver: str = "psycopg",
    ) -> None:
        self._url = url
        self._databases = databases
        self._scenario = scenario
        self._loop = loop
        self._driver = driver
        self._opened: Any = None
        self._explained = True
        self._written = self._writes = False

    @abstractmethod
    def _open(self) -> Any:
        """Open what the scenario receives."""

    @abstractmethod
    def _close(self) -> None:
        """Close what the scenario received."""

    def begin(self) -> None:
        """Open what the scenario receives, on a fresh clone if the last run wrote."""
        if self._written and self._databases is not None:
            self.close()
            self._url = self._databases.fresh_clone()
        self._ensure_open()
        self._written = self._writes

    def can_repeat(self, *, wrote: bool) -> bool:
        """Return whether a fresh clone is available if one is needed."""
        return not wrote or self._databases is not None

    @property
    def needs_clones(self) -> bool:
        """Whether the scenario writes; known once plans are disabled."""
        return self._writes

    def call(self) -> T:
        """Run the scenario."""
        made: T = self._wait(self._scenario(self._opened))
        return made

    @contextmanager
    def captured(self, facts: SessionFacts, callers: Callers) -> Iterator[Capture]:
        """Capture what the scenario's connections send in a block."""
        with self._capture(facts, callers) as capture:
            yield capture
        self._written = capture.counter.wrote

    @abstractmethod
    def _capture(self, facts: SessionFacts, callers: Callers) -> AbstractContextManager[Capture]:
        """Capture what the opened engine or connection sends in a block."""

    def disable_plans(self, *, wrote: bool) -> None:
        """Reopen without plans; a scenario that writes gets a fresh clone for every run."""
        self._explained = False
        self._writes = self._written = wrote
        self.close()

    def close(self) -> None:
        """Close what is open."""
        if self._opened is not None:
            self._close()
            self._opened = None

    def _ensure_open(self) -> None:
        if self._opened is None or getattr(self._opened, "closed", False):
            self._opened = self._open()

    def _wait(self, made: Any) -> Any:
        """Return a call's result, awaited if the scenario is a coroutine function."""
        return made if self._loop is None else self._loop.run(made)


class EngineRunner(CloneRunner[T]):
    """Runs a scenario of an Engine; with ``loop``, of an AsyncEngine."""

    def undo(self) -> None:
        """Do nothing: a connection that returns to its pool is rolled back."""

    def facts(self) -> SessionFacts:
        """Ask a connection of the pool."""
        self._ensure_open()
        return self._on_connection(self._opened, ask)

    def _open(self) -> Any:
        """Make the engine, with a connection in its pool."""
        if self._loop is None:
            engine: Any = make_engine(self._url, explained=self._explained)
        else:
            engine = make_async_engine(self._url, self._driver, explained=self._explained)
        self._on_connection(engine, lambda _: None)
        return engine

    def _close(self) -> None:
        self._wait(self._opened.dispose())

    @contextmanager
    def _capture(self, facts: SessionFacts, callers: Callers) -> Iterator[Capture]:
        engine = self._opened if self._loop is None else self._opened.sync_engine
        with Capture(engine, facts, callers) as capture:
            yield capture
            if self._loop is not None:
                self._loop.run(asyncio.sleep(0))  # asyncpg delivers messages in the next iteration

    def _on_connection(self, engine: Any, function: Callable[[Connection], R]) -> R:
        if self._loop is None:
            with engine.connect() as connection:
                return function(connection)
        return self._loop.run(_on_async_connection(engine, function))


async def _on_async_connection(engine: AsyncEngine, function: Callable[[Connection], R]) -> R:
    async with engine.connect() as connection:
        return await connection.run_sync(function)


class PsycopgRunner(CloneRunner[T]):
    """Runs a scenario of a psycopg connection; with ``loop``, of an AsyncConnection."""

    def undo(self) -> None:
        """Roll back what was not committed."""
        if self._opened is not None and not self._opened.closed:
            self._wait(self._opened.rollback())

    def facts(self) -> SessionFacts:
        """Ask the connection."""
        self._ensure_open()
        execute = self._opened.execute
        cursors = (self._wait(execute(question.encode())) for question in QUESTIONS)
        found = SessionFacts.of([self._wait(cursor.fetchall()) for cursor in cursors])
        self._wait(self._opened.rollback())
        return found

    def _open(self) -> Any:
        connect: Any = connect_psycopg if self._loop is None else connect_psycopg_async
        return self._wait(connect(self._url, explained=self._explained))

    def _close(self) -> None:
        self._wait(self._opened.close())

    @contextmanager
    def _capture(self, facts: SessionFacts, callers: Callers) -> Iterator[Capture]:
        from perfdata.perf.capture.cursors import captured_cursors

        with captured_cursors(self._opened, facts, callers) as capture:
            yield capture
            self.undo()  # the last statement's plan comes when its transaction ends

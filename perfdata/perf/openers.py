"""Openers: what a scenario may get in the place of a session, of each kind and in both worlds."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from perfdata.perf.capture import Capture
from perfdata.perf.engine import (
    QUESTIONS,
    Facts,
    ask,
    connect_psycopg,
    connect_psycopg_async,
    make_async_engine,
    make_engine,
)
from perfdata.perf.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from perfdata.callers import Callers
    from perfdata.perf.runs import Loop


class Opener(Protocol):
    """How something is opened on a URL, used, and closed."""

    def open(self, url: str, *, explained: bool) -> Any:
        """Open it and connect once; ``explained``: its sessions send their plans."""

    def close(self, opened: Any) -> None:
        """Close it."""

    def run(self, scenario: Callable[[Any], Any], opened: Any) -> Any:
        """Run a scenario with it."""

    def undo(self, opened: Any) -> None:
        """Roll back what a scenario left open."""

    def facts(self, opened: Any) -> Facts:
        """Ask a session of it."""

    def captured(self, opened: Any, facts: Facts, callers: Callers) -> Any:
        """Make the context manager of a Capture."""


class EngineOpener:
    """A SQLAlchemy Engine."""

    def open(self, url: str, *, explained: bool) -> Any:
        """Make it, with a connection in its pool."""
        engine = make_engine(url, explained=explained)
        engine.connect().close()
        return engine

    def close(self, opened: Any) -> None:
        """Close its connections."""
        opened.dispose()

    def run(self, scenario: Callable[[Any], Any], opened: Any) -> Any:
        """Call the scenario."""
        return scenario(opened)

    def undo(self, opened: Any) -> None:
        """Do nothing: a connection that goes back to its pool is rolled back."""

    def facts(self, opened: Any) -> Facts:
        """Ask a session of its pool."""
        with opened.connect() as connection:
            return ask(connection)

    @contextmanager
    def captured(self, opened: Any, facts: Facts, callers: Callers) -> Iterator[Capture]:
        """Capture what all its connections send."""
        with Capture(opened, Tally(callers, facts.after), facts.plans) as capture:
            yield capture


class AsyncEngineOpener:
    """A SQLAlchemy AsyncEngine, used on a loop."""

    def __init__(self, loop: Loop, driver: str) -> None:
        """Take the loop, and the driver's name."""
        self._loop = loop
        self._driver = driver

    def open(self, url: str, *, explained: bool) -> Any:
        """Make it, with a connection in its pool."""
        engine = make_async_engine(url, self._driver, explained=explained)

        async def connect() -> None:
            await (await engine.connect()).close()

        self._loop.run(connect())
        return engine

    def close(self, opened: Any) -> None:
        """Close its connections."""
        self._loop.run(opened.dispose())

    def run(self, scenario: Callable[[Any], Any], opened: Any) -> Any:
        """Run the coroutine."""
        return self._loop.run(scenario(opened))

    def undo(self, opened: Any) -> None:
        """Do nothing: a connection that goes back to its pool is rolled back."""

    def facts(self, opened: Any) -> Facts:
        """Ask a session of its pool."""

        async def asked() -> Facts:
            async with opened.connect() as connection:
                found: Facts = await connection.run_sync(ask)
                return found

        return self._loop.run(asked())

    @contextmanager
    def captured(self, opened: Any, facts: Facts, callers: Callers) -> Iterator[Capture]:
        """Capture what all its connections send."""
        import asyncio

        with Capture(opened.sync_engine, Tally(callers, facts.after), facts.plans) as capture:
            yield capture
            self._loop.run(asyncio.sleep(0))  # asyncpg hands messages over in the next turn


class PsycopgOpener:
    """A connection of plain psycopg."""

    def open(self, url: str, *, explained: bool) -> Any:
        """Connect."""
        return connect_psycopg(url, explained=explained)

    def close(self, opened: Any) -> None:
        """Close it."""
        opened.close()

    def run(self, scenario: Callable[[Any], Any], opened: Any) -> Any:
        """Call the scenario."""
        return scenario(opened)

    def undo(self, opened: Any) -> None:
        """Roll back what was not committed."""
        if not opened.closed:
            opened.rollback()

    def facts(self, opened: Any) -> Facts:
        """Ask its session."""
        found = Facts.of([opened.execute(one).fetchall() for one in QUESTIONS])
        opened.rollback()
        return found

    @contextmanager
    def captured(self, opened: Any, facts: Facts, callers: Callers) -> Iterator[Capture]:
        """Capture what its cursors send."""
        from perfdata.perf.cursors import counted

        capture = Capture(None, Tally(callers, facts.after), facts.plans)
        with counted(opened, capture.tally, facts.plans):
            yield capture
            self.undo(opened)  # the last statement's plan comes when its transaction ends


class AsyncPsycopgOpener:
    """A connection of asynchronous psycopg, used on a loop."""

    def __init__(self, loop: Loop) -> None:
        """Take the loop."""
        self._loop = loop

    def open(self, url: str, *, explained: bool) -> Any:
        """Connect."""
        return self._loop.run(connect_psycopg_async(url, explained=explained))

    def close(self, opened: Any) -> None:
        """Close it."""
        self._loop.run(opened.close())

    def run(self, scenario: Callable[[Any], Any], opened: Any) -> Any:
        """Run the coroutine."""
        return self._loop.run(scenario(opened))

    def undo(self, opened: Any) -> None:
        """Roll back what was not committed."""
        if not opened.closed:
            self._loop.run(opened.rollback())

    def facts(self, opened: Any) -> Facts:
        """Ask its session."""

        async def asked() -> Facts:
            answers = [await (await opened.execute(one.encode())).fetchall() for one in QUESTIONS]
            await opened.rollback()
            return Facts.of(answers)

        return self._loop.run(asked())

    @contextmanager
    def captured(self, opened: Any, facts: Facts, callers: Callers) -> Iterator[Capture]:
        """Capture what its cursors send."""
        from perfdata.perf.cursors import counted

        capture = Capture(None, Tally(callers, facts.after), facts.plans)
        with counted(opened, capture.tally, facts.plans):
            yield capture
            self.undo(opened)

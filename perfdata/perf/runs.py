"""Runs: how a scenario is run over and over, each time as if it were the first.

A session's runs are undone by a savepoint. What an engine or a psycopg connection commits can't
be undone: after a run that wrote, the next one begins on a fresh clone.
"""

from __future__ import annotations

import asyncio
import sys
from abc import ABC, abstractmethod
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from perfdata.errors import ConfigError
from perfdata.perf.capture import Capture
from perfdata.perf.engine import ask
from perfdata.perf.explain import SWITCHED_OFF, SWITCHED_ON
from perfdata.perf.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

    from sqlalchemy import Connection
    from sqlalchemy.engine import NestedTransaction
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession
    from sqlalchemy.orm import Session

    from perfdata.callers import Callers
    from perfdata.perf.engine import Facts
    from perfdata.perf.openers import Opener

T = TypeVar("T")


class Run(ABC, Generic[T]):
    """A scenario that can be run again and again."""

    @abstractmethod
    def begin(self) -> None:
        """Make all ready."""

    @abstractmethod
    def call(self) -> T:
        """Run the scenario, and nothing else."""

    @abstractmethod
    def undo(self) -> None:
        """Undo what can be; to be called again it does nothing."""

    @abstractmethod
    def facts(self) -> Facts:
        """Ask the session that the scenario will run in."""

    @abstractmethod
    def captured(self, facts: Facts, callers: Callers) -> Any:
        """Make the context manager of a Capture of what is run in it."""

    def can_repeat(self, *, wrote: bool) -> bool:  # noqa: ARG002
        """Tell whether it can be run again, after a run that ``wrote`` or did not."""
        return True

    def quieten(self, *, wrote: bool) -> None:
        """Have the sessions send no plans from now on; ``wrote``: what was run before did."""

    def close(self) -> None:
        """Give back what was opened."""


class SessionRun(Run[T]):
    """A scenario in a savepoint of its own, so that whatever it commits can be undone.

    A savepoint, not a transaction: what the test wrote to its session before is seen by each run.
    """

    def __init__(self, session: Session, scenario: Callable[[], T]) -> None:
        """Take the session, and the scenario as a function of nothing."""
        self._session = session
        self._connection = joined_connection(session)
        self._scenario = scenario
        self._explained = True
        self._savepoint: NestedTransaction | None = None

    def begin(self) -> None:
        """Empty the session, and open the savepoint."""
        self._session.flush()
        self._session.expunge_all()
        self._session.commit()  # into the test's own transaction, which is rolled back
        if self._explained:  # before the savepoint: a rollback in the scenario does not undo it
            self._connection.exec_driver_sql(SWITCHED_ON)
        self._savepoint = self._connection.begin_nested()
        # The session's own savepoint stands for the application's BEGIN: neither is timed.
        self._session.connection()

    def call(self) -> T:
        """Run the scenario."""
        return self._scenario()

    def undo(self) -> None:
        """Roll the savepoint back."""
        savepoint, self._savepoint = self._savepoint, None
        if savepoint is None:
            return
        self._session.expunge_all()  # first: a rollback would empty the objects it returned
        self._session.rollback()
        savepoint.rollback()

    def facts(self) -> Facts:
        """Ask the session."""
        return ask(self._connection)

    @contextmanager
    def captured(self, facts: Facts, callers: Callers) -> Iterator[Capture]:
        """Capture what is sent in a block by any connection of the session's engine."""
        with captured_on(self._connection, facts, callers) as capture:
            yield capture

    def quieten(self, *, wrote: bool) -> None:  # noqa: ARG002
        """Have the session send no plans from now on."""
        self._explained = False
        self._connection.exec_driver_sql(SWITCHED_OFF)


@contextmanager
def captured_on(connection: Connection, facts: Facts, callers: Callers) -> Iterator[Capture]:
    """Capture a block on an open connection's engine; its session sends plans from here on."""
    connection.exec_driver_sql(SWITCHED_ON)
    with Capture(connection.engine, Tally(callers, facts.after), facts.plans) as capture:
        yield capture
        capture.flush(connection)


def joined_connection(session: Session) -> Connection:
    """Return the connection whose transaction a session has joined."""
    from sqlalchemy import Connection

    bind = session.bind
    if isinstance(bind, Connection) and session.join_transaction_mode == "create_savepoint":
        return bind
    raise ConfigError(
        "perf_session must be a Session on a Connection in a transaction, so that what a scenario "
        'commits can be undone: Session(connection, join_transaction_mode="create_savepoint")'
    )


class Loop:
    """An event loop of a test's own, on which its coroutines run in turn."""

    def __init__(self) -> None:
        """Make it when it is first needed."""
        self._runner: asyncio.Runner | None = None

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine; ConfigError where a loop is running here already."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return self._opened().run(coroutine)
        coroutine.close()
        raise ConfigError(
            "perf() runs coroutine functions on an event loop of its own, and here is one running: "
            "make the test a plain def, or count what it does with perf.measure(of=…)"
        )

    def _opened(self) -> asyncio.Runner:
        if self._runner is None:
            # psycopg can't use the loop that is the default on Windows.
            windows = sys.platform == "win32"
            factory = asyncio.SelectorEventLoop if windows else None
            self._runner = asyncio.Runner(loop_factory=factory)
        return self._runner

    def close(self) -> None:
        """End it."""
        if self._runner is not None:
            self._runner.close()


class AsyncSessionRun(Run[T]):
    """A coroutine function of an AsyncSession, which is made for it, undone as SessionRun does."""

    def __init__(
        self,
        loop: Loop,
        engine: AsyncEngine,
        scenario: Callable[[Any], Coroutine[Any, Any, T]],
    ) -> None:
        """Take the loop, an engine of its own, and the scenario of a session."""
        self._loop = loop
        self._scenario = scenario
        self._engine = engine
        self._connection: AsyncConnection
        self._session: AsyncSession
        loop.run(self._open())
        self._inner: SessionRun[None] = SessionRun(self._session.sync_session, lambda: None)

    async def _open(self) -> None:
        from sqlalchemy.ext.asyncio import AsyncSession

        self._connection = await self._engine.connect()
        await self._connection.begin()
        mode = "create_savepoint"
        self._session = AsyncSession(self._connection, join_transaction_mode=mode)

    def _within(self, function: Callable[[], Any]) -> Any:
        """Run a synchronous function in SQLAlchemy's way between the two worlds."""
        return self._loop.run(self._session.run_sync(lambda _: function()))

    def begin(self) -> None:
        """Empty the session, and open the savepoint."""
        self._within(self._inner.begin)

    def call(self) -> T:
        """Run the scenario on the loop."""
        return self._loop.run(self._scenario(self._session))

    def undo(self) -> None:
        """Roll the savepoint back."""
        self._within(self._inner.undo)

    def facts(self) -> Facts:
        """Ask the session."""
        found: Facts = self._within(self._inner.facts)
        return found

    @contextmanager
    def captured(self, facts: Facts, callers: Callers) -> Iterator[Capture]:
        """Capture what the session's engine sends in a block."""
        sync = self._connection.sync_connection
        if sync is None:
            raise ConfigError("the asynchronous session's connection was closed")
        self._within(lambda: sync.exec_driver_sql(SWITCHED_ON))
        with Capture(sync.engine, Tally(callers, facts.after), facts.plans) as capture:
            yield capture
            self._within(lambda: capture.flush(sync))
            self._loop.run(asyncio.sleep(0))  # asyncpg hands messages over in the loop's next turn

    def quieten(self, *, wrote: bool) -> None:
        """Have the session send no plans from now on."""
        self._within(lambda: self._inner.quieten(wrote=wrote))

    def close(self) -> None:
        """Undo all, and close the engine."""
        self._loop.run(self._close())

    async def _close(self) -> None:
        await self._session.close()
        await self._connection.close()
        await self._engine.dispose()


class OpenedRun(Run[T]):
    """A scenario of an engine or a connection of psycopg, each run on what the one before left.

    ``fresh`` makes another clone and returns its URL; None where there are none.
    """

    def __init__(
        self,
        opener: Opener,
        url: str,
        fresh: Callable[[], str] | None,
        scenario: Callable[[Any], Any],
    ) -> None:
        """Take how it is opened and where, and the scenario of that."""
        self._opener = opener
        self._url = url
        self._fresh = fresh
        self._scenario = scenario
        self._opened: Any = None
        self._explained = True
        self._written = self._writes = False

    def begin(self) -> None:
        """Open what the scenario gets, on a fresh clone where something was written."""
        if self._written and self._fresh is not None:
            self.close()
            self._url = self._fresh()
        if self._opened is None or getattr(self._opened, "closed", False):
            self._opened = self._opener.open(self._url, explained=self._explained)
        self._written = self._writes

    def can_repeat(self, *, wrote: bool) -> bool:
        """Tell whether there are clones where they are needed."""
        return not wrote or self._fresh is not None

    def call(self) -> T:
        """Run the scenario."""
        made: T = self._opener.run(self._scenario, self._opened)
        return made

    def undo(self) -> None:
        """Roll back what was left open."""
        if self._opened is not None:
            self._opener.undo(self._opened)

    def facts(self) -> Facts:
        """Ask one of its sessions."""
        if self._opened is None:
            self._opened = self._opener.open(self._url, explained=self._explained)
        return self._opener.facts(self._opened)

    @contextmanager
    def captured(self, facts: Facts, callers: Callers) -> Iterator[Capture]:
        """Capture what it sends in a block."""
        with self._opener.captured(self._opened, facts, callers) as capture:
            yield capture
        self._written = capture.tally.wrote

    def quieten(self, *, wrote: bool) -> None:
        """Open it without plans the next time; each run that writes begins on a fresh clone."""
        self._explained = False
        self._writes = self._written = wrote
        self.close()

    def close(self) -> None:
        """Close what is open."""
        opened, self._opened = self._opened, None
        if opened is not None:
            self._opener.close(opened)

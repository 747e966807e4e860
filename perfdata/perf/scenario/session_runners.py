"""Runners of scenarios that receive a session, whose changes a savepoint undoes."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from perfdata.errors import ConfigError
from perfdata.perf.capture.connections import (
    SWITCHED_OFF,
    SWITCHED_ON,
    SessionFacts,
    ask,
    make_async_engine,
)
from perfdata.perf.capture.events import Capture
from perfdata.perf.scenario.runners import EventLoop, Runner

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Connection
    from sqlalchemy.engine import NestedTransaction
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession
    from sqlalchemy.orm import Session

    from perfdata.callers import Callers

R = TypeVar("R")
T = TypeVar("T")


class SessionRunner(Runner[T]):
    """Runs a scenario of a Session in a savepoint, so that its commits can be undone.

    A savepoint, not a transaction: each run sees what the test wrote to the session before.
    """

    def __init__(self, session: Session, scenario: Callable[[Any], Any]) -> None:
        self._session = session
        self._connection = joined_connection(session)
        self._scenario = scenario
        self._explained = True
        self._savepoint: NestedTransaction | None = None

    def begin(self) -> None:
        """Empty the session, and open the savepoint."""
        self._within(self._begin)

    def call(self) -> T:
        """Run the scenario."""
        made: T = self._scenario(self._session)
        return made

    def undo(self) -> None:
        """Roll the savepoint back."""
        self._within(self._undo)

    def facts(self) -> SessionFacts:
        """Ask the session's connection."""
        return self._within(lambda: ask(self._connection))

    @contextmanager
    def captured(self, facts: SessionFacts, callers: Callers) -> Iterator[Capture]:
        """Capture what any connection of the session's engine sends in a block."""
        self._within(lambda: self._connection.exec_driver_sql(SWITCHED_ON))
        with Capture(self._connection.engine, facts, callers) as capture:
            yield capture
            self._flush(capture)

    def disable_plans(self, *, wrote: bool) -> None:  # noqa: ARG002
        """Stop the session from sending plans."""
        self._explained = False
        self._within(lambda: self._connection.exec_driver_sql(SWITCHED_OFF))

    def _within(self, function: Callable[[], R]) -> R:
        """Run SQLAlchemy's synchronous code where the connection's driver allows it."""
        return function()

    def _flush(self, capture: Capture) -> None:
        self._within(lambda: capture.flush(self._connection))

    def _begin(self) -> None:
        self._session.flush()
        self._session.expunge_all()
        self._session.commit()  # into the test's own transaction, which is rolled back
        if self._explained:  # before the savepoint, so that a rollback does not undo it
            self._connection.exec_driver_sql(SWITCHED_ON)
        self._savepoint = self._connection.begin_nested()
        # The session's own savepoint stands for the application's BEGIN: neither is timed.
        self._session.connection()

    def _undo(self) -> None:
        savepoint, self._savepoint = self._savepoint, None
        if savepoint is None:
            return
        self._session.expunge_all()  # first: a rollback would expire the returned objects
        self._session.rollback()
        savepoint.rollback()


def joined_connection(session: Session) -> Connection:
    """Return the connection whose transaction a session has joined."""
    from sqlalchemy import Connection

    bind = session.bind
    if isinstance(bind, Connection) and session.join_transaction_mode == "create_savepoint":
        return bind
    raise ConfigError(
        "perf_session must be a Session that joins a Connection's transaction, so that commits can "
        'be undone: Session(connection, join_transaction_mode="create_savepoint")'
    )


class AsyncSessionRunner(SessionRunner[T]):
    """Runs a coroutine function of an AsyncSession, which it opens on a clone's URL."""

    def __init__(
        self,
        url: str,
        driver: str,
        loop: EventLoop,
        scenario: Callable[[Any], Any],
        session_class: type[AsyncSession] | None = None,
    ) -> None:
        self._loop = loop
        self._engine = make_async_engine(url, driver)
        self._async_connection, self._async_session = loop.run(
            _joined_session(self._engine, session_class)
        )
        super().__init__(self._async_session.sync_session, scenario)

    def call(self) -> T:
        """Run the coroutine."""
        made: T = self._loop.run(self._scenario(self._async_session))
        return made

    def close(self) -> None:
        """Close the session, its connection and its engine."""
        self._loop.run(self._close())

    def _within(self, function: Callable[[], R]) -> R:
        return self._loop.run(self._async_connection.run_sync(lambda _: function()))

    def _flush(self, capture: Capture) -> None:
        super()._flush(capture)
        self._loop.run(asyncio.sleep(0))  # asyncpg delivers messages in the next iteration

    async def _close(self) -> None:
        await self._async_session.close()
        await self._async_connection.close()
        await self._engine.dispose()


async def _joined_session(
    engine: AsyncEngine, session_class: type[AsyncSession] | None
) -> tuple[AsyncConnection, AsyncSession]:
    from sqlalchemy.ext.asyncio import AsyncSession

    connection = await engine.connect()
    await connection.begin()
    kind = session_class or AsyncSession
    return connection, kind(bind=connection, join_transaction_mode="create_savepoint")

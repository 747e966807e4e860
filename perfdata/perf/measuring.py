"""Measuring: a block whose statements are counted once, as they come."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING, Any

from perfdata.errors import ConfigError
from perfdata.perf.capture import Capture
from perfdata.perf.engine import QUESTIONS, Facts, ask
from perfdata.perf.explain import SWITCHED_OFF, SWITCHED_ON, SWITCHED_ON_LOCALLY
from perfdata.perf.runs import captured_on
from perfdata.perf.tally import Tally

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from types import TracebackType

    from sqlalchemy import Engine

    from perfdata.callers import Callers

    Taken = tuple[Capture, Facts]


class Measuring:
    """The context manager of ``perf.measure()``; of what is asynchronous by ``async with``."""

    def __init__(
        self, of: Any, callers: Callers, conclude: Callable[[Capture, Facts, float], None]
    ) -> None:
        """Take what is counted, and what is done with the capture of a block without an error."""
        self._of = of
        self._callers = callers
        self._conclude = conclude
        self._within: Any = None
        self._taken: Taken
        self._began = 0.0

    def __enter__(self) -> Capture:
        """Begin to count; ConfigError for what can't be counted, or not like this."""
        self._within = _sync(self._of, self._callers)
        self._taken = self._within.__enter__()
        self._began = time.perf_counter()
        return self._taken[0]

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Count no more, and judge what was counted."""
        __tracebackhide__ = True
        duration_s = time.perf_counter() - self._began
        self._within.__exit__(kind, error, traceback)
        if error is None:
            self._conclude(*self._taken, duration_s)

    async def __aenter__(self) -> Capture:
        """Begin to count what is asynchronous."""
        self._within = _async(self._of, self._callers)
        self._taken = await self._within.__aenter__()
        self._began = time.perf_counter()
        return self._taken[0]

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Count no more, and judge what was counted."""
        __tracebackhide__ = True
        duration_s = time.perf_counter() - self._began
        await self._within.__aexit__(kind, error, traceback)
        if error is None:
            self._conclude(*self._taken, duration_s)


@contextmanager
def _sync(of: Any, callers: Callers) -> Iterator[Taken]:
    import psycopg
    from sqlalchemy import Connection, Engine
    from sqlalchemy.orm import Session, scoped_session

    if isinstance(of, (Session, scoped_session)):
        of = of.connection()
    if isinstance(of, Connection):
        facts = ask(of)
        with (
            _afterwards(lambda: of.exec_driver_sql(SWITCHED_OFF)),
            captured_on(of, facts, callers) as capture,
        ):
            yield capture, facts
    elif isinstance(of, Engine):
        with of.connect() as connection:
            facts = ask(connection)
        with _on_engine(of, facts, callers) as capture:
            yield capture, facts
    elif isinstance(of, psycopg.Connection):
        facts = Facts.of([_told(of, one) for one in QUESTIONS])
        _told(of, SWITCHED_ON)
        with (
            _on_psycopg(of, facts, callers) as capture,
            _afterwards(lambda: _told(of, SWITCHED_OFF)),
        ):
            yield capture, facts
    else:
        raise ConfigError(
            "perf.measure(of=…) takes a Session, Connection or Engine of SQLAlchemy or a "
            "connection of psycopg; their asynchronous forms by: async with perf.measure(of=…), "
            f"not {type(of).__module__}.{type(of).__qualname__}"
        )


@asynccontextmanager
async def _async(of: Any, callers: Callers) -> AsyncIterator[Taken]:
    import psycopg
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession

    if isinstance(of, AsyncSession):
        of = await of.connection()
    if isinstance(of, AsyncConnection):
        facts = await of.run_sync(ask)
        await of.exec_driver_sql(SWITCHED_ON)
        counted = Capture(of.engine.sync_engine, Tally(callers, facts.after), facts.plans)
        async with _afterwards_async(lambda: of.exec_driver_sql(SWITCHED_OFF)):
            with counted as capture:
                yield capture, facts
                await of.run_sync(capture.flush)
                await asyncio.sleep(0)  # asyncpg hands messages over in the loop's next turn
    elif isinstance(of, AsyncEngine):
        async with of.connect() as connection:
            facts = await connection.run_sync(ask)
        with _on_engine(of.sync_engine, facts, callers) as capture:
            yield capture, facts
            await asyncio.sleep(0)
    elif isinstance(of, psycopg.AsyncConnection):
        facts = Facts.of([await _told_async(of, one) for one in QUESTIONS])
        await _told_async(of, SWITCHED_ON)
        with _on_psycopg(of, facts, callers) as capture:
            async with _afterwards_async(lambda: _told_async(of, SWITCHED_OFF)):
                yield capture, facts
    else:
        raise ConfigError(
            "async with perf.measure(of=…) takes an AsyncSession, AsyncConnection or AsyncEngine, "
            f"or an AsyncConnection of psycopg, not {type(of).__module__}.{type(of).__qualname__}"
        )


@contextmanager
def _afterwards(switch: Callable[[], object]) -> Iterator[None]:
    """Switch plans off after a block, also after one that raised.

    In a transaction that failed nothing can be run: its rollback undoes what was switched in it.
    """
    from psycopg import Error
    from sqlalchemy.exc import DBAPIError

    try:
        yield
    except BaseException:
        with suppress(Error, DBAPIError):
            switch()
        raise
    switch()


@asynccontextmanager
async def _afterwards_async(switch: Callable[[], Awaitable[object]]) -> AsyncIterator[None]:
    """Do what _afterwards does."""
    from psycopg import Error
    from sqlalchemy.exc import DBAPIError

    try:
        yield
    except BaseException:
        with suppress(Error, DBAPIError):
            await switch()
        raise
    await switch()


@contextmanager
def _on_engine(engine: Engine, facts: Facts, callers: Callers) -> Iterator[Capture]:
    """Capture what an engine's connections send, whose transactions send their plans."""
    from sqlalchemy import event

    def begun(connection: Any) -> None:
        cursor = connection.connection.cursor()
        cursor.execute(SWITCHED_ON_LOCALLY)
        cursor.close()

    event.listen(engine, "begin", begun)
    try:
        with Capture(engine, Tally(callers, facts.after), facts.plans) as capture:
            yield capture
    finally:
        event.remove(engine, "begin", begun)


@contextmanager
def _on_psycopg(connection: Any, facts: Facts, callers: Callers) -> Iterator[Capture]:
    from perfdata.perf.cursors import counted

    capture = Capture(None, Tally(callers, facts.after), facts.plans)
    with counted(connection, capture.tally, facts.plans):
        yield capture


def _told(connection: Any, query: str) -> Any:
    """Run a query of our own, in no transaction where none is open."""
    import psycopg
    from psycopg.pq import TransactionStatus

    idle = connection.info.transaction_status == TransactionStatus.IDLE
    rows = psycopg.Cursor(connection).execute(query).fetchall()
    if idle:
        connection.commit()
    return rows


async def _told_async(connection: Any, query: str) -> Any:
    import psycopg
    from psycopg.pq import TransactionStatus

    idle = connection.info.transaction_status == TransactionStatus.IDLE
    rows = await (await psycopg.AsyncCursor(connection).execute(query.encode())).fetchall()
    if idle:
        await connection.commit()
    return rows

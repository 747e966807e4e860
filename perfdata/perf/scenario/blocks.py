"""Blocks of ``perf.measure()``, whose statements are counted once."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING, Any

from perfdata.errors import ConfigError
from perfdata.perf.capture.connections import (
    QUESTIONS,
    SWITCHED_OFF,
    SWITCHED_ON,
    SWITCHED_ON_LOCALLY,
    SessionFacts,
    ask,
)
from perfdata.perf.capture.cursors import captured_cursors
from perfdata.perf.capture.events import Capture

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from types import TracebackType

    from sqlalchemy import Engine

    from perfdata.callers import Callers
    from perfdata.perf.scenario.recorder import Recorder


class Block:
    """The context manager of ``perf.measure()``: captures a block, and records it as ``name``.

    A block that raises is not recorded. Asynchronous engines, sessions and connections take
    ``async with``; entering raises ConfigError for anything that cannot be counted this way.
    """

    def __init__(self, of: Any, name: str, callers: Callers, recorder: Recorder) -> None:
        self._of = of
        self._name = name
        self._callers = callers
        self._recorder = recorder
        self._within: Any = None
        self._capture: Capture
        self._began = 0.0

    def __enter__(self) -> Capture:
        self._within = _sync(self._of, self._callers)
        return self._begin(self._within.__enter__())

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        __tracebackhide__ = True
        duration_s = time.perf_counter() - self._began
        self._within.__exit__(kind, error, traceback)
        if error is None:
            self._recorder.record_block(self._name, self._capture, duration_s)

    async def __aenter__(self) -> Capture:
        self._within = _async(self._of, self._callers)
        return self._begin(await self._within.__aenter__())

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        __tracebackhide__ = True
        duration_s = time.perf_counter() - self._began
        await self._within.__aexit__(kind, error, traceback)
        if error is None:
            self._recorder.record_block(self._name, self._capture, duration_s)

    def _begin(self, capture: Capture) -> Capture:
        self._capture = capture
        self._began = time.perf_counter()
        return capture


@contextmanager
def _sync(of: Any, callers: Callers) -> Iterator[Capture]:
    import psycopg
    from sqlalchemy import Connection, Engine
    from sqlalchemy.orm import Session, scoped_session

    if isinstance(of, (Session, scoped_session)):
        of = of.connection()
    if isinstance(of, Connection):
        facts = ask(of)
        of.exec_driver_sql(SWITCHED_ON)
        with (
            _plans_off_after(lambda: of.exec_driver_sql(SWITCHED_OFF)),
            Capture(of.engine, facts, callers) as capture,
        ):
            yield capture
            capture.flush(of)
    elif isinstance(of, Engine):
        with of.connect() as connection:
            facts = ask(connection)
        with _on_engine(of, facts, callers) as capture:
            yield capture
    elif isinstance(of, psycopg.Connection):
        facts = SessionFacts.of([_fetch(of, question) for question in QUESTIONS])
        _fetch(of, SWITCHED_ON)
        with (
            captured_cursors(of, facts, callers) as capture,
            _plans_off_after(lambda: _fetch(of, SWITCHED_OFF)),
        ):
            yield capture
    else:
        raise ConfigError(
            "perf.measure(of=…) takes a SQLAlchemy Session, Connection or Engine or a psycopg "
            "connection (asynchronous ones with: async with perf.measure(of=…)), "
            f"not {type(of).__module__}.{type(of).__qualname__}"
        )


@asynccontextmanager
async def _async(of: Any, callers: Callers) -> AsyncIterator[Capture]:
    import psycopg
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession

    if isinstance(of, AsyncSession):
        of = await of.connection()
    if isinstance(of, AsyncConnection):
        facts = await of.run_sync(ask)
        await of.exec_driver_sql(SWITCHED_ON)
        async with _plans_off_after_async(lambda: of.exec_driver_sql(SWITCHED_OFF)):
            with Capture(of.engine.sync_engine, facts, callers) as capture:
                yield capture
                await of.run_sync(capture.flush)
                await asyncio.sleep(0)  # asyncpg delivers messages in the loop's next iteration
    elif isinstance(of, AsyncEngine):
        async with of.connect() as connection:
            facts = await connection.run_sync(ask)
        with _on_engine(of.sync_engine, facts, callers) as capture:
            yield capture
            await asyncio.sleep(0)
    elif isinstance(of, psycopg.AsyncConnection):
        facts = SessionFacts.of([await _fetch_async(of, question) for question in QUESTIONS])
        await _fetch_async(of, SWITCHED_ON)
        with captured_cursors(of, facts, callers) as capture:
            async with _plans_off_after_async(lambda: _fetch_async(of, SWITCHED_OFF)):
                yield capture
    else:
        raise ConfigError(
            "async with perf.measure(of=…) takes a SQLAlchemy AsyncSession, AsyncConnection or "
            "AsyncEngine or a psycopg AsyncConnection, "
            f"not {type(of).__module__}.{type(of).__qualname__}"
        )


@contextmanager
def _plans_off_after(switch: Callable[[], object]) -> Iterator[None]:
    """Switch plans off after a block, even if it raised.

    A failed transaction accepts no statement; its rollback restores the setting.
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
async def _plans_off_after_async(switch: Callable[[], Awaitable[object]]) -> AsyncIterator[None]:
    """Switch plans off like _plans_off_after."""
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
def _on_engine(engine: Engine, facts: SessionFacts, callers: Callers) -> Iterator[Capture]:
    """Capture what an engine's connections send, with plans switched on per transaction."""
    from sqlalchemy import event

    def begun(connection: Any) -> None:
        cursor = connection.connection.cursor()
        cursor.execute(SWITCHED_ON_LOCALLY)
        cursor.close()

    event.listen(engine, "begin", begun)
    try:
        with Capture(engine, facts, callers) as capture:
            yield capture
    finally:
        event.remove(engine, "begin", begun)


def _fetch(connection: Any, query: str) -> Any:
    """Return a query's rows, and leave no transaction open if none was."""
    import psycopg
    from psycopg.pq import TransactionStatus

    idle = connection.info.transaction_status == TransactionStatus.IDLE
    rows = psycopg.Cursor(connection).execute(query).fetchall()
    if idle:
        connection.commit()
    return rows


async def _fetch_async(connection: Any, query: str) -> Any:
    import psycopg
    from psycopg.pq import TransactionStatus

    idle = connection.info.transaction_status == TransactionStatus.IDLE
    rows = await (await psycopg.AsyncCursor(connection).execute(query.encode())).fetchall()
    if idle:
        await connection.commit()
    return rows

"""Capture what the cursors of a psycopg connection send, synchronous and asynchronous.

During a capture, subclasses of the connection's own cursor classes replace them. Calls and rows
count as with SQLAlchemy (see perfdata.perf.capture.events); for ``copy`` and ``stream`` the rows
are those that were transferred.
"""

from __future__ import annotations

from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql

from perfdata.perf.capture.events import (
    EXPLAIN,
    Capture,
    PlanMessages,
    around,
    count_fetched,
    explain_inline,
)
from perfdata.perf.capture.plans import from_explain
from perfdata.perf.capture.statements import explainable
from perfdata.perf.model import PlanSource

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator

    from perfdata.callers import Callers
    from perfdata.perf.capture.connections import SessionFacts
    from perfdata.perf.capture.counts import RunningCount, StatementCounter


class CursorCounter:
    """Counts the statements of one connection's cursors."""

    def __init__(self, counter: StatementCounter, plans: PlanSource) -> None:
        self._counter = counter
        self._explains = plans is PlanSource.EXPLAIN
        self._piped: list[tuple[Any, RunningCount]] = []

    def begin(
        self, cursor: Any, query: Any, parameters: Any, *, many: bool
    ) -> tuple[RunningCount | None, str | None]:
        """Count a statement; return its count, and its text if it needs an EXPLAIN."""
        text = _text(query, cursor.connection)
        count = self._counter.begin(text, parameters, cursor.connection, many=many)
        piped = bool(cursor.connection.pgconn.pipeline_status)
        asked = count is not None and self._explains and not piped and explainable(text)
        return count, text if asked else None

    def end(self, cursor: Any, count: RunningCount | None) -> None:
        """Count a statement's rows; in a pipeline their number is only known later."""
        if count is None:
            return
        count.ended = True
        if cursor.connection.pgconn.pipeline_status:
            self._piped.append((cursor, count))
        else:
            count.rows += max(cursor.rowcount, 0)

    def explained(self, plan: Any, count: RunningCount | None) -> None:
        """Add a statement's plan, if there is one."""
        if plan is not None:
            self._counter.explained(plan, count)

    def close(self) -> None:
        """Count the rows of pipelines."""
        for cursor, count in self._piped:
            count.rows += max(cursor.rowcount, 0)
        self._counter.finish()


def _text(query: Any, connection: Any) -> str:
    if isinstance(query, bytes):
        return query.decode(connection.info.encoding, "replace")
    return query if isinstance(query, str) else sql.as_string(query, connection)


@contextmanager
def captured_cursors(connection: Any, facts: SessionFacts, callers: Callers) -> Iterator[Capture]:
    """Capture what a psycopg connection's cursors send in a block."""
    capture = Capture(None, facts, callers)
    messages, cursors = PlanMessages(capture.counter), CursorCounter(capture.counter, facts.plans)
    if facts.plans is PlanSource.AUTO_EXPLAIN:
        messages.listen(connection)
    mixin: type = _Async if isinstance(connection, psycopg.AsyncConnection) else _Sync
    before = connection.cursor_factory, connection.server_cursor_factory
    attributes = {"perfdata_counter": cursors}
    counting = [type(f"Counting{base.__name__}", (mixin, base), attributes) for base in before]
    connection.cursor_factory, connection.server_cursor_factory = counting
    try:
        yield capture
    finally:
        connection.cursor_factory, connection.server_cursor_factory = before
        messages.close()
        cursors.close()


class _Sync:
    """The mixin of synchronous cursor classes."""

    perfdata_counter: CursorCounter  # a name that no other cursor class uses
    connection: Any

    def execute(self, query: Any, params: Any = None, **options: Any) -> Any:
        plain: Any = super()
        count = self._begin(query, params)
        if isinstance(self, psycopg.ServerCursor):
            if count is not None:
                count_fetched(self, count)
            return plain.execute(query, params, **options)
        made = plain.execute(query, params, **options)
        self.perfdata_counter.end(self, count)
        return made

    def executemany(self, query: Any, params_seq: Iterable[Any], **options: Any) -> None:
        rows = list(params_seq)
        plain: Any = super()
        count = self._begin(query, rows, many=True)
        plain.executemany(query, rows, **options)
        self.perfdata_counter.end(self, count)

    def stream(self, query: Any, params: Any = None, **options: Any) -> Iterator[Any]:
        plain: Any = super()
        count = self._begin(query, params)
        for row in plain.stream(query, params, **options):
            if count is not None:
                count.rows += 1
            yield row

    @contextmanager
    def copy(self, statement: Any, params: Any = None, **options: Any) -> Iterator[Any]:
        plain: Any = super()
        count = self._begin(statement, params)
        with plain.copy(statement, params, **options) as copy:
            yield copy
        self.perfdata_counter.end(self, count)

    def _begin(self, query: Any, params: Any, *, many: bool = False) -> RunningCount | None:
        count, text = self.perfdata_counter.begin(self, query, params, many=many)
        if text is not None:
            own = psycopg.Cursor(self.connection)
            auto = self.connection.autocommit
            for values in params if many else [params]:
                plan = explain_inline(own, psycopg.Error, text, values, autocommit=auto)
                self.perfdata_counter.explained(plan, count)
        return count


class _Async:
    """The mixin of asynchronous cursor classes."""

    perfdata_counter: CursorCounter  # a name that no other cursor class uses
    connection: Any

    async def execute(self, query: Any, params: Any = None, **options: Any) -> Any:
        plain: Any = super()
        count = await self._begin(query, params)
        if isinstance(self, psycopg.AsyncServerCursor):
            if count is not None:
                count_fetched(self, count)
            return await plain.execute(query, params, **options)
        made = await plain.execute(query, params, **options)
        self.perfdata_counter.end(self, count)
        return made

    async def executemany(self, query: Any, params_seq: Iterable[Any], **options: Any) -> None:
        rows = list(params_seq)
        plain: Any = super()
        count = await self._begin(query, rows, many=True)
        await plain.executemany(query, rows, **options)
        self.perfdata_counter.end(self, count)

    async def stream(self, query: Any, params: Any = None, **options: Any) -> AsyncIterator[Any]:
        plain: Any = super()
        count = await self._begin(query, params)
        async for row in plain.stream(query, params, **options):
            if count is not None:
                count.rows += 1
            yield row

    @asynccontextmanager
    async def copy(self, statement: Any, params: Any = None, **options: Any) -> AsyncIterator[Any]:
        plain: Any = super()
        count = await self._begin(statement, params)
        async with plain.copy(statement, params, **options) as copy:
            yield copy
        self.perfdata_counter.end(self, count)

    async def _begin(self, query: Any, params: Any, *, many: bool = False) -> RunningCount | None:
        count, text = self.perfdata_counter.begin(self, query, params, many=many)
        if text is not None:
            for values in params if many else [params]:
                self.perfdata_counter.explained(
                    await _explained(self.connection, text, values), count
                )
        return count


async def _explained(connection: Any, query: str, parameters: Any) -> Any:
    """Run explain_inline on an asynchronous connection."""
    begin, undo, end = around(autocommit=connection.autocommit)
    cursor = psycopg.AsyncCursor(connection)
    await cursor.execute(begin.encode())
    try:
        await cursor.execute((EXPLAIN + query).encode(), parameters)
        answer = (await cursor.fetchone() or [None])[0]
    except psycopg.Error:
        answer = None
    for statement in (undo, end):
        await cursor.execute(statement.encode())
    return None if answer is None else from_explain(query, answer)

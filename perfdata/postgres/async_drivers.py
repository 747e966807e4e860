"""Links over asynchronous drivers, with the same synchronous methods as any other link.

They must be used inside a SQLAlchemy greenlet (``run_sync``, ``greenlet_spawn``). Each method
awaits the driver there: the event loop keeps running, and cancelling the task cancels the
statement.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg
from psycopg.rows import tuple_row
from sqlalchemy.util import await_only

from perfdata.addresses import Address, real_folder
from perfdata.errors import ConfigError, ServerRefusedError
from perfdata.postgres.copy import OUT_DELIMITER, OUT_QUOTE
from perfdata.postgres.drivers import BasePsycopgLink, PsycopgLink, with_literals
from perfdata.postgres.link import Link

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
    from contextlib import AbstractAsyncContextManager

    import asyncpg
    import sqlalchemy
    from psycopg import sql
    from sqlalchemy.orm import Session, scoped_session

    from perfdata.postgres.copy import CopyIn
    from perfdata.postgres.link import Answer, Params, Query

T = TypeVar("T")
# Commands that are sent without preparing them, which takes half the round trips.
_WITHOUT_ROWS = ("BEGIN", "COMMIT", "ROLLBACK")


def join_connection(connection: sqlalchemy.Connection) -> Link:
    """Return a link that joins a SQLAlchemy connection's transaction.

    Raises ConfigError if its driver is not psycopg 3 or asyncpg.
    """
    # Begins the transaction that SQLAlchemy would begin with its first statement.
    connection.exec_driver_sql("SELECT 1")
    driver_connection: Any = connection.connection.driver_connection
    if isinstance(driver_connection, psycopg.Connection):
        return PsycopgLink(driver_connection)
    if isinstance(driver_connection, psycopg.AsyncConnection):
        return AsyncPsycopgLink(driver_connection)
    driver = type(driver_connection).__module__.partition(".")[0]
    if driver == "asyncpg":
        return AsyncpgLink(driver_connection)
    raise ConfigError(
        f"this SQLAlchemy connection uses {driver}, but perfdata can join a transaction only with "
        "psycopg 3 or asyncpg; use one of these drivers, or pass a URL"
    )


@contextmanager
def join_session(session: Session | scoped_session[Any]) -> Iterator[Link]:
    """Join a Session's transaction: flush it first, and expire its objects if rows changed."""
    session.flush()
    link = join_connection(session.connection())
    yield link
    if link.changed:
        session.expire_all()


class AsyncPsycopgLink(BasePsycopgLink):
    """A link over a psycopg AsyncConnection, which the caller closes."""

    connection: psycopg.AsyncConnection[Any]

    def _cursor(self) -> psycopg.AsyncCursor[tuple[Any, ...]]:
        return psycopg.AsyncCursor(self.connection, row_factory=tuple_row)

    def _wait(self, result: Awaitable[T]) -> T:
        return await_only(result)

    @contextmanager
    def _entered(self, manager: AbstractAsyncContextManager[T]) -> Iterator[T]:
        value = await_only(manager.__aenter__())
        try:
            yield value
        except BaseException as error:
            await_only(manager.__aexit__(type(error), error, error.__traceback__))
            raise
        await_only(manager.__aexit__(None, None, None))

    def _read(self, copy: psycopg.AsyncCopy, add: Callable[[bytes], None]) -> None:
        async def read() -> None:  # one greenlet switch for the whole COPY, not one per line
            async for line in copy:
                add(bytes(line))

        await_only(read())


class AsyncpgLink(Link):
    """A link over an asyncpg connection, which the caller closes."""

    def __init__(self, connection: asyncpg.Connection[Any]) -> None:
        super().__init__()
        self.connection = connection
        self.joined = self._transaction_open()

    def _run(self, query: Query, params: Params | None) -> Answer:
        async def run() -> Answer:
            if query in _WITHOUT_ROWS:
                return [], _count(await self.connection.execute(query))
            statement = await self.connection.prepare(with_literals(query, params))
            rows = [tuple(row) for row in await statement.fetch()]
            return rows, _count(statement.get_statusmsg())

        with _asyncpg_errors():
            return await_only(run())

    def _run_all(self, pairs: Sequence[tuple[Query, Params | None]]) -> list[Answer]:
        if self.in_transaction():
            return super()._run_all(pairs)
        with self._own_transaction():  # atomic, like the single string that psycopg sends
            self.flush()
            return super()._run_all(pairs)

    def _transaction_open(self) -> bool:
        return bool(self.connection.is_in_transaction())

    def address(self) -> Address:
        """Return the address that the client dialled."""
        # Not from the engine's URL: its creator may have connected elsewhere.
        address = self.connection._addr  # noqa: SLF001  asyncpg has no public attribute for it
        if not isinstance(address, str):
            host, port = address
            return Address(host, port)
        folder, _, name = address.rpartition("/")  # FOLDER/.s.PGSQL.PORT
        return Address(real_folder(folder), int(name.rpartition(".")[2]))

    def _copy_in(self, copy: CopyIn, blocks: Iterable[bytes]) -> int:
        async def source() -> AsyncIterator[bytes]:
            for block in blocks:
                yield block

        schema, name = copy.table._obj  # noqa: SLF001  psycopg's Identifier has no public attribute
        with _asyncpg_errors():
            status = await_only(
                self.connection.copy_to_table(
                    name,
                    schema_name=schema,
                    source=source(),
                    columns=list(copy.columns) or None,
                    format=copy.copy_format.name,
                    freeze=copy.freeze or None,
                    **copy.copy_format.options,
                )
            )
        return _count(status)

    def _copy_out(self, select: sql.Composed, add: Callable[[bytes], None]) -> None:
        async def output(data: bytes) -> None:
            add(data)

        with _asyncpg_errors():
            await_only(
                self.connection.copy_from_query(
                    select.as_string(None),
                    output=output,
                    format="csv",
                    quote=OUT_QUOTE,
                    delimiter=OUT_DELIMITER,
                )
            )


def _count(status: str) -> int:
    """Return the number of rows in a command's status such as ``COPY 5``, or -1."""
    last = status.rpartition(" ")[2]
    return int(last) if last.isdigit() else -1


@contextmanager
def _asyncpg_errors() -> Iterator[None]:
    import asyncpg

    try:
        yield
    except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise ServerRefusedError(
            str(error.args[0]) if error.args else type(error).__name__,
            sqlstate=getattr(error, "sqlstate", None),
            detail=getattr(error, "detail", None),
            constraint=getattr(error, "constraint_name", None),
            context=getattr(error, "context", None),
        ) from error

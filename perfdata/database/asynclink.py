"""Links over asynchronous drivers, for the same code as every other link.

They are used inside SQLAlchemy's greenlets (``run_sync``, ``greenlet_spawn``): each call awaits the
driver there, so that the event loop goes on, and a cancelled task is cancelled in the statement.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row
from sqlalchemy.util import await_only

from perfdata.database.address import Address, dialled, real_folder
from perfdata.database.link import (
    OUT_DELIMITER,
    OUT_QUOTE,
    Blocks,
    Link,
    PsycopgLink,
    copy_in_query,
    copy_out_query,
    joins,
    refusals,
)
from perfdata.database.script import script, with_literals
from perfdata.errors import ConfigError, RowsRefusedError, ServerRefusedError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence

    import asyncpg
    import sqlalchemy
    from sqlalchemy.orm import Session, scoped_session

    from perfdata.database.link import Answer, CopyFormat
    from perfdata.database.script import Params, Query


def link_within(connection: sqlalchemy.Connection) -> Link:
    """Return the link that joins a SQLAlchemy connection's transaction, whatever drives it.

    Raises ConfigError for a driver that can't carry a COPY of ours.
    """
    # Begins the transaction that SQLAlchemy would begin with its first statement.
    connection.exec_driver_sql("SELECT 1")
    found: Any = connection.connection.driver_connection
    if isinstance(found, psycopg.Connection):
        return PsycopgLink(found)
    if isinstance(found, psycopg.AsyncConnection):
        return AsyncPsycopgLink(found)
    if type(found).__module__.partition(".")[0] == "asyncpg":
        return AsyncpgLink(found)
    raise ConfigError(
        f"this SQLAlchemy connection is driven by {type(found).__module__}; to join its "
        "transaction perfdata needs psycopg 3 or asyncpg, else pass a URL"
    )


@contextmanager
def synchronised(session: Session | scoped_session[Any]) -> Iterator[Link]:
    """Link to a Session's connection: it sees what is pending, and objects see what it changed."""
    session.flush()
    link = link_within(session.connection())
    yield link
    if link.changed:
        session.expire_all()


class AsyncPsycopgLink(Link):
    """A link over psycopg's AsyncConnection."""

    def __init__(self, connection: psycopg.AsyncConnection[Any]) -> None:
        """Take the connection; it is the caller's to close."""
        self.connection = connection
        self.joined = joins(connection)
        self.waiting = []
        self._begun = False

    def _run(self, query: Query, params: Params | None) -> Answer:
        async def run() -> Answer:
            async with self._cursor() as cursor:
                await cursor.execute(query, params, prepare=False)
                return (await cursor.fetchall() if cursor.description else []), cursor.rowcount

        with refusals(rolled_back=self.changed):
            return await_only(run())

    def _run_all(self, pairs: Sequence[tuple[Query, Params | None]]) -> list[Answer]:
        async def run() -> list[Answer]:
            found: list[Answer] = []
            async with self._cursor() as cursor:
                await cursor.execute(script(pairs), prepare=False)
                for _ in pairs:
                    rows = await cursor.fetchall() if cursor.description else []
                    found.append((rows, cursor.rowcount))
                    cursor.nextset()
            return found

        with refusals(rolled_back=self.changed):
            return await_only(run())

    def _cursor(self) -> psycopg.AsyncCursor[tuple[Any, ...]]:
        return psycopg.AsyncCursor(self.connection, row_factory=tuple_row)

    @contextmanager
    def _nested(self) -> Iterator[None]:
        if self.in_transaction():
            with self._savepoint():
                yield
            return
        self.later("BEGIN")
        self._begun = True
        try:
            yield
            self.execute("COMMIT")
        except BaseException:
            with suppress(psycopg.Error):
                await_only(self.connection.rollback())
            raise
        finally:
            self._begun = False

    @contextmanager
    def _savepoint(self) -> Iterator[None]:
        transaction = self.connection.transaction()
        with refusals(rolled_back=self.changed):
            await_only(transaction.__aenter__())
            try:
                yield
            except BaseException as error:
                await_only(transaction.__aexit__(type(error), error, error.__traceback__))
                raise
            await_only(transaction.__aexit__(None, None, None))

    def in_transaction(self) -> bool:
        """Tell whether a transaction is open, or about to be."""
        return self._begun or self.connection.info.transaction_status != TransactionStatus.IDLE

    def address(self) -> Address:
        """Return where it was connected to."""
        return dialled(self.connection.info)

    def _copy_in(
        self,
        table: sql.Identifier,
        columns: Sequence[str],
        blocks: Iterable[bytes],
        form: CopyFormat,
        *,
        freeze: bool,
    ) -> int:
        async def run() -> int:
            async with self._cursor() as cursor:
                query = copy_in_query(table, columns, form, freeze=freeze)
                async with cursor.copy(query) as copy:
                    for block in blocks:
                        await copy.write(block)
                return cursor.rowcount

        with refusals(rolled_back=True):
            return await_only(run())

    def _copy_out(self, select: sql.Composed, write: Callable[[bytes], None]) -> None:
        async def run() -> None:
            gathered = Blocks(write)
            async with self._cursor() as cursor, cursor.copy(copy_out_query(select)) as copy:
                async for line in copy:
                    gathered.add(bytes(line))
            gathered.finish()

        with refusals():
            await_only(run())


class AsyncpgLink(Link):
    """A link over an asyncpg connection."""

    def __init__(self, connection: asyncpg.Connection[Any]) -> None:
        """Take the connection; it is the caller's to close."""
        self.connection = connection
        self.joined = self.in_transaction()
        self.waiting = []

    def _run(self, query: Query, params: Params | None) -> Answer:
        async def run() -> Answer:
            statement = await self.connection.prepare(with_literals(query, params))
            rows = [tuple(row) for row in await statement.fetch()]
            return rows, _count(statement.get_statusmsg())

        with _asyncpg_refusals(rolled_back=self.changed):
            return await_only(run())

    def _run_all(self, pairs: Sequence[tuple[Query, Params | None]]) -> list[Answer]:
        if self.in_transaction():
            return super()._run_all(pairs)
        with self._nested():  # as the one string is that other drivers send
            return super()._run_all(pairs)

    @contextmanager
    def _nested(self) -> Iterator[None]:
        transaction = self.connection.transaction()
        with _asyncpg_refusals(rolled_back=self.changed):
            await_only(transaction.start())
            try:
                yield
                self.flush()
            except BaseException:
                await_only(transaction.rollback())
                raise
            await_only(transaction.commit())

    def in_transaction(self) -> bool:
        """Tell whether a transaction is open."""
        return bool(self.connection.is_in_transaction())

    def address(self) -> Address:
        """Return where it was connected to."""
        # Not the engine's URL: a creator may have connected elsewhere.
        where = self.connection._addr  # noqa: SLF001  asyncpg tells it nowhere else
        if not isinstance(where, str):
            host, port = where
            return Address(host, port)
        folder, _, name = where.rpartition("/")  # a socket's file is FOLDER/.s.PGSQL.PORT
        return Address(real_folder(folder), int(name.rpartition(".")[2]))

    def _copy_in(
        self,
        table: sql.Identifier,
        columns: Sequence[str],
        blocks: Iterable[bytes],
        form: CopyFormat,
        *,
        freeze: bool,
    ) -> int:
        async def source() -> AsyncIterator[bytes]:
            for block in blocks:
                yield block

        schema, name = table._obj  # noqa: SLF001  psycopg's Identifier has no other way to its parts
        options = {"quote": form.quote, "escape": form.escape, "null": form.null}
        with _asyncpg_refusals(rolled_back=True):
            status = await_only(
                self.connection.copy_to_table(
                    name,
                    schema_name=schema,
                    source=source(),
                    columns=list(columns) or None,
                    format=form.name,
                    freeze=freeze or None,
                    **{key: value for key, value in options.items() if value is not None},
                )
            )
        return _count(status)

    def _copy_out(self, select: sql.Composed, write: Callable[[bytes], None]) -> None:
        gathered = Blocks(write)

        async def output(data: bytes) -> None:
            gathered.add(data)

        with _asyncpg_refusals():
            await_only(
                self.connection.copy_from_query(
                    select.as_string(None),
                    output=output,
                    format="csv",
                    quote=OUT_QUOTE,
                    delimiter=OUT_DELIMITER,
                )
            )
        gathered.finish()


def _count(status: str) -> int:
    """Read the number of rows from a command's status, such as ``COPY 5``."""
    last = status.rpartition(" ")[2]
    return int(last) if last.isdigit() else -1


@contextmanager
def _asyncpg_refusals(*, rolled_back: bool = False) -> Iterator[None]:
    import asyncpg

    kind = RowsRefusedError if rolled_back else ServerRefusedError
    try:
        yield
    except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise kind(
            str(error.args[0]) if error.args else type(error).__name__,
            sqlstate=getattr(error, "sqlstate", None),
            detail=getattr(error, "detail", None),
            constraint=getattr(error, "constraint_name", None),
            context=getattr(error, "context", None),
        ) from error

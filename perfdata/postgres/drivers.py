"""Links over psycopg: what its two kinds of connection share, and the synchronous one."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg
from psycopg import sql
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row

from perfdata.addresses import dialled_address
from perfdata.errors import ConfigError, ServerRefusedError
from perfdata.postgres.copy import copy_out_statement
from perfdata.postgres.link import Link

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from perfdata.addresses import Address
    from perfdata.postgres.copy import CopyIn
    from perfdata.postgres.link import Answer, Params, Query

T = TypeVar("T")

_PLACEHOLDER = re.compile(r"%(?:%|s|\((\w+)\)s)")


class BasePsycopgLink(Link):
    """What links over psycopg share: everything but whether a call has to be awaited."""

    def __init__(self, connection: psycopg.Connection[Any] | psycopg.AsyncConnection[Any]) -> None:
        super().__init__()
        if connection.pgconn.pipeline_status:
            raise ConfigError(
                "a psycopg connection in pipeline mode can't be used",
                remedy="Leave the pipeline first",
            )
        self.connection = connection
        # Without autocommit the first statement begins a transaction, which is the caller's too.
        self.joined = not connection.autocommit or self._transaction_open()

    @abstractmethod
    def _cursor(self) -> Any:
        """Make a client-side cursor that returns tuples, whatever the connection's factories."""

    @abstractmethod
    def _wait(self, result: Any) -> Any:
        """Return the result of a psycopg call; if it is a coroutine, await it first."""

    @abstractmethod
    def _entered(self, manager: Any) -> AbstractContextManager[Any]:
        """Return a context manager that enters and leaves psycopg's own."""

    @abstractmethod
    def _read(self, copy: Any, add: Callable[[bytes], None]) -> None:
        """Pass each line of a COPY to ``add``."""

    def _run(self, query: Query, params: Params | None) -> Answer:
        with translated_errors():
            cursor = self._cursor()
            self._wait(cursor.execute(query, params, prepare=False))
            return self._answer(cursor)

    def _run_all(self, pairs: Sequence[tuple[Query, Params | None]]) -> list[Answer]:
        answers: list[Answer] = []
        with translated_errors():
            cursor = self._cursor()
            self._wait(cursor.execute(script(pairs), prepare=False))
            for _ in pairs:
                answers.append(self._answer(cursor))
                cursor.nextset()
        return answers

    def _answer(self, cursor: Any) -> Answer:
        rows = self._wait(cursor.fetchall()) if cursor.description else []
        return rows, cursor.rowcount

    def _transaction_open(self) -> bool:
        return self.connection.info.transaction_status != TransactionStatus.IDLE

    def address(self) -> Address:
        """Return the address that the client dialled."""
        return dialled_address(self.connection.info)

    def _copy_in(self, copy: CopyIn, blocks: Iterable[bytes]) -> int:
        with translated_errors():
            cursor = self._cursor()
            with self._entered(cursor.copy(copy.statement())) as opened:
                for block in blocks:
                    self._wait(opened.write(block))
            return int(cursor.rowcount)

    def _copy_out(self, select: sql.Composed, add: Callable[[bytes], None]) -> None:
        with (
            translated_errors(),
            self._entered(self._cursor().copy(copy_out_statement(select))) as copy,
        ):
            self._read(copy, add)


class PsycopgLink(BasePsycopgLink):
    """A link over a psycopg connection, which the caller closes."""

    connection: psycopg.Connection[Any]

    def _cursor(self) -> psycopg.Cursor[tuple[Any, ...]]:
        return psycopg.Cursor(self.connection, row_factory=tuple_row)

    def _wait(self, result: T) -> T:
        return result

    def _entered(self, manager: AbstractContextManager[T]) -> AbstractContextManager[T]:
        return manager

    def _read(self, copy: psycopg.Copy, add: Callable[[bytes], None]) -> None:
        for line in copy:
            add(bytes(line))


def with_literals(query: Query, params: Params | None) -> str:
    """Replace the placeholders of a query in psycopg's style by literals."""
    text = query if isinstance(query, str) else query.as_string(None)
    if params is None:
        return text
    named: Mapping[str, Any] = params if isinstance(params, Mapping) else {}
    positional = iter(() if named else params)

    def literal(match: re.Match[str]) -> str:
        if match[0] == "%%":
            return "%"
        value = named[match[1]] if match[1] else next(positional)
        return sql.Literal(value).as_string(None)

    return _PLACEHOLDER.sub(literal, text)


def script(pairs: Iterable[tuple[Query, Params | None]]) -> sql.SQL:
    """Join statements into one string, which the server runs in one round trip."""
    return sql.SQL(";\n".join(with_literals(query, params) for query, params in pairs))


@contextmanager
def translated_errors() -> Iterator[None]:
    """Raise psycopg's errors as ServerRefusedError, as every link does."""
    try:
        yield
    except psycopg.Error as error:
        diag = error.diag
        raise ServerRefusedError(
            diag.message_primary or str(error),
            sqlstate=error.sqlstate,
            detail=diag.message_detail,
            constraint=diag.constraint_name,
            context=diag.context,
        ) from error

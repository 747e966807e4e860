"""Links: what the library asks of a connection, whichever driver carries it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, LiteralString, TypeVar

import psycopg
from psycopg import sql
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row

from perfdata.addresses import dialled
from perfdata.database.script import script
from perfdata.errors import ServerRefusedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from perfdata.addresses import Address
    from perfdata.database.script import Params, Query

    Asked = Query | tuple[Query, Params]  # a statement, with its parameters where it has any
    Rows = list[tuple[Any, ...]]
    Answer = tuple[Rows, int]

T = TypeVar("T")

# What decides how a value is written and read as text, and how long a statement may take
# (POSTGRES.md found each of them changing data or counts). Names a server does not know are left.
PINNED = {
    "client_encoding": "UTF8",
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "extra_float_digits": "3",
    "bytea_output": "hex",
    "lc_monetary": "C",
    "array_nulls": "on",
    "xmloption": "content",
    "row_security": "off",
    "standard_conforming_strings": "on",
    "synchronize_seqscans": "off",
    "default_tablespace": "",
    "quote_all_identifiers": "off",
    "max_parallel_workers_per_gather": "0",
    # With it the planner evaluates what partitions' checks call.
    "constraint_exclusion": "off",
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "transaction_timeout": "0",
}

# The path of the library's own queries: no operator or function that a table's owner made is on it,
# whatever fits its arguments best. Temporary tables come last, where they hide nothing.
SAFE_PATH = "pg_catalog, pg_temp"
_PATH = "SELECT pg_catalog.set_config('search_path', %s, true)"

# JSON holds no control characters, so that a row passes COPY's csv as it is.
OUT_QUOTE, OUT_DELIMITER = "\x01", "\x02"
# Rows gathered into one block: one Python call a row costs more than the bytes do.
BLOCK_BYTES = 1 << 18


@dataclass(frozen=True)
class CopyFormat:
    """How the bytes of a COPY into a table are written; ``quote`` and so on are of csv alone."""

    name: LiteralString
    quote: LiteralString | None = None
    escape: LiteralString | None = None
    null: LiteralString | None = None
    delimiter: LiteralString | None = None

    def options(self, *, freeze: bool) -> sql.Composed:
        """Write COPY's options."""
        given = {
            "QUOTE": self.quote,
            "ESCAPE": self.escape,
            "NULL": self.null,
            "DELIMITER": self.delimiter,
        }
        words: list[sql.Composable] = [sql.SQL("FORMAT {}").format(sql.SQL(self.name))]
        words += [
            sql.SQL("{} {}").format(sql.SQL(word), sql.Literal(value))
            for word, value in given.items()
            if value is not None
        ]
        return sql.SQL(", ").join([*words, sql.SQL("FREEZE")] if freeze else words)


TEXT = CopyFormat("text")
_READING = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"
_WRITING = "SET TRANSACTION ISOLATION LEVEL READ COMMITTED, READ WRITE"
_CURRENT = """
SELECT s.name, current_setting(s.name) FROM pg_settings s
WHERE lower(s.name) = ANY (%s::text[])"""
_CHANGE = """
SELECT set_config(s.name, w.value, %s) FROM pg_settings s
JOIN unnest(%s::text[], %s::text[]) AS w (name, value) ON w.name = lower(s.name)"""


# What a role lacks for which server_identifier is None.
READ_IDENTIFIER = "GRANT EXECUTE ON FUNCTION pg_catalog.pg_control_system() TO the role"


class Later:
    """A statement that waits for the next one, to go with it in one round trip."""

    def __init__(self, link: Link, query: Query, params: Params | None) -> None:
        """Take the statement and who is to run it."""
        self._link = link
        self.pair = (query, params)
        self.answer: Answer | None = None

    @property
    def rows(self) -> Rows:
        """The rows that it gave; where nothing ran since, it runs now."""
        if self.answer is None:
            self._link.flush()
        return self.answer[0] if self.answer else []


class Link(ABC):
    """A connection; ``joined`` when its open transaction belongs to the caller."""

    joined: bool
    # The search path that the open transaction had before it was put on SAFE_PATH.
    _own_path: Later
    # Set by what changes rows, so that a Session's objects can be told to be read again.
    changed: bool = False

    def __init__(self) -> None:
        # Statements that wait for the next one, to go with it in one round trip.
        self.waiting: list[Later] = []
        # A BEGIN has been sent, or waits to be.
        self._begun = False

    @abstractmethod
    def _run(self, query: Query, params: Params | None) -> Answer:
        """Run a statement, never prepared; return its rows and how many it gave or touched."""

    def _run_all(self, pairs: Sequence[tuple[Query, Params | None]]) -> list[Answer]:
        """Run statements in turn; a driver that can sends them all at once."""
        return [self._run(query, params) for query, params in pairs]

    @abstractmethod
    def _transaction_open(self) -> bool:
        """Tell whether the server has a transaction open on this connection, failed or not."""

    @abstractmethod
    def address(self) -> Address:
        """Return where it was connected to."""

    @abstractmethod
    def _copy_in(
        self,
        table: sql.Identifier,
        columns: Sequence[str],
        blocks: Iterable[bytes],
        form: CopyFormat,
        *,
        freeze: bool,
    ) -> int: ...

    @abstractmethod
    def _copy_out(self, select: sql.Composed, add: Callable[[bytes], None]) -> None:
        """Pass on what the server sends: whole lines, or parts of one."""

    def copy_in(
        self,
        table: sql.Identifier,
        columns: Sequence[str],
        blocks: Iterable[bytes],
        form: CopyFormat,
        *,
        freeze: bool = False,
    ) -> int:
        """Send blocks of whole lines into a table in one COPY; return the number of rows."""
        self.flush()
        return self._copy_in(table, columns, blocks, form, freeze=freeze)

    def copy_out(self, select: sql.Composed, write: Callable[[bytes], None]) -> None:
        """Give ``write`` the rows of a query of one text column, in blocks of whole lines.

        To be used in a transaction, which has the safe path.
        """
        self.flush()
        blocks = Blocks(write)
        self._copy_out(select, blocks.add)
        blocks.finish()

    def together(self, asked: Iterable[Asked]) -> list[Rows]:
        """Run queries one after the other on SAFE_PATH, in one round trip where the driver can.

        Returns the rows of each. A refusal ends it: those behind the refused one are not run.
        """
        pairs = [one if isinstance(one, tuple) else (one, None) for one in asked]
        return [rows for rows, _ in self._ask(pairs)] if pairs else []

    def later(self, query: Query, params: Params | None = None) -> Later:
        """Have a statement run before the next one, whose round trip it shares.

        Outside a transaction no query may wait: it would not have SAFE_PATH. A refusal is raised by
        the one that it goes with.
        """
        self.waiting.append(Later(self, query, params))
        return self.waiting[-1]

    def flush(self) -> None:
        """Run the statements that wait."""
        if self.waiting:
            self._answers([])

    def _ask(self, pairs: Sequence[tuple[Query, Params | None]]) -> list[Answer]:
        """Run queries on SAFE_PATH, which every transaction has already.

        Outside one it lasts as long as the string that is sent, never as long as the session: a
        pooler may give that to somebody else.
        """
        if not self.in_transaction():
            self.later(_PATH, (SAFE_PATH,))
        return self._answers(pairs)

    def _answers(self, pairs: Sequence[tuple[Query, Params | None]]) -> list[Answer]:
        """Run what waits, then these; return the answers to these."""
        before, self.waiting = self.waiting, []
        together = [*(one.pair for one in before), *pairs]
        found = [self._run(*together[0])] if len(together) == 1 else self._run_all(together)
        for one, answer in zip(before, found, strict=False):
            one.answer = answer
        return found[len(before) :]

    @cached_property
    def server_identifier(self) -> int | None:
        """The cluster's own identifier; None where it won't say. Asked once."""
        identifier = "SELECT system_identifier FROM pg_catalog.pg_control_system()"
        if self.in_transaction():  # which a refusal would break: first whether we may
            may = (
                "SELECT pg_catalog.has_function_privilege("
                "'pg_catalog.pg_control_system()', 'execute')"
            )
            return int(self.value(identifier)) if self.value(may) else None
        try:
            return int(self.value(identifier))
        except ServerRefusedError:
            return None

    def rows(self, query: Query, params: Params | None = None) -> Rows:
        """Run a query on SAFE_PATH and return all its rows."""
        return self._ask([(query, params)])[0][0]

    def value(self, query: Query, params: Params | None = None) -> Any:
        """Run a query on SAFE_PATH and return the first column of its first row."""
        return self.rows(query, params)[0][0]

    def execute(self, query: Query, params: Params | None = None) -> int:
        """Run a command and return the number of rows it touched.

        Outside a transaction it has the session's own search path, so that it may be one that
        runs in no transaction: its names are qualified, and it uses no operator.
        """
        return self._answers([(query, params)])[0][1]

    def in_transaction(self) -> bool:
        """Tell whether a transaction is open, or about to be."""
        return self._begun or self._transaction_open()

    @contextmanager
    def transaction(
        self, settings: Mapping[str, str] | None = None, *, reading: bool = False
    ) -> Iterator[None]:
        """Run a block in a transaction (in a savepoint where one is open) with settings pinned.

        It has SAFE_PATH. ``settings`` go over PINNED. An outer transaction has its own back
        afterwards. One of our own is, where ``reading``, read only and all of one moment; else each
        of its statements sees what was committed before it, also while it waited for a lock.
        """
        if self.joined and not self.in_transaction():
            self.execute("SELECT 1")  # begins the caller's own, which is the caller's to commit
        nested = self.in_transaction()
        wanted = {**PINNED, **(settings or {})}
        self.flush()
        with self._savepoint() if nested else self._own_transaction():
            if not nested:
                self.later(_READING if reading else _WRITING)
                self._take_safe_path()
            before = self._set(wanted)
            try:
                yield
            except BaseException:
                self.waiting = []
                raise
            if nested:
                self._set(dict(before.rows))
                self.flush()
            # Else what waits goes with COMMIT.

    @contextmanager
    def _own_transaction(self) -> Iterator[None]:
        # Not the driver's own, so that BEGIN shares a round trip with what follows.
        self.later("BEGIN")
        self._begun = True
        try:
            yield
            self.execute("COMMIT")
        except BaseException:
            if self._transaction_open():
                self._undo("ROLLBACK")
            raise
        finally:
            self._begun = False

    @contextmanager
    def _savepoint(self) -> Iterator[None]:
        # Sent at once: a block that fails before its first statement is undone as well.
        self.execute("SAVEPOINT perfdata")
        try:
            yield
        except BaseException:
            self._undo("ROLLBACK TO SAVEPOINT perfdata", "RELEASE SAVEPOINT perfdata")
            raise
        self.execute("RELEASE SAVEPOINT perfdata")

    def _undo(self, *commands: LiteralString) -> None:
        """Run commands after a failure, whose error counts, not theirs.

        The server itself rolls back what a lost connection leaves open.
        """
        with suppress(ServerRefusedError):
            self._run_all([(command, None) for command in commands])

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Have a transaction that is joined on SAFE_PATH for a block; to be used around all work.

        Transactions of the library's own take it themselves.
        """
        if not self.joined:
            yield
            return
        self._take_safe_path()
        self.flush()  # a transaction that has failed already is refused here
        try:
            yield
            self.flush()
        finally:
            self.waiting = []
            with suppress(ServerRefusedError):  # it is aborted: its rollback gives the path back
                self.execute(_PATH, (self._own_path.rows[0][0],))

    def _take_safe_path(self) -> None:
        self._own_path = self.later("SHOW search_path")
        self.later(_PATH, (SAFE_PATH,))

    @contextmanager
    def own_path(self) -> Iterator[None]:
        """Run a block on the search path that the database gives, at no round trip's cost.

        For statements that run users' code, which may find its functions by that path alone: no
        query of the library may be among them. A failure in a transaction leaves it set: that, or
        its savepoint, is to be rolled back then.
        """
        if self.in_transaction():
            self.later(_PATH, (self._own_path.rows[0][0],))
        yield
        if self.in_transaction():
            self.later(_PATH, (SAFE_PATH,))

    @contextmanager
    def within_transaction(self) -> Iterator[None]:
        """Run a block in the transaction that is open, or in one of its own."""
        if self.in_transaction():
            yield
        else:
            with self.transaction():
                yield

    def session_path(self) -> str:
        """Return the search path that the session has where no transaction is open."""
        return str(self._answers([("SHOW search_path", None)])[0][0][0][0])

    def pin(self, search_path: str) -> None:
        """Have settings pinned as in a transaction, as long as the connection lasts.

        For connections of the library's own; ``search_path`` becomes the session's (own_path).
        """
        self.execute("SELECT pg_catalog.set_config('search_path', %s, false)", (search_path,))
        self.later(_PATH, (SAFE_PATH,))
        self._change(PINNED, local=False)
        self.flush()

    def _set(self, wanted: Mapping[str, str]) -> Later:
        """Set what the server knows of ``wanted``, until the transaction ends; give the old."""
        before = self.later(_CURRENT, ([name.lower() for name in wanted],))
        self._change(wanted, local=True)
        return before

    def _change(self, wanted: Mapping[str, str], *, local: bool) -> None:
        names = [name.lower() for name in wanted]
        self.later(_CHANGE, (local, names, list(wanted.values())))


class BasePsycopgLink(Link):
    """What links over psycopg's two kinds of connection share: all but how a call is awaited."""

    def __init__(self, connection: psycopg.Connection[Any] | psycopg.AsyncConnection[Any]) -> None:
        super().__init__()
        self.connection = connection
        # Whether what is done belongs to the caller's transaction, open or about to be.
        self.joined = not connection.autocommit or self._transaction_open()

    @abstractmethod
    def _cursor(self) -> Any:
        """Make a plain client-side cursor, whatever factories the caller's connection has."""

    @abstractmethod
    def _wait(self, call: Any) -> Any:
        """Return what a call of psycopg's gives: itself, or what a coroutine comes to."""

    @abstractmethod
    def _entered(self, manager: Any) -> AbstractContextManager[Any]:
        """Enter and leave a context manager of psycopg's."""

    @abstractmethod
    def _read(self, copy: Any, add: Callable[[bytes], None]) -> None:
        """Pass on each line of a COPY."""

    def _run(self, query: Query, params: Params | None) -> Answer:
        with refusals():
            cursor = self._cursor()
            self._wait(cursor.execute(query, params, prepare=False))
            return self._answer(cursor)

    def _run_all(self, pairs: Sequence[tuple[Query, Params | None]]) -> list[Answer]:
        found: list[Answer] = []
        with refusals():
            cursor = self._cursor()
            self._wait(cursor.execute(script(pairs), prepare=False))
            for _ in pairs:
                found.append(self._answer(cursor))
                cursor.nextset()
        return found

    def _answer(self, cursor: Any) -> Answer:
        rows = self._wait(cursor.fetchall()) if cursor.description else []
        return rows, cursor.rowcount

    def _transaction_open(self) -> bool:
        return self.connection.info.transaction_status != TransactionStatus.IDLE

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
        with refusals():
            cursor = self._cursor()
            query = copy_in_query(table, columns, form, freeze=freeze)
            with self._entered(cursor.copy(query)) as copy:
                for block in blocks:
                    self._wait(copy.write(block))
            return int(cursor.rowcount)

    def _copy_out(self, select: sql.Composed, add: Callable[[bytes], None]) -> None:
        with refusals(), self._entered(self._cursor().copy(copy_out_query(select))) as copy:
            self._read(copy, add)


class PsycopgLink(BasePsycopgLink):
    """A link over a psycopg connection, which is the caller's to close."""

    connection: psycopg.Connection[Any]

    def _cursor(self) -> psycopg.Cursor[tuple[Any, ...]]:
        return psycopg.Cursor(self.connection, row_factory=tuple_row)

    def _wait(self, call: T) -> T:
        return call

    def _entered(self, manager: AbstractContextManager[T]) -> AbstractContextManager[T]:
        return manager

    def _read(self, copy: psycopg.Copy, add: Callable[[bytes], None]) -> None:
        for line in copy:
            add(bytes(line))


class Blocks:
    """Gathers what comes into blocks of whole lines."""

    def __init__(self, write: Callable[[bytes], None]) -> None:
        """Take what is given the blocks."""
        self._write = write
        self._pieces: list[bytes] = []
        self._size = 0

    def add(self, data: bytes) -> None:
        """Take what came: one or more whole lines, or a part of one."""
        if len(data) >= BLOCK_BYTES and self._pieces and self._pieces[-1].endswith(b"\n"):
            self.finish()  # so that a large line is not copied to be joined
        self._pieces.append(data)
        self._size += len(data)
        if self._size >= BLOCK_BYTES and data.endswith(b"\n"):
            self.finish()

    def finish(self) -> None:
        """Give away what is left."""
        if self._pieces:
            self._write(b"".join(self._pieces))
            self._pieces, self._size = [], 0


def copy_in_query(
    table: sql.Identifier, columns: Sequence[str], form: CopyFormat, *, freeze: bool
) -> sql.Composed:
    """Make the COPY into a table; with no columns named it takes them all, which are none."""
    names = sql.SQL(", ").join(map(sql.Identifier, columns))
    listed = sql.SQL(" ({})").format(names) if columns else sql.SQL("")
    options = form.options(freeze=freeze)
    return sql.SQL("COPY {}{} FROM STDIN ({})").format(table, listed, options)


def copy_out_query(select: sql.Composed) -> sql.Composed:
    """Make the COPY that sends a query's one text column as it is, a row a line."""
    return sql.SQL("COPY ({}) TO STDOUT (FORMAT csv, QUOTE E'\\x01', DELIMITER E'\\x02')").format(
        select
    )


@contextmanager
def refusals() -> Iterator[None]:
    """Turn psycopg's errors into the one that every link raises."""
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

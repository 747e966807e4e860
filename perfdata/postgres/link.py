"""The interface to a connection that the library uses, whatever the driver.

A Link runs all queries with a fixed search path and fixed settings, and can hold statements back to
send them in one round trip with the next one. Drivers add the few primitive operations that they
differ in.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, LiteralString

from perfdata.errors import ServerRefusedError
from perfdata.postgres.copy import BlockWriter, CopyIn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from psycopg import sql

    from perfdata.addresses import Address
    from perfdata.postgres.copy import CopyFormat

    Query = LiteralString | sql.SQL | sql.Composed
    Params = Sequence[Any] | Mapping[str, Any]
    AnyQuery = Query | tuple[Query, Params]  # with its parameters, if it has any
    Rows = list[tuple[Any, ...]]
    Answer = tuple[Rows, int]  # a statement's rows, and how many it returned or changed

# Settings that change how values are written and read as text, or how long statements may take.
# Each was seen to change data or counts. Those that a server does not know are skipped.
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
    # Otherwise planning would evaluate the functions called by partitions' check constraints.
    "constraint_exclusion": "off",
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "transaction_timeout": "0",
}

# The search path of the library's own queries. With any other, a user's operator or function that
# fits the arguments better would be called. Temporary tables come last, where they shadow nothing.
SAFE_PATH = "pg_catalog, pg_temp"
_PATH = "SELECT pg_catalog.set_config('search_path', %s, true)"

_READING = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"
_WRITING = "SET TRANSACTION ISOLATION LEVEL READ COMMITTED, READ WRITE"
_CURRENT = """
SELECT s.name, current_setting(s.name) FROM pg_settings s
WHERE lower(s.name) = ANY (%s::text[])"""
_CHANGE = """
SELECT set_config(s.name, w.value, %s) FROM pg_settings s
JOIN unnest(%s::text[], %s::text[]) AS w (name, value) ON w.name = lower(s.name)"""

# The privilege that a role lacks if server_identifier is None.
IDENTIFIER_GRANT = "GRANT EXECUTE ON FUNCTION pg_catalog.pg_control_system() TO the role"


class Deferred:
    """A statement that is sent together with the next one, in one round trip."""

    def __init__(self, link: Link, query: Query, params: Params | None) -> None:
        self._link = link
        self.pair = (query, params)
        self.answer: Answer | None = None

    @property
    def rows(self) -> Rows:
        """The statement's rows; a statement that is still queued is sent now."""
        if self.answer is None:
            self._link.flush()
        return self.answer[0] if self.answer else []


class Link(ABC):
    """A connection; ``joined`` if its open transaction belongs to the caller.

    Every method raises ServerRefusedError if the server refuses a statement.
    """

    joined: bool
    # The open transaction's search path before it was set to SAFE_PATH.
    _own_path: Deferred
    # Set by code that changes rows, so that a Session's objects can be expired.
    changed: bool = False

    def __init__(self) -> None:
        # Statements to be sent with the next one.
        self._waiting: list[Deferred] = []
        # Whether a BEGIN is waiting or was sent.
        self._begun = False

    @abstractmethod
    def _run(self, query: Query, params: Params | None) -> Answer:
        """Run a statement without preparing it."""

    def _run_all(self, pairs: Sequence[tuple[Query, Params | None]]) -> list[Answer]:
        """Run statements in order; drivers override this to send them in one round trip."""
        return [self._run(query, params) for query, params in pairs]

    @abstractmethod
    def _transaction_open(self) -> bool:
        """Tell whether the server has a transaction open, whether or not it has failed."""

    @abstractmethod
    def address(self) -> Address:
        """Return the address that the client dialled."""

    @abstractmethod
    def _copy_in(self, copy: CopyIn, blocks: Iterable[bytes]) -> int:
        """Send blocks to the server; return the number of rows."""

    @abstractmethod
    def _copy_out(self, select: sql.Composed, add: Callable[[bytes], None]) -> None:
        """Pass on what the server sends, in whole lines or in parts of a line."""

    def copy_in(
        self,
        table: sql.Identifier,
        columns: Sequence[str],
        blocks: Iterable[bytes],
        copy_format: CopyFormat,
        *,
        freeze: bool = False,
    ) -> int:
        """Copy blocks of whole lines into a table; return the number of rows.

        ``freeze`` needs a table that was created or truncated in the same transaction.
        """
        self.flush()
        return self._copy_in(CopyIn(table, columns, copy_format, freeze), blocks)

    def copy_out(self, select: sql.Composed, write: Callable[[bytes], None]) -> None:
        """Pass the rows of a query of one text column to ``write``, in blocks of whole lines.

        Only for use in a transaction, since COPY itself does not set the search path.
        """
        self.flush()
        blocks = BlockWriter(write)
        self._copy_out(select, blocks.add)
        blocks.finish()

    def together(self, queries: Iterable[AnyQuery]) -> list[Rows]:
        """Run queries in order with SAFE_PATH and return the rows of each.

        They take one round trip if the driver supports that. The first error ends the batch.
        """
        pairs = [query if isinstance(query, tuple) else (query, None) for query in queries]
        return [rows for rows, _ in self._ask(pairs)] if pairs else []

    def later(self, query: Query, params: Params | None = None) -> Deferred:
        """Queue a statement: it is sent with the next one, in one round trip.

        An error of the queued statement is raised by the next one. Outside a transaction no query
        may be queued, as it would run without SAFE_PATH.
        """
        self._waiting.append(Deferred(self, query, params))
        return self._waiting[-1]

    def flush(self) -> None:
        """Send the statements that are waiting."""
        if self._waiting:
            self._answers([])

    def _ask(self, pairs: Sequence[tuple[Query, Params | None]]) -> list[Answer]:
        """Run queries with SAFE_PATH, which every transaction has already.

        Outside one it is set for this round trip only, never for the session: a connection pooler
        may hand the session to another client.
        """
        if not self.in_transaction():
            self.later(_PATH, (SAFE_PATH,))
        return self._answers(pairs)

    def _answers(self, pairs: Sequence[tuple[Query, Params | None]]) -> list[Answer]:
        """Run the waiting statements, then these; return the answers to these."""
        waiting, self._waiting = self._waiting, []
        batch = [*(deferred.pair for deferred in waiting), *pairs]
        answers = [self._run(*batch[0])] if len(batch) == 1 else self._run_all(batch)
        for deferred, answer in zip(waiting, answers, strict=False):
            deferred.answer = answer
        return answers[len(waiting) :]

    @cached_property
    def server_identifier(self) -> int | None:
        """The server's system identifier, cached; None if the role may not read it."""
        identifier = "SELECT system_identifier FROM pg_catalog.pg_control_system()"
        if self.in_transaction():  # an error would abort it, so check the privilege first
            allowed = (
                "SELECT pg_catalog.has_function_privilege("
                "'pg_catalog.pg_control_system()', 'execute')"
            )
            return int(self.value(identifier)) if self.value(allowed) else None
        try:
            return int(self.value(identifier))
        except ServerRefusedError:
            return None

    def rows(self, query: Query, params: Params | None = None) -> Rows:
        """Run a query with SAFE_PATH and return all its rows."""
        return self._ask([(query, params)])[0][0]

    def value(self, query: Query, params: Params | None = None) -> Any:
        """Run a query with SAFE_PATH and return the first column of its first row."""
        return self.rows(query, params)[0][0]

    def execute(self, query: Query, params: Params | None = None) -> int:
        """Run a command and return the number of rows it changed.

        Outside a transaction the command runs alone, so that it can be one that PostgreSQL forbids
        in transactions. It then has the session's search path: use qualified names and no
        operators.
        """
        return self._answers([(query, params)])[0][1]

    def in_transaction(self) -> bool:
        """Tell whether a transaction is open, or its BEGIN is waiting to be sent."""
        return self._begun or self._transaction_open()

    @contextmanager
    def transaction(
        self, settings: Mapping[str, str] | None = None, *, reading: bool = False
    ) -> Iterator[None]:
        """Run a block in a transaction, or in a savepoint if one is open, with fixed settings.

        The search path is SAFE_PATH; ``settings`` override PINNED. After a savepoint, the outer
        transaction's own settings are restored. With ``reading``, a new transaction is REPEATABLE
        READ and READ ONLY, otherwise READ COMMITTED, in which each statement sees whatever was
        committed while it waited for a lock.
        """
        if self.joined and not self.in_transaction():
            self.execute("SELECT 1")  # begins the transaction that the caller will commit
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
                self._waiting = []
                raise
            if nested:
                self._set(dict(before.rows))
                self.flush()
            # Otherwise waiting statements are sent with COMMIT.

    @contextmanager
    def _own_transaction(self) -> Iterator[None]:
        # The driver's own transaction would send BEGIN in a separate round trip.
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
        # Sent at once, because a block that fails before its first statement rolls back to it.
        self.execute("SAVEPOINT perfdata")
        try:
            yield
        except BaseException:
            self._undo("ROLLBACK TO SAVEPOINT perfdata", "RELEASE SAVEPOINT perfdata")
            raise
        self.execute("RELEASE SAVEPOINT perfdata")

    def _undo(self, *commands: LiteralString) -> None:
        """Run rollback commands and ignore their errors, since the first error is raised.

        After a lost connection, the server rolls back by itself.
        """
        with suppress(ServerRefusedError):
            self._run_all([(command, None) for command in commands])

    @contextmanager
    def on_safe_path(self) -> Iterator[None]:
        """Run a block with SAFE_PATH in the caller's transaction, then restore its search path.

        Must enclose all work on a joined link. Does nothing on other links, whose transactions set
        the path themselves.
        """
        if not self.joined:
            yield
            return
        self._take_safe_path()
        self.flush()  # raises the error if the transaction has already failed
        try:
            yield
            self.flush()
        finally:
            self._waiting = []
            with suppress(ServerRefusedError):  # aborted: its rollback restores the path
                self.execute(_PATH, (self._own_path.rows[0][0],))

    def _take_safe_path(self) -> None:
        self._own_path = self.later("SHOW search_path")
        self.later(_PATH, (SAFE_PATH,))

    @contextmanager
    def own_path(self) -> Iterator[None]:
        """Run a block with the search path that the transaction began with.

        For statements that run users' functions, which may need that path; the block must not
        contain the library's own queries. Costs no round trip. After an error the path is not
        restored, and the transaction or savepoint must be rolled back.
        """
        if self.in_transaction():
            self.later(_PATH, (self._own_path.rows[0][0],))
        yield
        if self.in_transaction():
            self.later(_PATH, (SAFE_PATH,))

    @contextmanager
    def within_transaction(self) -> Iterator[None]:
        """Run a block in the open transaction, or in a new one."""
        if self.in_transaction():
            yield
        else:
            with self.transaction():
                yield

    def session_path(self) -> str:
        """Return the session's search path; only for use outside a transaction."""
        return str(self._answers([("SHOW search_path", None)])[0][0][0][0])

    def pin(self, search_path: str) -> None:
        """Set the search path and the settings of PINNED for the session.

        Only for the library's own connections. ``own_path`` will use ``search_path``.
        """
        self.execute("SELECT pg_catalog.set_config('search_path', %s, false)", (search_path,))
        self.later(_PATH, (SAFE_PATH,))
        self._change(PINNED, local=False)
        self.flush()

    def _set(self, wanted: Mapping[str, str]) -> Deferred:
        """Change settings until the transaction ends; return their previous values."""
        before = self.later(_CURRENT, ([name.lower() for name in wanted],))
        self._change(wanted, local=True)
        return before

    def _change(self, wanted: Mapping[str, str], *, local: bool) -> None:
        names = [name.lower() for name in wanted]
        self.later(_CHANGE, (local, names, list(wanted.values())))


@dataclass(frozen=True)
class Check:
    """Queries made before the first change, and a function that raises an error by their rows."""

    queries: Sequence[AnyQuery]
    judge: Callable[[Sequence[Rows]], None]


def run_checks(link: Link, checks: Iterable[Check], *more: AnyQuery) -> list[Rows]:
    """Make all checks in one round trip, in the order given; return the rows of ``more``."""
    checks = list(checks)
    queries = [query for check in checks for query in check.queries]
    results = iter(link.together([*queries, *more]))
    for check in checks:
        check.judge([next(results) for _ in check.queries])
    return list(results)

"""Links: what the library asks of a connection, whichever driver carries it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, LiteralString

from perfdata.errors import ServerRefusedError
from perfdata.postgres.copy import Blocks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from psycopg import sql

    from perfdata.addresses import Address
    from perfdata.postgres.copy import CopyFormat

    Query = LiteralString | sql.SQL | sql.Composed
    Params = Sequence[Any] | Mapping[str, Any]
    AnyQuery = Query | tuple[Query, Params]  # a statement, with its parameters where it has any
    Rows = list[tuple[Any, ...]]
    Answer = tuple[Rows, int]

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

_READING = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"
_WRITING = "SET TRANSACTION ISOLATION LEVEL READ COMMITTED, READ WRITE"
_CURRENT = """
SELECT s.name, current_setting(s.name) FROM pg_settings s
WHERE lower(s.name) = ANY (%s::text[])"""
_CHANGE = """
SELECT set_config(s.name, w.value, %s) FROM pg_settings s
JOIN unnest(%s::text[], %s::text[]) AS w (name, value) ON w.name = lower(s.name)"""


# What a role lacks for which server_identifier is None.
IDENTIFIER_GRANT = "GRANT EXECUTE ON FUNCTION pg_catalog.pg_control_system() TO the role"


class Deferred:
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
    _own_path: Deferred
    # Set by what changes rows, so that a Session's objects can be told to be read again.
    changed: bool = False

    def __init__(self) -> None:
        # Statements that wait for the next one, to go with it in one round trip.
        self.waiting: list[Deferred] = []
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

    def together(self, asked: Iterable[AnyQuery]) -> list[Rows]:
        """Run queries one after the other on SAFE_PATH, in one round trip where the driver can.

        Returns the rows of each. A refusal ends it: those behind the refused one are not run.
        """
        pairs = [one if isinstance(one, tuple) else (one, None) for one in asked]
        return [rows for rows, _ in self._ask(pairs)] if pairs else []

    def later(self, query: Query, params: Params | None = None) -> Deferred:
        """Have a statement run before the next one, whose round trip it shares.

        Outside a transaction no query may wait: it would not have SAFE_PATH. A refusal is raised by
        the one that it goes with.
        """
        self.waiting.append(Deferred(self, query, params))
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
    def on_safe_path(self) -> Iterator[None]:
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

    def _set(self, wanted: Mapping[str, str]) -> Deferred:
        """Set what the server knows of ``wanted``, until the transaction ends; give the old."""
        before = self.later(_CURRENT, ([name.lower() for name in wanted],))
        self._change(wanted, local=True)
        return before

    def _change(self, wanted: Mapping[str, str], *, local: bool) -> None:
        names = [name.lower() for name in wanted]
        self.later(_CHANGE, (local, names, list(wanted.values())))


@dataclass(frozen=True)
class Check:
    """Queries, and what judges their rows: it raises an error where something is in the way."""

    asked: Sequence[AnyQuery]
    judge: Callable[[Sequence[Rows]], None]


def run_checks(link: Link, checks: Iterable[Check], *more: AnyQuery) -> list[Rows]:
    """Ask everything at once, judge in the order given, and return the rows of ``more``."""
    checks = list(checks)
    answers = iter(link.together([*(one for check in checks for one in check.asked), *more]))
    for check in checks:
        check.judge([next(answers) for _ in check.asked])
    return list(answers)

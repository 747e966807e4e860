"""Capture: the statements that SQLAlchemy really hands to the driver, their rows and plans.

Counted is what the cursor executes, once for each time it executes: a batch of ``executemany`` is
one call, however many rows it has, and each batch of SQLAlchemy's insertmanyvalues is one. Rows are
those that a query returned, or that a write changed; of a server-side cursor, those that were
fetched. BEGIN, COMMIT, ROLLBACK and savepoints are not counted: the transaction that undoes a
measured run sends some of its own.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Self

from perfdata.perf.capture.counts import RunningCount, StatementCounter
from perfdata.perf.capture.plans import from_explain, is_plan
from perfdata.perf.capture.sessions import LOADED
from perfdata.perf.capture.statements import explainable
from perfdata.perf.model import PlanSource

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from sqlalchemy import Connection, Engine

    from perfdata.callers import Callers
    from perfdata.perf.capture.plans import ExecutedPlan
    from perfdata.perf.capture.sessions import SessionFacts
    from perfdata.perf.model import StatementCount

EXPLAIN = "EXPLAIN (ANALYZE, BUFFERS, WAL, TIMING OFF, FORMAT JSON) "
_SAVEPOINT = "perfdata_explain"
_EVENTS = ("before_cursor_execute", "after_cursor_execute")
# Where a statement's count stands between the two: others may be sent meanwhile.
_COUNT = "_perfdata_count"


class Capture:
    """Counts the statements of an Engine's connections, as a context manager.

    sqlglot parses nothing while a statement runs. ``facts`` say where plans come from: messages of
    auto_explain, which the sessions are to send already, or an EXPLAIN before each statement.
    ``engine`` is None where perfdata.perf.capture.cursors counts what psycopg's own cursors send.
    """

    def __init__(self, engine: Engine | None, facts: SessionFacts, callers: Callers) -> None:
        self.facts = facts
        self.tally = StatementCounter(callers, facts.after)
        self.unseen: set[str] = set()
        self._engine = engine
        self._notices = PlanMessages(self.tally)
        self._paused = False

    def __enter__(self) -> Self:
        from sqlalchemy import event

        for name in _EVENTS:
            event.listen(self._engine, name, getattr(self, f"_{name}"))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        from sqlalchemy import event

        for name in _EVENTS:
            event.remove(self._engine, name, getattr(self, f"_{name}"))
        self._notices.close()
        self.tally.finish()

    @property
    def partial(self) -> str:
        """Why buffers and plans are not all there, or may differ from run to run; else empty."""
        if self.tally.unmatched:
            return "something was sent by other cursors than those that are counted"
        if self.tally.connections > 1:
            return "several connections were used, and which of them knew the catalog may vary"
        if self.facts.plans is not PlanSource.NONE and self.tally.planless:
            return "statements were sent in a session, or after a ROLLBACK, that told no plans"
        return ""

    def flush(self, connection: Connection) -> None:
        """Have a session send the plan of its last statement, which waits for the next."""
        self._paused = True
        connection.exec_driver_sql(LOADED).close()
        self._paused = False

    def statements(self) -> tuple[StatementCount, ...]:
        """Return the counts by statement fingerprint, in the order of the first calls."""
        return self.tally.statements()

    @property
    def queries(self) -> int:
        """The number of statements sent so far."""
        return self.tally.queries

    @property
    def rows(self) -> int:
        """The number of rows returned or changed so far."""
        return self.tally.rows

    def _before_cursor_execute(
        self, connection: Any, _cursor: Any, query: str, parameters: Any, context: Any, many: bool
    ) -> None:
        if self._paused:
            return
        # Counted before it runs: one that the server refuses was sent all the same.
        driver = connection.connection.driver_connection
        count = self.tally.begin(query, parameters, driver, many=many)
        if count is None:
            return
        vars(context)[_COUNT] = count
        if self.facts.plans is PlanSource.AUTO_EXPLAIN:
            self._hear(driver)
        elif self.facts.plans is PlanSource.EXPLAIN and explainable(query):
            for one in parameters if many else [parameters]:
                self._explain(connection, query, one, count)

    def _hear(self, driver: Any) -> None:
        if not self._notices.listen(driver):
            self.unseen.add(f"plans and buffers: {type(driver).__module__} is not psycopg's")

    def _explain(self, connection: Any, query: str, parameters: Any, count: RunningCount) -> None:
        cursor = connection.connection.cursor()
        refused = connection.dialect.dbapi.Error
        autocommit = getattr(connection.connection, "autocommit", False)
        plan = explain_inline(cursor, refused, query, parameters, autocommit=autocommit)
        cursor.close()
        if plan is not None:
            self.tally.explained(plan, count)

    def _after_cursor_execute(
        self,
        _connection: Any,
        cursor: Any,
        _query: str,
        _parameters: Any,
        context: Any,
        _many: bool,
    ) -> None:
        count: RunningCount | None = vars(context).pop(_COUNT, None)
        if count is None:
            return
        count.ended = True
        driver = getattr(cursor, "_cursor", cursor)  # of SQLAlchemy's wrapper around async ones
        if cursor.rowcount >= 0:
            count.rows += cursor.rowcount
        elif hasattr(driver, "itersize"):
            count_fetched(driver, count)
        elif getattr(cursor, "server_side", False):
            self.unseen.add("rows that were streamed: the driver does not tell their number")


def explain_inline(
    cursor: Any, refused: type[Exception], query: str, parameters: Any, *, autocommit: bool
) -> ExecutedPlan | None:
    """Execute a statement by EXPLAIN with a DBAPI cursor, and roll that back.

    None where the server refuses it (``refused`` is the driver's error): the statement itself will
    then say why.
    """
    begin, undo, end = around(autocommit=autocommit)
    cursor.execute(begin)
    try:
        cursor.execute(EXPLAIN + query, parameters)
        answer = cursor.fetchone()[0]
    except refused:
        answer = None
    for statement in (undo, end):
        cursor.execute(statement)
    return None if answer is None else from_explain(query, answer)


def around(*, autocommit: bool) -> tuple[str, str, str]:
    """Return the statements before and after what is to be rolled back."""
    if autocommit:
        return "BEGIN", "ROLLBACK", "SELECT"
    return f"SAVEPOINT {_SAVEPOINT}", f"ROLLBACK TO {_SAVEPOINT}", f"RELEASE {_SAVEPOINT}"


def count_fetched(cursor: Any, count: RunningCount) -> None:
    """Count a server-side cursor's rows as they are made: it forgets their number when closed."""
    # It may be executed again: rows are counted for the last statement alone.
    factory = getattr(cursor.row_factory, "plain", cursor.row_factory)

    def counting(of: Any) -> Callable[[Any], Any]:
        make = factory(of)

        def row(values: Any) -> Any:
            count.rows += 1
            return make(values)

        return row

    counting.plain = factory  # type: ignore[attr-defined]
    cursor.row_factory = counting


class PlanMessages:
    """Hears driver connections until it is closed, and gives a tally the messages with plans."""

    def __init__(self, tally: StatementCounter) -> None:
        self._tally = tally
        self._heard: dict[int, tuple[Any, Callable[[], None]]] = {}

    def listen(self, connection: Any) -> bool:
        """Hear a connection of psycopg or asyncpg; False of another driver."""
        if id(connection) in self._heard:
            return True
        if hasattr(connection, "add_notice_handler"):
            handler = partial(self._psycopg, connection)
            connection.add_notice_handler(handler)
            end = partial(connection.remove_notice_handler, handler)
        elif hasattr(connection, "add_log_listener"):
            connection.add_log_listener(self._asyncpg)
            end = partial(connection.remove_log_listener, self._asyncpg)
        else:
            return False
        self._heard[id(connection)] = (connection, end)
        return True

    def close(self) -> None:
        """Hear nothing any more."""
        heard, self._heard = self._heard, {}
        for _, end in heard.values():
            end()

    def _psycopg(self, connection: Any, diagnostic: Any) -> None:
        # Read as it comes: the driver frees a message when this returns.
        text = diagnostic.message_primary or ""
        if is_plan(text):
            self._tally.message(text, diagnostic.context, connection)

    def _asyncpg(self, connection: Any, message: Any) -> None:
        if is_plan(message.message or ""):
            self._tally.message(message.message, message.context, connection)

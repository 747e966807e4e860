"""Capture the statements that SQLAlchemy passes to the driver, with their rows and plans.

Each execution of a cursor is one call: ``executemany`` is one call for any number of rows, and so
is each batch of SQLAlchemy's insertmanyvalues. Rows are those that a query returned or a write
changed; for a server-side cursor, those that were fetched. BEGIN, COMMIT, ROLLBACK and savepoints
are not counted, because the transaction that undoes a measured run sends its own.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Self

from perfdata.perf.capture.connections import LOADED
from perfdata.perf.capture.counts import RunningCount, StatementCounter
from perfdata.perf.capture.plans import from_explain, is_plan
from perfdata.perf.capture.statements import explainable
from perfdata.perf.model import PlanSource

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from sqlalchemy import Connection, Engine

    from perfdata.callers import Callers
    from perfdata.perf.capture.connections import SessionFacts
    from perfdata.perf.capture.plans import ExecutedPlan
    from perfdata.perf.model import StatementCount

EXPLAIN = "EXPLAIN (ANALYZE, BUFFERS, WAL, TIMING OFF, FORMAT JSON) "
_SAVEPOINT = "perfdata_explain"
_EVENTS = ("before_cursor_execute", "after_cursor_execute")
# The attribute that carries a statement's count between the two: others may be sent meanwhile.
_COUNT = "_perfdata_count"


class Capture:
    """Counts the statements of an Engine's connections, as a context manager.

    ``facts.plans`` says where plans come from: auto_explain, which the sessions must already have
    switched on, or an EXPLAIN before each statement. ``engine`` is None where
    perfdata.perf.capture.cursors counts what psycopg's own cursors send.
    """

    def __init__(self, engine: Engine | None, facts: SessionFacts, callers: Callers) -> None:
        self.facts = facts
        self.counter = StatementCounter(callers, facts.after)
        self.unseen: set[str] = set()
        self._engine = engine
        self._messages = PlanMessages(self.counter)
        self._paused = False
        self._streamed = False  # rows whose number the driver does not report

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
        self._messages.close()
        self.counter.finish()

    @property
    def partial(self) -> str:
        """Why buffers and plans are incomplete, or may vary between runs; empty if neither."""
        if self.counter.unmatched:
            return "some statements used cursors that perfdata does not instrument"
        if self.counter.connections > 1:
            return "several connections were used, whose catalog caches may differ between runs"
        if self.facts.plans is not PlanSource.NONE and self.counter.lacks_plans:
            return "some statements ran in a session, or after a ROLLBACK, that reports no plans"
        return ""

    @property
    def incomplete_counters(self) -> tuple[str, ...]:
        """The counters that lack something that was sent."""
        if self.counter.unmatched:
            return ("queries", "rows", "temp_blocks")
        rows = ("rows",) if self._streamed else ()
        return (*rows, "temp_blocks") if self.counter.lacks_plans else rows

    def flush(self, connection: Connection) -> None:
        """Make a session send the plan of its last statement, which waits for the next one."""
        self._paused = True
        connection.exec_driver_sql(LOADED).close()
        self._paused = False

    def statements(self) -> tuple[StatementCount, ...]:
        """Return the counts by statement fingerprint, ordered by first call."""
        return self.counter.statements()

    @property
    def queries(self) -> int:
        """Number of statements sent so far."""
        return self.counter.queries

    @property
    def rows(self) -> int:
        """Number of rows returned or changed so far."""
        return self.counter.rows

    def _before_cursor_execute(
        self, connection: Any, _cursor: Any, query: str, parameters: Any, context: Any, many: bool
    ) -> None:
        if self._paused:
            return
        # Counted before it runs: a statement that the server rejects was sent all the same.
        driver = connection.connection.driver_connection
        count = self.counter.begin(query, parameters, driver, many=many)
        if count is None:
            return
        vars(context)[_COUNT] = count
        if self.facts.plans is PlanSource.AUTO_EXPLAIN:
            self._listen(driver)
        elif self.facts.plans is PlanSource.EXPLAIN and explainable(query):
            for values in parameters if many else [parameters]:
                self._explain(connection, query, values, count)

    def _listen(self, driver: Any) -> None:
        if not self._messages.listen(driver):
            self.unseen.add(f"no plans and buffers: {type(driver).__module__} is not supported")

    def _explain(self, connection: Any, query: str, parameters: Any, count: RunningCount) -> None:
        cursor = connection.connection.cursor()
        refused = connection.dialect.dbapi.Error
        autocommit = getattr(connection.connection, "autocommit", False)
        plan = explain_inline(cursor, refused, query, parameters, autocommit=autocommit)
        cursor.close()
        if plan is not None:
            self.counter.explained(plan, count)

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
        driver = getattr(cursor, "_cursor", cursor)  # SQLAlchemy wraps asynchronous cursors
        if cursor.rowcount >= 0:
            count.rows += cursor.rowcount
        elif hasattr(driver, "itersize"):
            count_fetched(driver, count)
        elif getattr(cursor, "server_side", False):
            self._streamed = True
            self.unseen.add(
                "streamed rows are not counted: the driver does not report their number"
            )


def explain_inline(
    cursor: Any, refused: type[Exception], query: str, parameters: Any, *, autocommit: bool
) -> ExecutedPlan | None:
    """Run EXPLAIN ANALYZE for a statement with a DBAPI cursor, and roll it back.

    Returns None if the server rejects it (``refused`` is the driver's error class): running the
    statement itself will then raise the error.
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
    """Return the statements before and after something that is rolled back."""
    if autocommit:
        return "BEGIN", "ROLLBACK", "SELECT"
    return f"SAVEPOINT {_SAVEPOINT}", f"ROLLBACK TO {_SAVEPOINT}", f"RELEASE {_SAVEPOINT}"


def count_fetched(cursor: Any, count: RunningCount) -> None:
    """Count a server-side cursor's rows as they are fetched: a closed cursor has no count."""
    # A cursor may be executed again: rows count for its last statement only.
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
    """Listens to driver connections until closed, and passes messages with plans to a counter."""

    def __init__(self, counter: StatementCounter) -> None:
        self._counter = counter
        self._listeners: dict[int, tuple[Any, Callable[[], None]]] = {}

    def listen(self, connection: Any) -> bool:
        """Listen to a connection of psycopg or asyncpg; return False for another driver's."""
        if id(connection) in self._listeners:
            return True
        if hasattr(connection, "add_notice_handler"):
            handler = partial(self._psycopg, connection)
            connection.add_notice_handler(handler)
            remove = partial(connection.remove_notice_handler, handler)
        elif hasattr(connection, "add_log_listener"):
            connection.add_log_listener(self._asyncpg)
            remove = partial(connection.remove_log_listener, self._asyncpg)
        else:
            return False
        self._listeners[id(connection)] = (connection, remove)
        return True

    def close(self) -> None:
        """Stop listening."""
        listeners, self._listeners = self._listeners, {}
        for _, remove in listeners.values():
            remove()

    def _psycopg(self, connection: Any, diagnostic: Any) -> None:
        # Read immediately: the driver frees a message when the handler returns.
        text = diagnostic.message_primary or ""
        if is_plan(text):
            self._counter.message(text, diagnostic.context, connection)

    def _asyncpg(self, connection: Any, message: Any) -> None:
        if is_plan(message.message or ""):
            self._counter.message(message.message, message.context, connection)

"""Capture: the statements that SQLAlchemy really hands to the driver, and their rows.

Counted is what the cursor executes, once for each time it executes: a batch of ``executemany`` is
one call, however many rows it has, and each batch of SQLAlchemy's insertmanyvalues is one. Rows are
those that a query returned, or that a write changed; of a server-side cursor, those that were
fetched. BEGIN, COMMIT, ROLLBACK and savepoints are not counted: the transaction that undoes a
measured run sends some of its own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from perfdata.perf.model import StatementCount
from perfdata.perf.statements import fingerprint

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from sqlalchemy import Engine

_TRANSACTION = re.compile(
    r"\s*(BEGIN|START\s+TRANSACTION|COMMIT|END|ROLLBACK|ABORT|SAVEPOINT|RELEASE)\b", re.IGNORECASE
)


@dataclass
class _Count:
    calls: int = 0
    rows: int = 0


class Capture:
    """Counts the statements of an Engine's connections, as a context manager.

    Nothing is parsed while the block runs: the cost is a dictionary look-up a statement.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._counts: dict[str, _Count] = {}

    def __enter__(self) -> Self:
        from sqlalchemy import event

        event.listen(self._engine, "before_cursor_execute", self._before)
        event.listen(self._engine, "after_cursor_execute", self._after)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        from sqlalchemy import event

        event.remove(self._engine, "before_cursor_execute", self._before)
        event.remove(self._engine, "after_cursor_execute", self._after)

    def statements(self) -> tuple[StatementCount, ...]:
        """Return the counts by statement fingerprint, in the order of the first calls."""
        found: dict[str, StatementCount] = {}
        for query, count in self._counts.items():
            statement = fingerprint(query)
            before = found.get(statement.fingerprint)
            found[statement.fingerprint] = StatementCount(
                statement.fingerprint,
                statement.text,
                count.calls + (before.calls if before else 0),
                count.rows + (before.rows if before else 0),
            )
        return tuple(found.values())

    @property
    def queries(self) -> int:
        """The number of statements sent so far."""
        return sum(count.calls for count in self._counts.values())

    @property
    def rows(self) -> int:
        """The number of rows returned or changed so far."""
        return sum(count.rows for count in self._counts.values())

    def _before(self, _connection: Any, _cursor: Any, query: str, *_: Any) -> None:
        # Counted before it runs: one that the server refuses was sent all the same.
        if not _TRANSACTION.match(query):
            self._counts.setdefault(query, _Count()).calls += 1

    def _after(self, _connection: Any, cursor: Any, query: str, *_: Any) -> None:
        if (count := self._counts.get(query)) is None:
            return
        if cursor.rowcount >= 0:
            count.rows += cursor.rowcount
        elif hasattr(cursor, "itersize"):
            _count_fetched(cursor, count)


def _count_fetched(cursor: Any, count: _Count) -> None:
    """Count a server-side cursor's rows as they are made: it forgets their number when closed."""
    factory = cursor.row_factory

    def counting(of: Any) -> Callable[[Any], Any]:
        make = factory(of)

        def row(values: Any) -> Any:
            count.rows += 1
            return make(values)

        return row

    cursor.row_factory = counting

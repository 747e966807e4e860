"""Counts statements while a scenario runs: calls, rows, callers and plans."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from perfdata.perf.capture.call_sites import CallSite
from perfdata.perf.capture.plans import from_message, without_inner
from perfdata.perf.capture.statements import COMMENTS, explainable, fingerprint, values_of
from perfdata.perf.model import Misestimate, QueryPlan, StatementCount

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from perfdata.callers import Caller, Callers
    from perfdata.perf.capture.plans import ExecutedPlan

# A single such statement; a script that starts with one is counted for the others.
_TRANSACTION = re.compile(
    COMMENTS
    + r"(BEGIN|START\s+TRANSACTION|COMMIT|END|ROLLBACK|ABORT|SAVEPOINT|RELEASE)\b[^;]*;?\s*$",
    re.IGNORECASE | re.DOTALL,
)
# Cannot write by itself; functions that it calls are recognised by their plans.
_READS = re.compile(
    COMMENTS + r"(?:SELECT(?!.*\bINTO\b)|VALUES|TABLE|SHOW|SET|RESET|FETCH|DECLARE|CLOSE"
    r"|COPY\b.*\bTO\s+STDOUT"
    r"|WITH(?!.*\b(?:INSERT|UPDATE|DELETE|MERGE)\b))\b",
    re.IGNORECASE | re.DOTALL,
)
_LOCKS = re.compile(r"\bFOR\s+(?:NO\s+KEY\s+UPDATE|UPDATE|(?:KEY\s+)?SHARE)\b", re.IGNORECASE)
# Part of perfdata's own statements, which are sent in the same session.
_OWN = "auto_explain.log_min_duration"
# psycopg's server-side cursors put this before their query.
_DECLARE = re.compile(r'DECLARE "(?:[^"]|"")*" (?:(?:NO )?SCROLL )?CURSOR (?:WITH HOLD )?FOR ')


@dataclass
class _PlanCount:
    calls: int = 0
    buffers: int = 0
    temp_blocks: int = 0
    wal_records: int = 0

    def add(self, calls: int, cost: _PlanCount | ExecutedPlan) -> None:
        self.calls += calls
        self.buffers += cost.buffers
        self.temp_blocks += cost.temp_blocks
        self.wal_records += cost.wal_records


@dataclass
class _ConnectionState:
    """What one connection sent and reported last; several may be in use at once."""

    last: RunningCount | None = None
    text: str | None = None
    messages: list[tuple[RunningCount | None, str, str | None]] = field(default_factory=list)
    # Plans whose enclosing statement has not ended.
    inner: list[tuple[RunningCount | None, ExecutedPlan]] = field(default_factory=list)


@dataclass
class RunningCount:
    """The counts of one statement's text so far."""

    calls: int = 0
    rows: int = 0
    ended: bool = False  # at least one call succeeded
    sites: dict[Caller, CallSite] = field(default_factory=dict)
    plans: dict[tuple[str, tuple[str, ...]], _PlanCount] = field(default_factory=dict)
    misestimates: dict[str, Misestimate] = field(default_factory=dict)

    def add_plan(self, plan: ExecutedPlan) -> None:
        """Add the plan of an execution: the statement's own, or one that ran inside it."""
        query = fingerprint(plan.query).text if plan.depth else ""
        self.plans.setdefault((query, plan.signature), _PlanCount()).add(1, plan)
        self._keep_worst(plan.misestimates)

    def merge(self, other: RunningCount) -> None:
        """Add the counts of the same statement with other values."""
        self.calls += other.calls
        self.rows += other.rows
        for caller, site in other.sites.items():
            self.sites.setdefault(caller, CallSite()).merge(site)
        for key, plan in other.plans.items():
            self.plans.setdefault(key, _PlanCount()).add(plan.calls, plan)
        self._keep_worst(other.misestimates.values())

    def _keep_worst(self, misestimates: Iterable[Misestimate]) -> None:
        for found in misestimates:
            known = self.misestimates.get(found.node)
            if known is None or found.factor > known.factor:
                self.misestimates[found.node] = found


class StatementCounter:
    """Counts statements by their text; sqlglot parses them only afterwards.

    ``after`` are the functions that only AFTER triggers call (see plans.from_message).
    """

    def __init__(self, callers: Callers | None, after: Collection[str] = ()) -> None:
        self._callers = callers
        self._numbers = itertools.count()
        self.after = after
        self._counts: dict[str, RunningCount] = {}
        self._states: dict[int, _ConnectionState] = {}
        self.planned_writes = False
        self.unmatched = False  # a plan arrived for a statement that was not counted

    @property
    def connections(self) -> int:
        """Number of connections that sent a statement."""
        return sum(state.text is not None for state in self._states.values())

    def begin(
        self, query: str, parameters: Any, connection: Any = None, *, many: bool = False
    ) -> RunningCount | None:
        """Count a statement that is about to be sent; None for BEGIN, COMMIT and the like.

        ``connection`` is the driver's; with ``many`` the parameters are those of executemany.
        """
        self.settle()
        if _TRANSACTION.match(query):
            return None
        state = self._state(connection)
        count = state.last = self._counts.setdefault(query, RunningCount())
        state.text = query
        count.calls += 1
        stack = self._callers.stack() if self._callers else ()
        if stack:
            site = count.sites.setdefault(stack[0].caller, CallSite())
            site.add(next(self._numbers), stack, values_of(query, parameters, many=many))
        return count

    def _state(self, connection: Any) -> _ConnectionState:
        return self._states.setdefault(id(connection), _ConnectionState())

    def message(self, text: str, context: str | None, connection: Any = None) -> None:
        """Keep a message of auto_explain until the statement has ended.

        A statement's own plan arrives when its portal is dropped, usually with the next statement;
        plans of what it executed arrive while it runs.
        """
        state = self._state(connection)
        state.messages.append((state.last, text, context))

    def explained(self, plan: ExecutedPlan, count: RunningCount | None) -> None:
        """Add EXPLAIN's plan for a statement that is about to be sent."""
        self.planned_writes |= plan.writes
        if count is not None:
            count.add_plan(plan)

    def settle(self) -> None:
        """Read the messages received so far, and assign their plans to statements."""
        for state in list(self._states.values()):
            messages, state.messages = state.messages, []
            for running, text, context in messages:
                plan = from_message(text, context, self.after)
                if _OWN in plan.query:
                    continue
                self.planned_writes |= plan.writes
                if plan.depth:
                    state.inner.append((running, plan))
                else:
                    count = self._count_of(state, plan.query)
                    self.unmatched |= count is None
                    self._assign(state, count, plan)

    def finish(self) -> None:
        """Settle, and assign the remaining plans: of DO blocks, failed statements and COMMIT."""
        self.settle()
        for state in self._states.values():
            self._assign(state, None, None)

    def _assign(
        self, state: _ConnectionState, count: RunningCount | None, plan: ExecutedPlan | None
    ) -> None:
        """Assign a statement its plan, and all inner plans to the statements that ran them."""
        waiting, state.inner = state.inner, []
        groups: dict[int, tuple[RunningCount, list[ExecutedPlan]]] = {}
        for running, inner in waiting:
            if running is not None:
                groups.setdefault(id(running), (running, []))[1].append(inner)
        if count is not None and plan is not None:
            groups.setdefault(id(count), (count, []))[1].append(plan)
        for of, plans in groups.values():
            for own in without_inner(plans):
                of.add_plan(own)

    def _count_of(self, state: _ConnectionState, query: str) -> RunningCount | None:
        """Return the count for a plan's statement; None if it was not counted.

        Usually it is the last one that was sent, but not with cursors or in a pipeline.
        """
        query = _DECLARE.sub("", query, count=1)
        if query in self._counts:
            return self._counts[query]
        wanted = fingerprint(query).fingerprint
        if state.text is not None and fingerprint(state.text).fingerprint == wanted:
            return state.last
        for text, count in reversed(self._counts.items()):
            if fingerprint(text).fingerprint == wanted:
                return count
        return None

    @property
    def lacks_plans(self) -> bool:
        """Whether an explainable statement ended without a plan: its session sends none."""
        self.finish()
        return any(
            count.ended and not count.plans and explainable(query)
            for query, count in self._counts.items()
        )

    @property
    def wrote(self) -> bool:
        """Whether a statement may have changed the tables' physical layout."""
        return self.planned_writes or any(
            not _READS.match(query) or _LOCKS.search(query) for query in self._counts
        )

    @property
    def queries(self) -> int:
        """Number of statements sent so far."""
        return sum(count.calls for count in self._counts.values())

    @property
    def rows(self) -> int:
        """Number of rows returned or changed so far."""
        return sum(count.rows for count in self._counts.values())

    def statements(self) -> tuple[StatementCount, ...]:
        """Return the counts by statement fingerprint, ordered by first call."""
        self.finish()
        merged: dict[str, tuple[str, RunningCount]] = {}
        for query, count in self._counts.items():
            statement = fingerprint(query)
            merged.setdefault(statement.fingerprint, (statement.text, RunningCount()))[1].merge(
                count
            )
        return tuple(_statement(key, *found) for key, found in merged.items())


def _statement(key: str, text: str, count: RunningCount) -> StatementCount:
    return StatementCount(
        key,
        text,
        count.calls,
        count.rows,
        tuple(site.source(caller) for caller, site in count.sites.items()),
        tuple(
            QueryPlan(signature, **vars(plan), query=query)
            for (query, signature), plan in count.plans.items()
        ),
        tuple(count.misestimates.values()),
    )

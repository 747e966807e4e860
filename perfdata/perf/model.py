"""What a scenario did: statements, plans, times, and what is to be thought of it.

Everything here is data: it is made by a capture, compared with a baseline, written as JSON and
read back, and shown. Blocks are the server's (8 KiB by default); times are in seconds.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class Verdict(Enum):
    """What is to be thought of a scenario's result."""

    OK = "ok"
    IMPROVED = "improved"
    REGRESSED = "regressed"
    UNSTABLE = "unstable"
    NO_BASELINE = "no_baseline"


class PlanSource(Enum):
    """Where plans and buffers came from."""

    AUTO_EXPLAIN = "auto_explain"  # the execution that was counted
    EXPLAIN = "explain"  # a second execution, rolled back
    NONE = "none"


@dataclass(frozen=True)
class QueryPlan:
    """A plan that a statement's executions had, with what they cost together.

    ``signature`` has a line a node, each level indented by two blanks more: node type, join type,
    relation, index; no values, no costs. ``query`` is the normalised text of a statement that a
    function or a trigger ran meanwhile, and empty for the statement's own plan.
    """

    signature: tuple[str, ...]
    calls: int
    buffers: int  # shared and local blocks, hit and read
    temp_blocks: int  # read and written
    wal_records: int
    query: str = ""

    @property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits of the signature's hash."""
        return hashlib.sha256("\n".join(self.signature).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Misestimate:
    """A plan's node whose rows were estimated wrongly by a factor of 100 or more."""

    node: str  # its line of the signature, not indented
    estimated: int
    actual: int

    @property
    def factor(self) -> float:
        """By what factor the estimate was wrong, in either direction."""
        return max(self.estimated, self.actual) / max(1, min(self.estimated, self.actual))


@dataclass(frozen=True)
class Source:
    """A line of the application that sent a statement; ``file`` is relative to the root."""

    file: str
    line: int
    function: str
    calls: int
    different: int  # how many different parameters these calls had
    parts: int = (
        0  # how many of these are further parts of a long list (perfdata.perf.capture.statements)
    )

    def __str__(self) -> str:
        """Write it as tools that open a line understand it."""
        return f"{self.file}:{self.line} in {self.function}"


@dataclass(frozen=True)
class StatementCount:
    """How often one statement was sent, with what all its calls returned and cost together."""

    fingerprint: str
    text: str
    calls: int
    rows: int
    sources: tuple[Source, ...] = ()  # in the order of their first calls
    plans: tuple[QueryPlan, ...] = ()  # distinct by query and signature, in the order of first use
    misestimates: tuple[Misestimate, ...] = ()

    @property
    def buffers(self) -> int:
        """The blocks that its plans hit and read."""
        return sum(plan.buffers for plan in self.plans)

    @property
    def temp_blocks(self) -> int:
        """The blocks of temporary files that its plans read and wrote."""
        return sum(plan.temp_blocks for plan in self.plans)

    @property
    def wal_records(self) -> int:
        """The records that its plans wrote to the log."""
        return sum(plan.wal_records for plan in self.plans)


@dataclass(frozen=True)
class TimeStats:
    """The time of a scenario's rounds; ``rounds_s`` has each, in their order."""

    median_s: float
    min_s: float
    rounds: int
    rounds_s: tuple[float, ...] = ()


@dataclass(frozen=True)
class Budgets:
    """What a scenario may do at most; None is no limit.

    ``max_repeats`` is how often one line may send a statement with other parameters each time,
    all parts of a long list counted as one.
    ``max_growth`` is an exponent over the size of the data, or one for each counter by its name.
    These two are judged by perfdata.perf.gate.verdict, as findings.
    """

    max_queries: int | None = None
    max_rows: int | None = None
    max_buffers: int | None = None
    max_temp_blocks: int | None = None
    max_memory_mb: int | None = None  # MiB
    max_repeats: int | None = 9
    max_growth: float | Mapping[str, float] | None = None


@dataclass(frozen=True)
class BrokenBudget:
    """A budget, by its name in the marker, and what was found instead."""

    name: str
    limit: float
    found: float


class FindingKind(Enum):
    """What a comparison or a check found."""

    NEW_STATEMENT = "new_statement"
    VANISHED_STATEMENT = "vanished_statement"
    MORE_QUERIES = "more_queries"
    FEWER_QUERIES = "fewer_queries"
    MORE_ROWS = "more_rows"
    FEWER_ROWS = "fewer_rows"
    MORE_BUFFERS = "more_buffers"
    FEWER_BUFFERS = "fewer_buffers"
    TEMP_BLOCKS = "temp_blocks"
    CHANGED_PLAN = "changed_plan"
    REPEATED = "repeated"  # one line sent a statement again and again: N+1
    GROWTH = "growth"
    MISESTIMATE = "misestimate"
    SETTINGS = "settings"  # what differs from the baseline's session: the likely cause of the rest
    DATA = "data"  # the dataset or the migrations do: likewise
    NOT_COMPARED = "not_compared"  # what a baseline holds and this run could not judge, and why


@dataclass(frozen=True)
class Finding:
    """One thing that a run is red for (``fails``), or that it is told of.

    ``old`` and ``new`` are counts, or None where there is none; the plans are signatures.
    """

    kind: FindingKind
    fails: bool
    message: str  # one line, whole without the scenario's name
    statement: str = ""  # its normalised text
    fingerprint: str = ""
    old: float | None = None
    new: float | None = None
    old_plan: tuple[str, ...] = ()
    new_plan: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ScenarioResult:
    """One scenario's counts and times on one dataset; ``test`` is the pytest node that ran it.

    ``statements`` are in the order of their first call. ``settings`` are those of the measured
    database session that decide plans; ``environment`` is what a baseline holds for (see
    perfdata.perf.gate.baselines), ``data`` what it was measured on: the fingerprint of the
    ``dataset`` and the last of the ``migrations``, with a digest of all of them. ``accepted``: a
    baseline of the same environment was there; its counters are ``accepted_counters``, and
    ``baseline`` is its file, relative to the root. ``same_layout``: it ran on a fresh clone, so
    that buffers and plans can be compared; without, they are shown but not judged, and
    ``not_captured`` says why.
    """

    scenario: str
    test: str
    dataset: str
    statements: tuple[StatementCount, ...]
    time: TimeStats | None = None
    budgets: Budgets = Budgets()
    settings: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    data: Mapping[str, str] = field(default_factory=dict)
    plan_source: PlanSource = PlanSource.NONE
    same_layout: bool = True
    not_captured: tuple[str, ...] = ()  # what could not be, and why, a line each
    memory_bytes: int | None = None  # the peak of Python's memory above what was there before
    growth: Mapping[str, float] = field(default_factory=dict)  # counter -> exponent
    baseline: str = ""
    accepted: bool = False
    accepted_counters: Mapping[str, int] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()

    @property
    def queries(self) -> int:
        """The number of statements that were sent."""
        return sum(statement.calls for statement in self.statements)

    @property
    def rows(self) -> int:
        """The number of rows that came back, or were changed."""
        return sum(statement.rows for statement in self.statements)

    @property
    def buffers(self) -> int | None:
        """The blocks that all plans hit and read; None where no plans were captured."""
        return self._of_plans([one.buffers for one in self.statements])

    @property
    def temp_blocks(self) -> int | None:
        """The blocks of temporary files; None where no plans were captured."""
        return self._of_plans([one.temp_blocks for one in self.statements])

    @property
    def wal_records(self) -> int | None:
        """The records written to the log; None where no plans were captured."""
        return self._of_plans([one.wal_records for one in self.statements])

    def _of_plans(self, counts: list[int]) -> int | None:
        return None if self.plan_source is PlanSource.NONE else sum(counts)

    @property
    def counters(self) -> dict[str, int]:
        """What was counted, by name, in the order in which it is shown."""
        names = ("queries", "rows", "buffers", "temp_blocks", "wal_records")
        found = {name: getattr(self, name) for name in names}
        return {name: count for name, count in found.items() if count is not None}

    @property
    def verdict(self) -> Verdict:
        """REGRESSED where a budget is broken or a finding fails; judged by what was accepted."""
        if broken_budgets(self) or any(one.fails for one in self.findings):
            return Verdict.REGRESSED
        if not self.accepted:
            return Verdict.NO_BASELINE
        better = {FindingKind.FEWER_QUERIES, FindingKind.FEWER_ROWS, FindingKind.FEWER_BUFFERS}
        improved = any(one.kind in better for one in self.findings)
        return Verdict.IMPROVED if improved else Verdict.OK


def broken_budgets(result: ScenarioResult) -> list[BrokenBudget]:
    """Return the budgets that a result does not keep, in the order of Budgets' fields."""
    memory = result.memory_bytes
    found = {
        "max_queries": result.queries,
        "max_rows": result.rows,
        "max_buffers": result.buffers if result.same_layout else None,
        "max_temp_blocks": result.temp_blocks,
        "max_memory_mb": None if memory is None else round(memory / 2**20, 1),
    }
    limits = {name: getattr(result.budgets, name) for name in found}
    return [
        BrokenBudget(name, limit, count)
        for name, limit in limits.items()
        if limit is not None and (count := found[name]) is not None and count > limit
    ]

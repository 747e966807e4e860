"""The result of a scenario: its statements, plans and times, its findings and its verdict.

Plain data: captures make it, the gate compares it with a baseline, reports write and read it.
Blocks are the server's (8 KiB by default); times are in seconds.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

SHOWN_ONLY = "buffers and plans are shown, not judged: "  # begins a line of ``not_captured``


class Verdict(Enum):
    """The gate's judgement of a scenario."""

    OK = "ok"
    IMPROVED = "improved"
    REGRESSED = "regressed"
    UNSTABLE = "unstable"
    NO_BASELINE = "no_baseline"
    NOT_JUDGED = "not_judged"  # something asked for could not be measured


class PlanSource(Enum):
    """Where plans and buffers come from."""

    AUTO_EXPLAIN = "auto_explain"  # the counted execution itself
    EXPLAIN = "explain"  # an extra execution before it, rolled back
    NONE = "none"


@dataclass(frozen=True)
class QueryPlan:
    """A plan of a statement, with the summed cost of the executions that used it.

    ``signature`` has one line per node, indented by two spaces per level: node type, join type,
    relation and index, without values or costs. ``query`` is empty for the statement's own plan;
    for a statement that a function or trigger executed, it is that statement's normalised text.
    """

    signature: tuple[str, ...]
    calls: int
    buffers: int  # shared and local blocks, hit and read
    temp_blocks: int  # read and written
    wal_records: int
    query: str = ""

    @property
    def fingerprint(self) -> str:
        """The first 16 hexadecimal digits of the signature's SHA-256."""
        return hashlib.sha256("\n".join(self.signature).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Misestimate:
    """A plan node whose row estimate was off by a factor of 100 or more."""

    node: str  # its signature line, without indentation
    estimated: int
    actual: int

    @property
    def factor(self) -> float:
        """The factor by which the estimate was off, in either direction."""
        return max(self.estimated, self.actual) / max(1, min(self.estimated, self.actual))


@dataclass(frozen=True)
class Source:
    """A line of the application that sent a statement; ``file`` is relative to the project."""

    file: str
    line: int
    function: str
    calls: int
    different: int  # distinct parameter sets among these calls
    parts: int = 0  # of those, further parts of one long list (capture.statements.values_of)
    loop: str = ""  # the line, in an outer function, that repeated the calls; empty if this one did

    def __str__(self) -> str:
        """Write ``file:line in function``, which editors can open."""
        return f"{self.file}:{self.line} in {self.function}"


@dataclass(frozen=True)
class StatementCount:
    """One statement: its number of calls, and the rows and cost of all calls together."""

    fingerprint: str
    text: str
    calls: int
    rows: int
    sources: tuple[Source, ...] = ()  # ordered by first call
    plans: tuple[QueryPlan, ...] = ()  # distinct by query and signature, ordered by first use
    misestimates: tuple[Misestimate, ...] = ()

    @property
    def buffers(self) -> int:
        """Blocks hit and read."""
        return sum(plan.buffers for plan in self.plans)

    @property
    def temp_blocks(self) -> int:
        """Blocks of temporary files read and written."""
        return sum(plan.temp_blocks for plan in self.plans)

    @property
    def wal_records(self) -> int:
        """Records written to the WAL."""
        return sum(plan.wal_records for plan in self.plans)


@dataclass(frozen=True)
class TimeStats:
    """The times of a scenario's rounds; ``rounds_s`` lists them in order.

    ``fresh_clones`` is the number of rounds that needed a fresh clone, since the one before wrote.
    """

    median_s: float
    min_s: float
    rounds: int
    rounds_s: tuple[float, ...] = ()
    fresh_clones: int = 0


@dataclass(frozen=True)
class Budgets:
    """Upper limits of a scenario; None means no limit.

    ``max_repeats`` limits how often one line may send a statement with different parameters; the
    parts of a long list count once. ``max_growth`` is an exponent over the number of rows, or a
    mapping from counters to exponents. Exceeding one of these
    two is reported as a finding.
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
    """A budget that was exceeded: its name in the marker, the limit, and the measured value."""

    name: str
    limit: float
    found: float


class FindingKind(Enum):
    """The kinds of findings."""

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
    REPEATED = "repeated"  # N+1: one line sent a statement repeatedly
    GROWTH = "growth"
    MISESTIMATE = "misestimate"
    SETTINGS = "settings"  # the baseline had other settings: the likely cause of other findings
    DATA = "data"  # the dataset or the migrations have changed: likewise
    NOT_JUDGED = "not_judged"  # asked for (a budget, the baseline), but could not be measured
    NOT_COMPARED = "not_compared"  # measured, but the baseline has nothing to compare it with


@dataclass(frozen=True)
class Finding:
    """One reason for a verdict; without ``fails`` it is information only.

    ``old`` and ``new`` are counts, or None; ``old_plan`` and ``new_plan`` are signatures.
    """

    kind: FindingKind
    fails: bool
    message: str  # one line that does not name the scenario
    statement: str = ""  # normalised text
    fingerprint: str = ""
    old: float | None = None
    new: float | None = None
    old_plan: tuple[str, ...] = ()
    new_plan: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ScenarioResult:
    """One scenario's counts and times on one dataset.

    ``test`` is the pytest node ID, ``statements`` are ordered by first call. ``settings`` are the
    session's settings that affect plans; ``environment`` identifies the baselines that apply (see
    perfdata.perf.gate.baselines); ``data`` holds the fingerprint of the ``dataset`` and the last
    of the ``migrations`` with a digest of all. ``baseline`` is the baseline's path, relative to
    the project; ``accepted`` tells whether the file exists, ``accepted_counters`` are its
    counters. ``same_layout``: the scenario ran on a fresh clone, so that buffers and plans are
    comparable; otherwise they are shown but not judged, and ``not_captured`` gives the reason.
    ``incomplete_counters`` names the counters that lack something that was sent.
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
    not_captured: tuple[str, ...] = ()  # one line each: what could not be captured, and why
    incomplete_counters: tuple[str, ...] = ()
    memory_bytes: int | None = None  # peak of Python's memory above the level before the run
    growth: Mapping[str, float] = field(default_factory=dict)  # counter -> exponent
    baseline: str = ""
    accepted: bool = False
    accepted_counters: Mapping[str, int] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()

    @property
    def queries(self) -> int:
        """Number of statements sent."""
        return sum(statement.calls for statement in self.statements)

    @property
    def rows(self) -> int:
        """Number of rows returned or changed."""
        return sum(statement.rows for statement in self.statements)

    @property
    def buffers(self) -> int | None:
        """Blocks hit and read; None without plans."""
        return self._of_plans([statement.buffers for statement in self.statements])

    @property
    def temp_blocks(self) -> int | None:
        """Blocks of temporary files read and written; None without plans."""
        return self._of_plans([statement.temp_blocks for statement in self.statements])

    @property
    def wal_records(self) -> int | None:
        """Records written to the WAL; None without plans."""
        return self._of_plans([statement.wal_records for statement in self.statements])

    def _of_plans(self, counts: list[int]) -> int | None:
        return None if self.plan_source is PlanSource.NONE else sum(counts)

    @property
    def counters(self) -> dict[str, int]:
        """The counters by name, in display order; without plans only queries and rows."""
        names = ("queries", "rows", "buffers", "temp_blocks", "wal_records")
        found = {name: getattr(self, name) for name in names}
        return {name: count for name, count in found.items() if count is not None}

    @property
    def verdict(self) -> Verdict:
        """The verdict; of several that apply, the one that most needs attention.

        REGRESSED if a budget is exceeded or a finding fails, NOT_JUDGED if something asked for
        could not be measured, else relative to the baseline.
        """
        if broken_budgets(self) or any(finding.fails for finding in self.findings):
            return Verdict.REGRESSED
        if any(finding.kind is FindingKind.NOT_JUDGED for finding in self.findings):
            return Verdict.NOT_JUDGED
        if not self.accepted:
            return Verdict.NO_BASELINE
        better = {FindingKind.FEWER_QUERIES, FindingKind.FEWER_ROWS, FindingKind.FEWER_BUFFERS}
        improved = any(finding.kind in better for finding in self.findings)
        return Verdict.IMPROVED if improved else Verdict.OK


def broken_budgets(result: ScenarioResult) -> list[BrokenBudget]:
    """Return the budgets that a result exceeds, in the order of Budgets' fields."""
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

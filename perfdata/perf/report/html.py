"""The HTML report: one self-contained page of a run's results and their history."""

from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import dataclass
from errno import EISDIR
from functools import cache, cached_property
from typing import TYPE_CHECKING

from perfdata.errors import ConfigError
from perfdata.perf.capture.plans import side_by_side
from perfdata.perf.gate.advice import accept_command, is_acceptable
from perfdata.perf.model import PlanSource, Verdict, broken_budgets
from perfdata.perf.report.charts import draw_rounds, draw_trend, have_charts
from perfdata.perf.report.history import RunHistory, read_history
from perfdata.perf.report.results import read_results
from perfdata.perf.report.terminal import seconds
from perfdata.temporary import write_whole

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from jinja2 import Environment

    from perfdata.perf.capture.plans import NodePair
    from perfdata.perf.model import Finding, ScenarioResult, StatementCount
    from perfdata.perf.report.history import Entry, Run
    from perfdata.perf.report.results import Results

FEWEST_RUNS = 10  # fewer show no trend
_MOST_RUNS = 120  # four months of nightly runs; the chart has no room for more
_MOST_STATEMENTS = 200
_SHORT = 110
# sqlglot formats these; for other statements it logs a warning.
_FORMATTED = ("SELECT", "INSERT", "UPDATE", "DELETE", "WITH", "VALUES", "MERGE", "(")
_MARKS = {
    Verdict.OK: "✓",
    Verdict.IMPROVED: "✓",
    Verdict.REGRESSED: "✗",
    Verdict.UNSTABLE: "?",
    Verdict.NO_BASELINE: "–",
    Verdict.NOT_JUDGED: "!",
}
_SOURCES = {
    PlanSource.AUTO_EXPLAIN: "auto_explain, for the counted executions",
    PlanSource.EXPLAIN: "EXPLAIN, for additional executions",
    PlanSource.NONE: "not captured",
}
_COUNTERS = ("queries", "rows", "buffers", "temp_blocks", "wal_records")
_NAMES = {"temp_blocks": "temp blocks", "wal_records": "WAL records", "memory_mb": "memory, MiB"}
# Not allowed in XML, or invisible; the last line changes the direction of text.
_CONTROL = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff"
    "\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)


def write_report(
    folder: Path, root: Path, output: Path | None = None, *, dry: bool = False
) -> tuple[Path, Results, RunHistory]:
    """Write the page for a folder's perf.json and history.jsonl; return its path and contents.

    The path is ``output``, or ``report.html`` in the folder; ``root`` is the project's folder.
    ``dry`` makes the page without writing it. Raises ResultsError if the results can't be read,
    ConfigError if the page can't be written.
    """
    results = read_results(folder / "perf.json")
    history = read_history(folder / "history.jsonl")
    path = output or folder / "report.html"
    try:
        page = render(results, history, root)
        if not dry:
            write_whole(path, page)
        elif path.is_dir():
            raise IsADirectoryError(EISDIR, os.strerror(EISDIR))
        else:
            path.parent.stat()
    except OSError as error:
        raise ConfigError(f"the report can't be written to {path}: {error.strerror}") from error
    return path, results, history


def render(results: Results, history: RunHistory, root: Path) -> str:
    """Return the page: well-formed, self-contained, with all text escaped.

    ``root`` is the project's folder, for the command that accepts a result.
    """
    scenarios = [
        ScenarioView(place, result, history.of(result), root)
        for place, result in enumerate(results.scenarios, 1)
    ]
    page = _environment().get_template("report.html.j2")
    text = page.render(
        headline=headline(results),
        created_at=results.created_at,
        scenarios=scenarios,
        failures=results.failures,
        notes=(*results.notes, *history.notes),
        fewest_runs=FEWEST_RUNS,
        have_charts=have_charts(),
    )
    return _CONTROL.sub("\ufffd", text)


def headline(results: Results) -> str:
    """Summarise the verdicts of a run in one line."""
    total = _counted(len(results.scenarios), "scenario")
    verdicts = Counter(result.verdict for result in results.scenarios)
    regressed, new = verdicts[Verdict.REGRESSED], verdicts[Verdict.NO_BASELINE]
    parts = [f"{regressed} of {total} regressed" if regressed else f"{total}, none regressed"]
    if unjudged := verdicts[Verdict.NOT_JUDGED]:
        parts.append(f"{unjudged} not judged")
    if new:
        parts.append(f"{new} without a baseline")
    if results.failures:
        parts.append(f"{_counted(len(results.failures), 'test')} failed")
    return "; ".join(parts)


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("perfdata.perf.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": format_number, "seconds": seconds}
    return environment


@dataclass(frozen=True)
class Fact:
    """A counter as text, with its limit and its accepted value; None means unknown."""

    name: str
    value: str | None
    limit: str | None = None
    accepted: str | None = None
    broken: bool = False


@dataclass(frozen=True)
class ScenarioView:
    """One scenario's section of the page; ``number`` makes its IDs unique."""

    number: int
    result: ScenarioResult
    runs: Sequence[tuple[Run, Entry]]
    root: Path

    @property
    def accept(self) -> str | None:
        """The command that accepts the result; None if accepting changes nothing."""
        to_accept = self.result.baseline and not self.result.accepted
        if to_accept or any(map(is_acceptable, self.result.findings)):
            return accept_command(self.root, self.result.scenario)
        return None

    @property
    def id(self) -> str:
        """The section's anchor."""
        return f"scenario-{self.number}"

    @property
    def mark(self) -> str:
        """The sign of the verdict, which does not depend on colours."""
        return _MARKS[self.result.verdict]

    @property
    def plan_source(self) -> str:
        """Where the plans and buffers come from."""
        return _SOURCES[self.result.plan_source]

    @cached_property
    def facts(self) -> list[Fact]:
        """The counters, with limits and accepted values."""
        memory = self.result.memory_bytes
        found: dict[str, float | None] = {
            **dict.fromkeys(_COUNTERS),
            **self.result.counters,
            "memory_mb": None if memory is None else round(memory / 2**20, 1),
        }
        return [self._fact(name, count) for name, count in found.items()]

    def _fact(self, name: str, found: float | None) -> Fact:
        limit: int | None = getattr(self.result.budgets, f"max_{name}", None)
        accepted = self.result.accepted_counters.get(name)
        return Fact(
            _NAMES.get(name, name),
            _text(found),
            _text(limit),
            None if accepted == found else _text(accepted),
            broken=any(f"max_{name}" == broken.name for broken in broken_budgets(self.result)),
        )

    def fact(self, name: str) -> Fact:
        """Return a fact by name."""
        return next(fact for fact in self.facts if fact.name == name)

    @property
    def median(self) -> str | None:
        """The median time of the rounds, as text."""
        return None if self.result.time is None else seconds(self.result.time.median_s)

    @property
    def findings(self) -> list[FindingView]:
        """The findings, failures first."""
        statements = {view.statement.fingerprint: view for view in self.statements}
        findings = sorted(self.result.findings, key=lambda finding: not finding.fails)
        return [FindingView(finding, statements.get(finding.fingerprint)) for finding in findings]

    @cached_property
    def statements(self) -> list[StatementView]:
        """The statements ordered by first call, up to a limit."""
        found = {finding.fingerprint for finding in self.result.findings}
        return [
            StatementView(f"{self.id}-{place}", place, sent, sent.fingerprint in found)
            for place, sent in enumerate(self.result.statements[:_MOST_STATEMENTS], 1)
        ]

    @property
    def more_statements(self) -> int:
        """Number of statements that are not shown."""
        return max(0, len(self.result.statements) - _MOST_STATEMENTS)

    @property
    def rounds_chart(self) -> str | None:
        """The chart of the rounds; None without rounds or without matplotlib."""
        if self.result.time is None or not self.result.time.rounds_s or not have_charts():
            return None
        title = f"Time of each round of {self.result.scenario}"
        return draw_rounds(self.result.time.rounds_s, f"{self.id}-rounds-", title)

    @property
    def has_trend(self) -> bool:
        """Whether there are enough runs for a trend."""
        return len(self.runs) >= FEWEST_RUNS

    @property
    def latest(self) -> Sequence[tuple[Run, Entry]]:
        """The runs of the trend, oldest first."""
        return self.runs[-_MOST_RUNS:]

    @property
    def trend_chart(self) -> str | None:
        """The chart of the runs; None for too few runs, or without matplotlib."""
        if not self.has_trend or not have_charts():
            return None
        title = f"Queries, buffers and median time of {self.result.scenario} by run"
        return draw_trend(self.latest, f"{self.id}-trend-", title)


@dataclass(frozen=True)
class FindingView:
    """A finding, and the statement on the page that it is about."""

    finding: Finding
    about: StatementView | None

    @property
    def trees(self) -> list[NodePair]:
        """The nodes of the old and the new plan, side by side."""
        return side_by_side(self.finding.old_plan, self.finding.new_plan)


@dataclass(frozen=True)
class StatementView:
    """A statement with its anchor and number; ``open`` if a finding is about it."""

    id: str
    number: int
    statement: StatementCount
    open: bool

    @property
    def short(self) -> str:
        """The text, truncated to one line."""
        text = self.statement.text
        return text if len(text) <= _SHORT else f"{text[:_SHORT]}…"

    @cached_property
    def pretty(self) -> str:
        """The text on several lines, if sqlglot can format it without changing it."""
        import sqlglot
        from sqlglot.errors import SqlglotError

        text = self.statement.text
        if not text.startswith(_FORMATTED):
            return text
        try:
            formatted = sqlglot.transpile(text, "postgres", "postgres", pretty=True)
        except (SqlglotError, RecursionError):
            return text
        pretty = ";\n".join(formatted)
        return pretty if "".join(pretty.split()) == "".join(text.split()) else text


def _text(value: float | None) -> str | None:
    return None if value is None else format_number(value)


def format_number(value: float) -> str:
    """Format a number with commas, without decimals if it is whole."""
    return f"{value:,.0f}" if value == int(value) else f"{value:,.4g}"

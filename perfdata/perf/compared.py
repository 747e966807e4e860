"""What a comparison of two trees found. Pure."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from perfdata.perf.model import Verdict
from perfdata.perf.randomisation import Change, compare_medians, judge

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from perfdata.perf.model import ScenarioResult

FORMAT = "perfdata-comparison/1"
SIDES = ("this", "rev", "again")  # this tree, the revision, and this tree in a second process


@dataclass(frozen=True)
class SentStatement:
    """A statement's counts, and the signatures of its plans, sorted."""

    text: str
    calls: int
    rows: int
    plans: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True)
class Counted:
    """What a side counted of one scenario; ``statements`` are by their fingerprint."""

    scenario: str
    dataset: str
    counters: Mapping[str, int]
    statements: Mapping[str, SentStatement]

    @classmethod
    def of(cls, result: ScenarioResult) -> Counted:
        """Take the counts of a result."""
        statements = {
            one.fingerprint: SentStatement(
                one.text, one.calls, one.rows, tuple(sorted({p.signature for p in one.plans}))
            )
            for one in result.statements
        }
        return cls(result.scenario, result.dataset, result.counters, statements)

    def to_json(self) -> dict[str, Any]:
        """Return it as a side sends it."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Counted:
        """Read what a side sent."""
        statements = {
            fingerprint: SentStatement(
                one["text"], one["calls"], one["rows"], tuple(map(tuple, one["plans"]))
            )
            for fingerprint, one in document["statements"].items()
        }
        return cls(
            document["scenario"], document["dataset"], dict(document["counters"]), statements
        )


@dataclass(frozen=True)
class Difference:
    """A count or a plan that is not the same on two sides: no noise, the code does it.

    ``name`` is a counter's, or "calls", "rows" or "plan" of ``statement``; of a plan, ``this`` and
    ``rev`` are signatures. None is what a side does not have.
    """

    name: str
    this: Any
    rev: Any
    statement: str = ""


@dataclass(frozen=True)
class Times:
    """The rounds of a scenario by side, in seconds, and in what order the sides had each."""

    rounds_s: Mapping[str, Sequence[float]]
    order: Sequence[Sequence[str]]

    @property
    def change(self) -> Change:
        """This tree against the revision."""
        return compare_medians(self.rounds_s["this"], self.rounds_s["rev"])

    @property
    def again(self) -> Change:
        """This tree's second run against the revision."""
        return compare_medians(self.rounds_s["again"], self.rounds_s["rev"])

    @property
    def same(self) -> Change:
        """This tree against itself."""
        return compare_medians(self.rounds_s["this"], self.rounds_s["again"])


@dataclass(frozen=True)
class Compared:
    """One scenario on both sides; ``times`` None: nothing was timed, as of ``perf.measure()``.

    ``unsteady`` is what differs between the two runs of this tree: whatever it names is no
    difference to the revision.
    """

    scenario: str
    test: str
    dataset: str
    times: Times | None
    change: Change | None
    again: Change | None
    same: Change | None
    differences: tuple[Difference, ...]
    unsteady: tuple[Difference, ...]

    @classmethod
    def of(
        cls, test: str, this: Counted, rev: Counted, again: Counted, times: Times | None
    ) -> Compared:
        """Compare what the sides counted, and their times where there are some."""
        return cls(
            scenario=this.scenario,
            test=test,
            dataset=this.dataset,
            times=times,
            change=times.change if times else None,
            again=times.again if times else None,
            same=times.same if times else None,
            differences=tuple(differences(this, rev)),
            unsteady=tuple(differences(this, again)),
        )

    @property
    def verdict(self) -> Verdict | None:
        """What is to be thought of the times; None where there are none."""
        if self.change is None or self.again is None or self.same is None:
            return None
        return judge(self.change, self.again, self.same)

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON holds it."""
        verdict = self.verdict and self.verdict.value
        return {**asdict(self), "verdict": verdict}


@dataclass(frozen=True)
class Comparison:
    """A whole comparison: of this tree with ``commit``, which ``rev`` named.

    ``dirty``: this tree has changes that are not committed. ``notes`` say what a reader should
    know, ``errors`` what could not be compared.
    """

    rev: str
    commit: str
    dirty: bool
    scenarios: tuple[Compared, ...]
    notes: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()

    @property
    def regressed(self) -> bool:
        """Whether this tree is slower than the revision in any scenario."""
        return any(one.verdict is Verdict.REGRESSED for one in self.scenarios)

    def to_json(self) -> dict[str, Any]:
        """Return it as ``--json`` prints it."""
        scenarios = [one.to_json() for one in self.scenarios]
        return {"format": FORMAT, **asdict(self), "scenarios": scenarios}


def differences(this: Counted, rev: Counted) -> list[Difference]:
    """List what was counted differently, the sums first, then statement by statement."""
    names = [*this.counters, *(name for name in rev.counters if name not in this.counters)]
    counts = [(name, this.counters.get(name), rev.counters.get(name)) for name in names]
    found = [Difference(name, one, other) for name, one, other in counts if one != other]
    for fingerprint in {**rev.statements, **this.statements}:
        found += _of_statement(this.statements.get(fingerprint), rev.statements.get(fingerprint))
    return found


def _of_statement(this: SentStatement | None, rev: SentStatement | None) -> list[Difference]:
    text = (this or rev or SentStatement("", 0, 0)).text
    if this is None or rev is None:
        return [Difference("calls", this and this.calls, rev and rev.calls, text)]
    found = [
        Difference(name, getattr(this, name), getattr(rev, name), text)
        for name in ("calls", "rows")
    ]
    gone = [plan for plan in rev.plans if plan not in this.plans]
    came = [plan for plan in this.plans if plan not in rev.plans]
    if this.plans and rev.plans and (gone or came):
        found.append(Difference("plan", came, gone, text))
    return [one for one in found if one.this != one.rev]

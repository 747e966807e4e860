"""What a comparison of two trees found: in counts, and in times by a randomisation test. Pure.

Two codes took rounds in turn, so that the two times of a round stand under the same weather. What
is compared is d = log(median of the one) - log(median of the other). A median is not moved by a
few bad rounds, of which times always have some; in logarithms, twice and half are as far from
nothing.

How far from nothing does d lie by noise alone? Share the rounds out into two halves by chance, both
codes the same. Within one code the medians of its halves differ by noise alone, whatever the code
is; so does the difference of these differences between the codes,

    d* = ((one's first half - its second) - (other's first half - its second)) / 2

A real change of the code is in both halves and cancels, and so does what slows both codes in the
same rounds. The spread is that of d: the median of half the rounds has twice the variance, two
halves make it four times, and halving takes the four away again. Many such d* are the *null
distribution*.

Why not swap the two codes' names within rounds? Of a real change such swappings are full: with one
code five times as slow, nearly every one leaves a side with more of the slow rounds, hence a slow
median, and the null is as wide as the change. With the medians made equal first, and where one
code is noisier than the other, that test called a third of what was unchanged changed in
simulations of 30 rounds; this one 4 to 12 in a hundred, for a nominal 5.

A change counts from 5 % on, and only above the 95th percentile of the null, and only above what
the same tree showed against itself in a second process (A/A), and only where both its processes
show it. For one process is faster than another of the same code in all its rounds alike, such as by
where its memory lies, which no sharing out of rounds can show.
"""

from __future__ import annotations

import math
import random
from dataclasses import asdict, dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from perfdata.perf.model import Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from perfdata.perf.model import ScenarioResult

FORMAT = "perfdata-comparison/1"
VARIANTS = ("this", "rev", "again")  # this tree, the revision, and this tree in a second process

SMALLEST_CHANGE = 0.05
PERCENTILE = 0.95
DRAWS = 2000
SEED = 1
# Halves of five: 126 ways to share ten rounds out. Of fewer no 95th percentile can be read.
FEWEST_ROUNDS = 10


@dataclass(frozen=True)
class SentStatement:
    """A statement's counts, and the signatures of its plans, sorted."""

    text: str
    calls: int
    rows: int
    plans: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True)
class ScenarioCounts:
    """What a side counted of one scenario; ``statements`` are by their fingerprint."""

    scenario: str
    dataset: str
    counters: Mapping[str, int]
    statements: Mapping[str, SentStatement]

    @classmethod
    def of(cls, result: ScenarioResult) -> ScenarioCounts:
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
    def from_json(cls, document: Mapping[str, Any]) -> ScenarioCounts:
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
class CountDifference:
    """A count or a plan that is not the same on two sides: no noise, the code does it.

    ``name`` is a counter's, or "calls", "rows" or "plan" of ``statement``; of a plan, ``this`` and
    ``rev`` are signatures. None is what a side does not have.
    """

    name: str
    this: Any
    rev: Any
    statement: str = ""


@dataclass(frozen=True)
class MedianChange:
    """By how much one median differs from the other, and by how much noise alone would.

    ``relative`` is 0.25 where the one is slower by a quarter, -0.2 where the other is. ``null_95``,
    like ``factor``, has no sign: by what part the slower is slower, whichever that is.
    """

    relative: float
    null_95: float

    @property
    def factor(self) -> float:
        """By what part the slower of the two is slower."""
        return math.expm1(abs(math.log1p(self.relative)))


@dataclass(frozen=True)
class Times:
    """The rounds of a scenario by side, in seconds, and in what order the sides had each."""

    rounds_s: Mapping[str, Sequence[float]]
    order: Sequence[Sequence[str]]

    @property
    def change(self) -> MedianChange:
        """This tree against the revision."""
        return compare_medians(self.rounds_s["this"], self.rounds_s["rev"])

    @property
    def again(self) -> MedianChange:
        """This tree's second run against the revision."""
        return compare_medians(self.rounds_s["again"], self.rounds_s["rev"])

    @property
    def same(self) -> MedianChange:
        """This tree against itself."""
        return compare_medians(self.rounds_s["this"], self.rounds_s["again"])


@dataclass(frozen=True)
class ScenarioComparison:
    """One scenario on both sides; ``times`` None: nothing was timed, as of ``perf.measure()``.

    ``unsteady`` is what differs between the two runs of this tree: whatever it names is no
    difference to the revision.
    """

    scenario: str
    test: str
    dataset: str
    times: Times | None
    change: MedianChange | None
    again: MedianChange | None
    same: MedianChange | None
    differences: tuple[CountDifference, ...]
    unsteady: tuple[CountDifference, ...]

    @classmethod
    def of(
        cls,
        test: str,
        this: ScenarioCounts,
        rev: ScenarioCounts,
        again: ScenarioCounts,
        times: Times | None,
    ) -> ScenarioComparison:
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
        return judge_change(self.change, self.again, self.same)

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
    scenarios: tuple[ScenarioComparison, ...]
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


def differences(this: ScenarioCounts, rev: ScenarioCounts) -> list[CountDifference]:
    """List what was counted differently, the sums first, then statement by statement."""
    names = [*this.counters, *(name for name in rev.counters if name not in this.counters)]
    counts = [(name, this.counters.get(name), rev.counters.get(name)) for name in names]
    found = [CountDifference(name, one, other) for name, one, other in counts if one != other]
    for fingerprint in {**rev.statements, **this.statements}:
        found += _of_statement(this.statements.get(fingerprint), rev.statements.get(fingerprint))
    return found


def _of_statement(this: SentStatement | None, rev: SentStatement | None) -> list[CountDifference]:
    text = (this or rev or SentStatement("", 0, 0)).text
    if this is None or rev is None:
        return [CountDifference("calls", this and this.calls, rev and rev.calls, text)]
    found = [
        CountDifference(name, getattr(this, name), getattr(rev, name), text)
        for name in ("calls", "rows")
    ]
    gone = [plan for plan in rev.plans if plan not in this.plans]
    came = [plan for plan in this.plans if plan not in rev.plans]
    if this.plans and rev.plans and (gone or came):
        found.append(CountDifference("plan", came, gone, text))
    return [one for one in found if one.this != one.rev]


def compare_medians(
    one: Sequence[float], other: Sequence[float], *, draws: int = DRAWS, seed: int = SEED
) -> MedianChange:
    """Compare the times of rounds: the first of ``one`` was taken with the first of ``other``.

    The same times and seed give the same answer. Raises ValueError where the lengths differ, or
    there are fewer than FEWEST_ROUNDS.
    """
    if len(one) != len(other) or len(one) < FEWEST_ROUNDS:
        raise ValueError(f"{len(one)} and {len(other)} rounds, not {FEWEST_ROUNDS} or more pairs")
    sides = [math.log(time) for time in one], [math.log(time) for time in other]
    draw = random.Random(seed)  # noqa: S311  the same answer each time is what is wanted
    null = sorted(_by_chance(sides, draw) for _ in range(draws))
    at_95 = null[math.ceil(PERCENTILE * draws) - 1]
    return MedianChange(math.expm1(median(sides[0]) - median(sides[1])), math.expm1(at_95))


def judge_change(change: MedianChange, again: MedianChange, same: MedianChange) -> Verdict:
    """Judge a change by both runs of this tree against the other, and by one against the other.

    ``change`` and ``again`` are the two against the other code, ``same`` is A/A. What only one of
    them shows is unstable.
    """
    found = {_judge(one, same) for one in (change, again)}
    return found.pop() if len(found) == 1 else Verdict.UNSTABLE


def _judge(change: MedianChange, same: MedianChange) -> Verdict:
    noise = max(change.null_95, same.factor)
    if change.factor >= SMALLEST_CHANGE and change.factor > noise:
        return Verdict.REGRESSED if change.relative > 0 else Verdict.IMPROVED
    return Verdict.UNSTABLE if noise > SMALLEST_CHANGE else Verdict.OK


def _by_chance(sides: tuple[list[float], list[float]], draw: random.Random) -> float:
    """Return the size of one d*."""
    rounds = list(range(len(sides[0])))
    draw.shuffle(rounds)
    first, second = rounds[: len(rounds) // 2], rounds[len(rounds) // 2 :]
    one, other = (
        median(side[number] for number in first) - median(side[number] for number in second)
        for side in sides
    )
    return abs(one - other) / 2

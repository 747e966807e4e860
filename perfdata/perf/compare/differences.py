"""The differences between two trees: in counts, and in times by a randomisation test. Pure.

The two trees take their rounds in turn, so that both times of a round are measured under the same
conditions. The statistic is d = log(median of one) - log(median of the other): a median is robust
against outliers, and in logarithms a factor of 2 and one of 1/2 have the same size.

How large is d by noise alone? Split the rounds at random into two halves, the same for both trees.
Within one tree, the medians of the halves differ only by noise, and so does the difference of
these differences between the trees:

    d* = ((first half - second half of one) - (first half - second half of the other)) / 2

A real difference between the trees is in both halves and cancels out, as does what slows both
trees in the same rounds. d* has the variance of d: the median of half the rounds has twice the
variance, two halves make it four times, and dividing by 2 removes the factor 4. Many such d* form
the *null distribution*.

Why not permute the trees' names within rounds? A real difference inflates that null distribution:
if one tree is five times slower, nearly every permutation gives one group more slow rounds and a
slow median. With the medians aligned first, and one tree noisier than the other, that test found a
change in a third of unchanged trees, in simulations with 30 rounds; this test does so in 4 to 12
of 100, for a nominal 5.

A change counts if it is at least 5 %, above the 95th percentile of the null distribution, above the
difference between two processes of the same tree (A/A), and present in both of these processes. One
process may be faster than another of the same code in all of its rounds, for example by its memory
layout, which no split of the rounds reveals.
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
# Ten rounds have 126 splits into halves; fewer are not enough for a 95th percentile.
FEWEST_ROUNDS = 10

_HASH_DIGITS = 10


@dataclass(frozen=True)
class SentStatement:
    """A statement's counts and its plans' signatures, sorted."""

    text: str
    calls: int
    rows: int
    plans: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True)
class ScenarioCounts:
    """One variant's counts of a scenario; ``statements`` are keyed by fingerprint."""

    scenario: str
    dataset: str
    counters: Mapping[str, int]
    statements: Mapping[str, SentStatement]

    @classmethod
    def of(cls, result: ScenarioResult) -> ScenarioCounts:
        """Return the counts of a result."""
        statements = {
            sent.fingerprint: SentStatement(
                sent.text, sent.calls, sent.rows, tuple(sorted({p.signature for p in sent.plans}))
            )
            for sent in result.statements
        }
        return cls(result.scenario, result.dataset, result.counters, statements)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON data that a variant sends."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> ScenarioCounts:
        """Read the JSON data that a variant sent."""
        statements = {
            fingerprint: SentStatement(
                sent["text"], sent["calls"], sent["rows"], tuple(map(tuple, sent["plans"]))
            )
            for fingerprint, sent in document["statements"].items()
        }
        return cls(
            document["scenario"], document["dataset"], dict(document["counters"]), statements
        )


@dataclass(frozen=True)
class CountDifference:
    """A count or a plan that differs between two variants, which is an effect of the code.

    ``name`` is a counter, or "calls", "rows" or "plan" of ``statement``; for a plan, ``this`` and
    ``rev`` are lists of signatures. None means that a variant does not have it.
    """

    name: str
    this: Any
    rev: Any
    statement: str = ""


@dataclass(frozen=True)
class MedianChange:
    """The relative difference of two medians, and that which noise alone would cause.

    ``relative`` is 0.25 if the first is slower by 25 %, and -0.2 if the second is. ``null_95``,
    like ``factor``, has no sign: it is how much slower the slower one is.
    """

    relative: float
    null_95: float

    @property
    def factor(self) -> float:
        """How much slower the slower one is: 0.25 for 25 %."""
        return math.expm1(abs(math.log1p(self.relative)))


@dataclass(frozen=True)
class Times:
    """The times of a scenario's rounds by variant, in seconds, and the variants' order in each."""

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
    """One scenario of a comparison; ``times`` is None for a block of ``perf.measure()``.

    ``unsteady`` are the differences between the two runs of this tree; what it contains does not
    count as a difference from the revision.
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
        """Compare the variants' counts, and their times if there are any."""
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
        """The verdict on the times; None without times."""
        if self.change is None or self.again is None or self.same is None:
            return None
        return judge_change(self.change, self.again, self.same)

    def to_json(self) -> dict[str, Any]:
        """Return the comparison as JSON data."""
        verdict = self.verdict and self.verdict.value
        return {**asdict(self), "verdict": verdict}


@dataclass(frozen=True)
class Comparison:
    """The comparison of this tree with ``commit``, the hash that ``rev`` names.

    ``dirty`` tells that this tree has uncommitted changes. ``errors`` describe what could not be
    compared.
    """

    rev: str
    commit: str
    dirty: bool
    scenarios: tuple[ScenarioComparison, ...]
    notes: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """The revision's name and short hash."""
        short = self.commit[:_HASH_DIGITS]
        return short if self.commit.startswith(self.rev) else f"{self.rev} ({short})"

    @property
    def regressed(self) -> bool:
        """Whether this tree is slower than the revision in any scenario."""
        return any(scenario.verdict is Verdict.REGRESSED for scenario in self.scenarios)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON data that ``--json`` prints."""
        scenarios = [scenario.to_json() for scenario in self.scenarios]
        return {"format": FORMAT, **asdict(self), "scenarios": scenarios}


def differences(this: ScenarioCounts, rev: ScenarioCounts) -> list[CountDifference]:
    """Return the differences between two variants' counts: first the totals, then by statement."""
    names = [*this.counters, *(name for name in rev.counters if name not in this.counters)]
    counts = [(name, this.counters.get(name), rev.counters.get(name)) for name in names]
    found = [CountDifference(name, new, old) for name, new, old in counts if new != old]
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
    return [difference for difference in found if difference.this != difference.rev]


def compare_medians(
    one: Sequence[float], other: Sequence[float], *, draws: int = DRAWS, seed: int = SEED
) -> MedianChange:
    """Compare the times of rounds, in seconds; both sequences are in the order of the rounds.

    The same times and seed give the same result. Raises ValueError if the lengths differ, or if
    there are fewer than FEWEST_ROUNDS.
    """
    if len(one) != len(other) or len(one) < FEWEST_ROUNDS:
        raise ValueError(
            "a comparison needs the same number of rounds on both sides, at least "
            f"{FEWEST_ROUNDS}; got {len(one)} and {len(other)}"
        )
    logs = [math.log(time) for time in one], [math.log(time) for time in other]
    draw = random.Random(seed)  # noqa: S311  reproducible, not cryptographic
    null = sorted(_null_difference(logs, draw) for _ in range(draws))
    at_95 = null[math.ceil(PERCENTILE * draws) - 1]
    return MedianChange(math.expm1(median(logs[0]) - median(logs[1])), math.expm1(at_95))


def judge_change(change: MedianChange, again: MedianChange, same: MedianChange) -> Verdict:
    """Return the verdict on a change.

    ``change`` and ``again`` are this tree's two processes against the revision, ``same`` is A/A. A
    change that only one process shows is unstable.
    """
    found = {_judge(observed, same) for observed in (change, again)}
    return found.pop() if len(found) == 1 else Verdict.UNSTABLE


def _judge(change: MedianChange, same: MedianChange) -> Verdict:
    noise = max(change.null_95, same.factor)
    if change.factor >= SMALLEST_CHANGE and change.factor > noise:
        return Verdict.REGRESSED if change.relative > 0 else Verdict.IMPROVED
    return Verdict.UNSTABLE if noise > SMALLEST_CHANGE else Verdict.OK


def _null_difference(logs: tuple[list[float], list[float]], draw: random.Random) -> float:
    """Return the absolute value of one d*."""
    rounds = list(range(len(logs[0])))
    draw.shuffle(rounds)
    first, second = rounds[: len(rounds) // 2], rounds[len(rounds) // 2 :]
    one, other = (
        median(times[number] for number in first) - median(times[number] for number in second)
        for times in logs
    )
    return abs(one - other) / 2

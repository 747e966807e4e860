"""A randomisation test: does the median time of one code differ from another's? Pure.

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
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from perfdata.perf.model import Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

SMALLEST_CHANGE = 0.05
PERCENTILE = 0.95
DRAWS = 2000
SEED = 1
# Halves of five: 126 ways to share ten rounds out. Of fewer no 95th percentile can be read.
FEWEST_ROUNDS = 10


@dataclass(frozen=True)
class Change:
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


def compare_medians(
    one: Sequence[float], other: Sequence[float], *, draws: int = DRAWS, seed: int = SEED
) -> Change:
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
    return Change(math.expm1(median(sides[0]) - median(sides[1])), math.expm1(at_95))


def judge(change: Change, again: Change, same: Change) -> Verdict:
    """Judge a change by both runs of this tree against the other, and by one against the other.

    ``change`` and ``again`` are the two against the other code, ``same`` is A/A. What only one of
    them shows is unstable.
    """
    found = {_judge(one, same) for one in (change, again)}
    return found.pop() if len(found) == 1 else Verdict.UNSTABLE


def _judge(change: Change, same: Change) -> Verdict:
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

"""Zipf's law in integers: rank r has a weight in proportion to r to the power of -exponent."""

from __future__ import annotations

from bisect import bisect_right
from functools import cache
from itertools import accumulate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fractions import Fraction

_SCALE_BITS = 48
# Ranks that differ by less than a 64th share a weight: it is off by less than 1 % for exponents to
# 1, and a million ranks are some 700 steps.
_RANKS_A_STEP = 64


class Zipf:
    """Weights of ranks from 0: integers, so that they are the same on every machine."""

    def __init__(self, size: int, exponent: Fraction) -> None:
        self._first, self._weights, totals = [], [], []
        rank = 1
        while rank <= size:
            ranks = min(max(1, rank // _RANKS_A_STEP), size + 1 - rank)
            weight = _weight(rank + ranks // 2, exponent)
            self._first.append(rank - 1)
            self._weights.append(weight)
            totals.append(weight * ranks)
            rank += ranks
        self._before = [0, *accumulate(totals)]
        self.total = self._before[-1]

    def rank(self, point: int) -> int:
        """Return the rank in whose weight a point from 0 to ``total`` - 1 falls."""
        step = bisect_right(self._before, point) - 1
        return self._first[step] + (point - self._before[step]) // self._weights[step]

    def before(self, rank: int) -> int:
        """Return the weight of all ranks before this one."""
        step = bisect_right(self._first, rank) - 1
        return self._before[step] + (rank - self._first[step]) * self._weights[step]


@cache
def zipf(size: int, exponent: Fraction) -> Zipf:
    """Return the weights of that many ranks; computed once."""
    return Zipf(size, exponent)


def _weight(rank: int, exponent: Fraction) -> int:
    """Return rank ** -exponent, times 2 ** 48: an integer root, rounded down, at least 1."""
    degree = exponent.denominator
    scaled = (1 << _SCALE_BITS * degree) // rank**exponent.numerator
    return max(1, _root(scaled, degree))


def _root(number: int, degree: int) -> int:
    """Return the integer part of a root, by Newton's method."""
    if degree == 1 or number < 2:  # noqa: PLR2004, 0 and 1 are their own roots
        return number
    guess = 1 << -(-number.bit_length() // degree)
    while True:
        better = ((degree - 1) * guess + number // guess ** (degree - 1)) // degree
        if better >= guess:
            return guess
        guess = better

"""Streams of integers that are the same everywhere, each named by what it is for.

SHAKE-128 gives as many bytes as are asked for, and a longer stream begins with the shorter one: 14
ns a value where a whole block is cut from one stream, 500 and more with a hash for each value.
"""

from __future__ import annotations

import hashlib
import sys
from array import array
from math import gcd
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

BLOCK_ROWS = 4096
"""The rows of one block: each column of a block has its own stream."""

_CODES = {32: "I", 64: "Q"}
# 32 bits choose among a million values: no one is more likely than another by more than 1 in 4,096.
_NARROW = 1 << 20


def integers(name: str, count: int, bits: int) -> array[int]:
    """Return the first integers of the stream of that name, of 32 or 64 bits."""
    numbers = array(_CODES[bits])
    numbers.frombytes(hashlib.shake_128(name.encode()).digest(count * bits // 8))
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


def below(name: str, count: int, limit: int) -> list[int]:
    """Return the first integers of the stream of that name, each from 0 to ``limit`` - 1."""
    bits = 32 if limit <= _NARROW else 64
    return [number * limit >> bits for number in integers(name, count, bits)]


class Permutation:
    """The integers from 0 to ``size`` - 1 in another order, each computed alone.

    An affine map, which is a permutation where step and size have no common divisor. Steps near
    the golden section spread consecutive values over the whole range.
    """

    def __init__(self, name: str, size: int) -> None:
        self.size = size
        self._step = coprime(size, size * 618_034 // 1_000_000)
        self._first = below(name, 1, size)[0]

    def at(self, places: Iterable[int]) -> Sequence[int]:
        """Return the integers at these places."""
        first, step, size = self._first, self._step, self.size
        return [(first + place * step) % size for place in places]


def coprime(size: int, least: int) -> int:
    """Return the smallest integer from ``least`` that has no common divisor with ``size``."""
    step = max(least, 1)
    while gcd(step, size) != 1:
        step += 1
    return step

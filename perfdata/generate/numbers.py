"""Keys and numbers."""

from __future__ import annotations

import sys
from array import array
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from perfdata.generate.streams import Permutation, integers
from perfdata.generate.tables import GeneratedColumn, NumberedColumn, PlainColumn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perfdata.generate.tables import RowBlock, Site

_VARIANTS = "89ab"  # RFC 9562, 4.1
# Odd, near 2 ** 64 divided by the golden section: consecutive keys are far apart, as random ones.
_UUID_STEP, _64_BITS = 0x9E3779B97F4A7C15, (1 << 64) - 1


def serial(start: int = 1) -> GeneratedColumn:
    """Return a column of consecutive integers from ``start``."""
    return Serial(start)


def uuid() -> GeneratedColumn:
    """Return a column of unique UUIDs, in an order that looks random to an index."""
    return Uuid()


def integer(low: int, high: int, *, unique: bool = False) -> GeneratedColumn:
    """Return a column of integers from ``low`` to ``high``; ``unique`` gives none of them twice."""
    return UniqueInteger(low, high) if unique else Integer(low, high)


def decimal(low: str | int | Decimal, high: str | int | Decimal) -> GeneratedColumn:
    """Return a column of decimals with the places of its limits: ``decimal("0.50", "99.99")``."""
    return DecimalNumber(low, high)


class Serial(PlainColumn, NumberedColumn):
    """Consecutive integers."""

    plain = True

    def __init__(self, start: int) -> None:
        self._start = start

    def at(self, rows: Sequence[int]) -> Sequence[int]:
        """Return the integers of these rows."""
        start = self._start
        if isinstance(rows, range):
            return range(start + rows.start, start + rows.stop)
        return [start + row for row in rows]


class Uuid(PlainColumn, NumberedColumn):
    """UUIDs of the form of version 4, each computed from the number of its row.

    The first group and the end are a permutation of 64 bits, so no two rows of a table share one,
    and consecutive rows lie far apart in an index. The groups between belong to the seed and the
    table.
    """

    plain = True

    def prepare(self) -> None:
        """Take the first row's number and the groups between from the stream."""
        self._first, middle = integers(self.site.stream(""), 2, 64)
        digits = f"{middle:016x}"
        variant = _VARIANTS[middle % 4]
        self._middle = f"-{digits[:4]}-4{digits[4:7]}-{variant}{digits[7:10]}-{digits[10:14]}"

    def at(self, rows: Sequence[int]) -> Sequence[str]:
        """Return the UUIDs of these rows, as text."""
        if isinstance(rows, range):
            numbers = _lanes(self._first, rows)
        else:
            numbers = array("Q", [(self._first + row * _UUID_STEP) & _64_BITS for row in rows])
            if sys.byteorder == "little":
                numbers.byteswap()
        # All digits at once: half the time of formatting each number.
        groups = iter(numbers.tobytes().hex("-", -4).split("-")) if numbers else iter(())
        middle = self._middle
        return [start + middle + end for start, end in zip(groups, groups, strict=True)]


def _lanes(first: int, rows: range) -> array[int]:
    """Return first + row * step of consecutive rows, 64 bits each, the highest byte first.

    They are computed as one number with a lane of 128 bits for each row, in half the time.
    """
    ones, places = _lane_numbers(len(rows))
    start = (first + rows.start * _UUID_STEP) & _64_BITS
    lanes = array("Q", (start * ones + _UUID_STEP * places).to_bytes(len(rows) * 16, "big"))
    return lanes[1::2]


@lru_cache(8)
def _lane_numbers(count: int) -> tuple[int, int]:
    """Return numbers that have 1, and 0, 1, 2, …, in their lanes."""
    ones = (1).to_bytes(16, "big") * count
    places = b"".join(place.to_bytes(16, "big") for place in range(count))
    return int.from_bytes(ones, "big"), int.from_bytes(places, "big")


class Integer(PlainColumn):
    """Integers of a range."""

    plain = True

    def __init__(self, low: int, high: int) -> None:
        self._low, self._high = low, high

    def prepare(self) -> None:
        """Raise ConfigError for an empty range."""
        if self._low > self._high:
            raise self.site.error(
                f"no number is from {self._low} to {self._high}", "Give the smaller one first"
            )

    def values(self, rows: RowBlock) -> Sequence[int]:
        """Return the integers of a block."""
        low = self._low
        return [low + offset for offset in self.site.below(rows, self._high - low + 1)]


class UniqueInteger(Integer, NumberedColumn):
    """Integers of a range, no two the same."""

    def prepare(self) -> None:
        """Raise ConfigError if there are fewer integers than rows."""
        super().prepare()
        size = self._high - self._low + 1
        check_enough(self.site, size, f"from {self._low} to {self._high} are {{}} unique numbers")
        self._permutation = Permutation(self.site.stream(""), size)

    def at(self, rows: Sequence[int]) -> Sequence[int]:
        """Return the integers of these rows."""
        return [self._low + offset for offset in self._permutation.at(rows)]

    def values(self, rows: RowBlock) -> Sequence[int]:
        """Return the integers of a block."""
        return self.at(rows.numbers)


class DecimalNumber(Integer):
    """Decimals of a range, with the decimal places of its limits."""

    def __init__(self, low: str | int | Decimal, high: str | int | Decimal) -> None:
        limits = [Decimal(str(low)), Decimal(str(high))]
        places = max(0, *(-int(limit.as_tuple().exponent) for limit in limits))
        super().__init__(*(int(limit.scaleb(places)) for limit in limits))
        self._places = places

    def values(self, rows: RowBlock) -> Sequence[Any]:
        """Return the decimals of a block."""
        places = -self._places
        return [Decimal(number).scaleb(places) for number in super().values(rows)]


def check_enough(site: Site, available: int, words: str) -> None:
    """Raise ConfigError if a column has fewer values than its table has rows."""
    rows = site.rows.count
    if available < rows:
        raise site.error(
            f"{words.format(f'{available:,}')}, the table has {rows:,} rows",
            "Give it more values, or the table fewer rows",
        )

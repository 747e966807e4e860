"""Keys and numbers."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from perfdata.generate.streams import Permutation, below
from perfdata.generate.tables import GeneratedColumn, NumberedColumn, PlainColumn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perfdata.generate.tables import RowBlock, Site

_VARIANTS = "89ab"  # RFC 9562, 4.1
# Odd, near 2 ** n divided by the golden section: consecutive keys are far apart, as random ones.
_FIRST_STEP, _LAST_STEP = 0x9E3779B1, 0x9E3779B97F4B


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

    The first and the last group are permutations of 32 and of 48 bits, so no two rows of a table
    share one, and consecutive rows lie far apart in an index. The groups between belong to
    the seed and the table.
    """

    def prepare(self) -> None:
        """Take the middle groups and the first row's numbers from the stream."""
        first, middle, last = below(self.site.stream(""), 3, 1 << 48)
        digits = f"{middle:012x}"
        self._first, self._last = first, last
        self._middle = f"-{digits[:4]}-4{digits[4:7]}-{_VARIANTS[middle % 4]}{digits[7:10]}-"

    def at(self, rows: Sequence[int]) -> Sequence[str]:
        """Return the UUIDs of these rows, as text."""
        pattern = f"%08x{self._middle}%012x"
        first, last = self._first, self._last
        return [
            pattern
            % (
                (first + row * _FIRST_STEP) & 0xFFFF_FFFF,
                (last + row * _LAST_STEP) & 0xFFFF_FFFF_FFFF,
            )
            for row in rows
        ]


class Integer(PlainColumn):
    """Integers of a range."""

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

"""Tables whose rows belong to the rows of another table, in their order."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import accumulate, chain, pairwise, repeat
from operator import sub
from typing import TYPE_CHECKING, Any, NamedTuple

from perfdata.generate.places import Places
from perfdata.generate.streams import BLOCK_ROWS, below
from perfdata.generate.tables import GeneratedTable, PlainColumn
from perfdata.generate.zipf import zipf as zipf_weights

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perfdata.generate.encoding import Encoder
    from perfdata.generate.tables import GeneratedColumn, GeneratedRows, RowBlock, Site

_LARGEST_EXPONENT = 5


@dataclass(frozen=True)
class Per:
    """How many rows a table has for each row of another."""

    table: GeneratedTable
    low: int
    high: int
    zipf: Fraction | None


def per(
    table: GeneratedTable, low: int, high: int | None = None, *, zipf: float | None = None
) -> Per:
    """Return the number of a table's rows as rows for each row of another table, its parent.

    ``per(customers, 3)`` is exactly three, ``per(customers, 0, 18)`` any number from 0 to 18,
    evenly. ``per(customers, 100, zipf=0.7)`` is 100 on average, skewed by Zipf's law: the first
    parent has most. Its columns may be ``parent()``, ``position()``, ``size()`` and
    ``is_last()``.
    """
    exponent = None if zipf is None else Fraction(str(zipf))
    return Per(table, low, low if high is None else high, exponent)


def parent(column: str | None = None) -> GeneratedColumn:
    """Return a column with the parent's key, or with the value of another column of the parent."""
    return Parent(column)


def position() -> GeneratedColumn:
    """Return a column that counts the rows of each parent from 1."""
    return Position()


def is_last() -> GeneratedColumn:
    """Return a column that is true in the last row of each parent, false in the others."""
    return IsLast()


def size() -> GeneratedColumn:
    """Return a column with the number of rows of the parent."""
    return Size()


class Family(NamedTuple):
    """For each row of a block: the parent's row from 0, the place within it from 0, its rows."""

    parents: Sequence[int]
    places: Sequence[int]
    sizes: Sequence[int]


class Children:
    """Which rows of a table belong to which row of its parent."""

    def __init__(self, rows: GeneratedRows, given: Per) -> None:
        self.parent = given.table.blocks
        self._low, self._high = given.low, given.high
        self._stream = f"{rows.dataset.seed}\0{rows.stream}\0\0per"
        self._zipf = None
        if not 0 <= self._low <= self._high:
            raise rows.error(
                f"no number of rows is from {self._low} to {self._high}", "Use per(table, 0, 18)"
            )
        if given.zipf is not None and self._low != self._high:
            raise rows.error("zipf is with one number of rows", "Use per(table, 9, zipf=0.7)")
        if given.zipf is not None and self.parent.count:
            check_exponent(rows, given.zipf)
            self._zipf = zipf_weights(self.parent.count, given.zipf)
            self._rows_total = self._low * self.parent.count
        self.counts = lru_cache(4)(self._counts)
        sizes = (self._size(block) for block in range(self.parent.block_count))
        self._before = [0, *accumulate(sizes)]

    @property
    def total(self) -> int:
        """The number of rows."""
        return self._before[-1]

    @property
    def most(self) -> int:
        """The largest number of rows that a parent can have."""
        if self._zipf is None:
            return self._high
        return -(-self._zipf.before(1) * self._rows_total // self._zipf.total)  # rounded up

    def family(self, rows: RowBlock) -> Family:
        """Return where the rows of a block belong."""
        return rows.once("family", lambda: self._family(rows.numbers.start, rows.count))

    def _family(self, first: int, count: int) -> Family:
        if self._low == self._high == 1 and self._zipf is None:
            return Family(range(first, first + count), [0] * count, [1] * count)
        parents: list[int] = []
        places: list[int] = []
        sizes: list[int] = []
        end, block = first + count, bisect_right(self._before, first) - 1
        while len(places) < count:
            counts, sums = self.counts(block)
            begin = bisect_right(sums, first)
            some = counts[begin : bisect_left(sums, end) + 1]
            # Of the first and the last parent, only those rows that are in the block.
            skipped = max(0, first - (sums[begin - 1] if begin else self._before[block]))
            starts = [skipped, *repeat(0, len(some) - 1)]
            ends = [*some[:-1], some[-1] - max(0, sums[begin + len(some) - 1] - end)]
            shown = list(map(sub, ends, starts))
            numbers = range(block * BLOCK_ROWS + begin, block * BLOCK_ROWS + begin + len(some))
            parents += chain.from_iterable(map(repeat, numbers, shown))
            places += chain.from_iterable(map(range, starts, ends))
            sizes += chain.from_iterable(map(repeat, some, shown))
            block += 1
        return Family(parents, places, sizes)

    def _counts(self, block: int) -> tuple[list[int], list[int]]:
        """Return the rows of each parent of a block, and the rows up to its end."""
        counts = self._drawn(block)
        return counts, list(accumulate(counts, initial=self._before[block]))[1:]

    def _drawn(self, block: int) -> list[int]:
        numbers = self.parent.row_block(block).numbers
        if self._zipf is not None:
            sums = [self._zipf_before(row) for row in (*numbers, numbers.stop)]
            return [end - begin for begin, end in pairwise(sums)]
        if self._low == self._high:
            return [self._low] * len(numbers)
        limit = self._high - self._low + 1
        drawn = below(f"{self._stream}\0{block}", len(numbers), limit)
        return [self._low + more for more in drawn]

    def _size(self, block: int) -> int:
        numbers = self.parent.row_block(block).numbers
        if self._zipf is not None:
            return self._zipf_before(numbers.stop) - self._zipf_before(numbers.start)
        return self._low * len(numbers) if self._low == self._high else sum(self._drawn(block))

    def _zipf_before(self, row: int) -> int:
        """Return the rows of all parents before this one: rounding keeps the total exact."""
        assert self._zipf is not None  # noqa: S101, asked only where sizes are skewed
        if row == self.parent.count:
            return self._rows_total
        return self._zipf.before(row) * self._rows_total // self._zipf.total


class ChildColumn(PlainColumn):
    """A column of a table whose rows belong to a parent."""

    def prepare(self) -> None:
        """Raise ConfigError in a table of another kind."""
        self.children = children_of(self.site)


class Parent(ChildColumn):
    """The parent's key, or another column of it."""

    def __init__(self, column: str | None) -> None:
        self._name = column

    def prepare(self) -> None:
        """Find the parent's column."""
        super().prepare()
        self._column = self.children.parent.column(self._name, self.site)

    def values(self, rows: RowBlock) -> Sequence[Any]:
        """Return the parents' values of a block."""
        return self.children.parent.values_at(self._column, self._places(rows))

    def texts(self, rows: RowBlock, encode: Encoder) -> Sequence[str]:
        """Return the parents' values as text."""
        return self.children.parent.texts_at(self._column, self._places(rows), encode)

    def _places(self, rows: RowBlock) -> Places:
        return Places(self.children.family(rows).parents, ascending=True)


class Position(ChildColumn):
    """The place of a row among those of its parent."""

    plain = True

    def values(self, rows: RowBlock) -> Sequence[int]:
        """Return the places of a block, from 1."""
        return [place + 1 for place in self.children.family(rows).places]


class Size(ChildColumn):
    """The number of rows of a row's parent."""

    plain = True

    def values(self, rows: RowBlock) -> Sequence[int]:
        """Return the parents' numbers of rows."""
        return self.children.family(rows).sizes


class IsLast(ChildColumn):
    """Whether a row is its parent's last."""

    def values(self, rows: RowBlock) -> Sequence[bool]:
        """Return whether the rows of a block are their parent's last."""
        _, places, sizes = self.children.family(rows)
        return [place + 1 == size for place, size in zip(places, sizes, strict=True)]


def children_of(site: Site) -> Children:
    """Return which rows of a table belong to which parent; raise ConfigError if they have none."""
    children = site.rows.children
    if not isinstance(children, Children):
        raise site.error("the table's rows have no parent", "Give the table per(parent, 3) rows")
    return children


def check_exponent(rows: GeneratedRows, exponent: Fraction) -> None:
    """Raise ConfigError for an exponent that integer roots take too long for."""
    if not 0 < exponent <= _LARGEST_EXPONENT or 10 % exponent.denominator:
        raise rows.error(
            f"zipf is {float(exponent)}, not a number up to {_LARGEST_EXPONENT} with one decimal",
            "Use zipf=1.1",
        )

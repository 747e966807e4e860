"""References to rows of other tables, and to earlier rows of the same one."""

from __future__ import annotations

from fractions import Fraction
from math import gcd
from typing import TYPE_CHECKING, Any

from perfdata.generate.children import check_exponent, children_of
from perfdata.generate.places import Places
from perfdata.generate.streams import BLOCK_ROWS, Permutation, coprime, integers
from perfdata.generate.tables import GeneratedColumn, GeneratedTable, PlainColumn
from perfdata.generate.zipf import zipf as zipf_weights

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perfdata.generate.encoding import Encoder
    from perfdata.generate.tables import RowBlock

_STEPS = 64  # so many orders in which the rows of a parent take the rows that they refer to


def ref(
    table: GeneratedTable,
    column: str | None = None,
    *,
    zipf: float | None = None,
    distinct: bool = False,
) -> Reference:
    """Return a column of keys of another table's rows: its ``id``, or the column that is named.

    All rows are referenced evenly; with ``zipf=1.1`` some much more often, by Zipf's law. With
    ``distinct``, rows of one parent (see ``per``) refer to different rows, as a link table does.
    ``reference["price"]`` is the column of another value of the referenced row.
    """
    return Reference(table, column, None if zipf is None else Fraction(str(zipf)), distinct)


def earlier() -> GeneratedColumn:
    """Return a column of keys of earlier rows of the same table; null in the first row."""
    return Earlier()


class Reference(PlainColumn):
    """Keys of rows of another table."""

    def __init__(
        self, table: GeneratedTable, column: str | None, zipf: Fraction | None, distinct: bool
    ) -> None:
        self.table = table.blocks
        self._name, self._exponent, self._distinct = column, zipf, distinct

    def __getitem__(self, column: str) -> GeneratedColumn:
        """Return the column of another value of the referenced rows."""
        return Copied(self, column)

    def prepare(self) -> None:
        """Find the column; raise ConfigError if there are too few rows to refer to."""
        self._column = self.table.column(self._name, self.site)
        rows, size = self.site.rows, self.table.count
        if rows.count and not size:
            raise self.site.error(
                f"there is no row of {self.table.table} to refer to", "Give that table rows"
            )
        if self._exponent is not None and size:
            check_exponent(rows, self._exponent)
            self._zipf = zipf_weights(size, self._exponent)
            self._permutation = Permutation(self.site.stream("order"), size)
        if self._distinct:
            self._prepare_distinct()

    def _prepare_distinct(self) -> None:
        children, size = children_of(self.site), self.table.count
        if self._exponent is not None:
            raise self.site.error("distinct=True is without zipf", "Leave one of them out")
        if children.most > size:
            raise self.site.error(
                f"a parent has up to {children.most:,} rows, {self.table.table} only {size:,}",
                "Give that table more rows, or the parent fewer",
            )
        spread = range(1, size, max(1, size // _STEPS))
        self._steps = [step for step in spread if gcd(step, size) == 1] or [coprime(size, 1)]

    def places(self, rows: RowBlock) -> Places:
        """Return the referenced rows."""
        return rows.once((self, "places"), lambda: Places(self._drawn(rows)))

    def _drawn(self, rows: RowBlock) -> Sequence[int]:
        if self._distinct:
            return self._distinct_places(rows)
        if self._exponent is None:
            return self.site.below(rows, self.table.count)
        rank = self._zipf.rank
        points = self.site.below(rows, self._zipf.total)
        return self._permutation.at([rank(point) for point in points])

    def _distinct_places(self, rows: RowBlock) -> Sequence[int]:
        """Return rows in steps from a first one; both are drawn for each parent."""
        family = children_of(self.site).family(rows)
        first_block = family.parents[0] // BLOCK_ROWS
        drawn: list[int] = []
        for block in range(first_block, family.parents[-1] // BLOCK_ROWS + 1):
            drawn += integers(self.site.stream(f"parent{block}"), BLOCK_ROWS, 64)
        size, steps, offset = self.table.count, self._steps, first_block * BLOCK_ROWS
        count = len(steps)
        return [
            (drawn[parent - offset] + place * steps[(drawn[parent - offset] >> 32) % count]) % size
            for parent, place in zip(family.parents, family.places, strict=True)
        ]

    def values(self, rows: RowBlock) -> Sequence[Any]:
        """Return the keys that the rows of a block refer to."""
        return self.table.values_at(self._column, self.places(rows))

    def texts(self, rows: RowBlock, encode: Encoder) -> Sequence[str]:
        """Return the keys as text."""
        return self.table.texts_at(self._column, self.places(rows), encode)


class Copied(PlainColumn):
    """Values of the rows that a reference refers to."""

    def __init__(self, reference: Reference, column: str) -> None:
        self._reference, self._name = reference, column

    def prepare(self) -> None:
        """Bind the reference, unless it is bound, and find the column."""
        bound = self.site.rows.bind(self._reference, self.site.name)
        assert isinstance(bound, Reference)  # noqa: S101, what binding a reference returns
        self._reference = bound
        self._column = bound.table.column(self._name, self.site)

    def values(self, rows: RowBlock) -> Sequence[Any]:
        """Return the values of a block."""
        reference = self._reference
        return reference.table.values_at(self._column, reference.places(rows))

    def texts(self, rows: RowBlock, encode: Encoder) -> Sequence[str]:
        """Return the values as text."""
        reference = self._reference
        return reference.table.texts_at(self._column, reference.places(rows), encode)


class Earlier(PlainColumn):
    """Keys of earlier rows of the same table."""

    def check(self) -> None:
        """Raise ConfigError if the table has no key."""
        self.site.rows.column(None, self.site)

    def values(self, rows: RowBlock) -> Sequence[Any]:
        """Return the keys that the rows of a block refer to."""
        table = self.site.rows
        numbers = integers(self.site.stream(rows.block), rows.count, 64)
        places = [row * number >> 64 for row, number in zip(rows.numbers, numbers, strict=True)]
        values = list(table.values_at(table.column(None, self.site), Places(places)))
        if rows.numbers.start == 0:
            values[0] = None
        return values

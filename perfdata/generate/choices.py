"""Choices among values, and nulls."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping
from fractions import Fraction
from functools import partial
from itertools import accumulate, chain, compress, repeat
from math import gcd
from typing import TYPE_CHECKING, Any, TypeVar

from perfdata.errors import ConfigError
from perfdata.generate.computed import Computed, as_column
from perfdata.generate.numbers import check_enough
from perfdata.generate.streams import Permutation
from perfdata.generate.tables import GeneratedColumn, NumberedColumn, PlainColumn

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from perfdata.generate.encoding import Encoder
    from perfdata.generate.tables import RowBlock

T = TypeVar("T")

# Up to this sum of weights, weighted choices are looked up; above it they are searched for.
_MOST_SLOTS = 1 << 16


def choice(values: Iterable[Any] | Mapping[Any, int], *, unique: bool = False) -> Choice:
    """Return a column of these values, evenly, or by the integer weights of a mapping.

    ``unique`` gives none of them twice. Values may be tuples, whose parts are columns that go
    together: with ``place = choice([("100", "Tokyo"), …])``, ``zip=place[0], city=place[1]``.
    """
    if isinstance(values, Mapping):
        if unique:
            raise ConfigError(
                "choice with unique=True takes no weights", remedy="Leave one of them out"
            )
        return Choice(list(values), list(values.values()))
    return UniqueChoice(list(values)) if unique else Choice(list(values))


def boolean(share: float = 0.5) -> Choice:
    """Return a column that is true in this share of the rows."""
    return yes_or_no(share)


def nullable(column: object, share: float) -> GeneratedColumn:
    """Return a column, or a function's values, with nulls in this share of the rows."""
    return Nullable(as_column(column), share)


def where(
    condition: str | Callable[..., bool],
    column: object,
    otherwise: object = None,
) -> GeneratedColumn:
    """Return a column's values where a condition is true, and another value, or null, elsewhere.

    ``condition`` names a boolean column of the row, or is a function. ``column`` may be a function
    too, which is called only where the condition is true, or a value.
    """
    return Where(condition, as_column(column), otherwise)


class Choice(PlainColumn):
    """One of several values, evenly or by integer weights."""

    def __init__(self, values: Sequence[Any], weights: Sequence[int] | None = None) -> None:
        self.pool, self._weights = values, weights
        self._encoded: dict[Encoder, list[str]] = {}

    def __getitem__(self, part: int) -> Choice:
        """Return the column of one part of the chosen tuples; all parts are of the same tuple."""
        return Part(self, part)

    def prepare(self) -> None:
        """Give each value places by its weight, or add them up; raise ConfigError if none."""
        self._encoded, self._slots, self._sums = {}, None, None
        weights = self._weights
        if weights is not None and any(not isinstance(w, int) or w < 0 for w in weights):
            raise self.site.error("a weight is not an integer from 0", "Use integers: 70, 20, 10")
        if not self.pool or (weights is not None and not sum(weights)):
            raise self.site.error("there is no value to choose", "Give it at least one value")
        self._limit = len(self.pool)
        if weights is None:
            return
        divisor = gcd(*weights)
        shares = [weight // divisor for weight in weights]
        self._limit = sum(shares)
        if self._limit <= _MOST_SLOTS:
            self._slots = list(chain.from_iterable(map(repeat, range(len(shares)), shares)))
        else:
            self._sums = list(accumulate(shares))

    def places(self, rows: RowBlock) -> Sequence[int]:
        """Return where in the pool each row's value is."""
        return rows.once((self, "places"), lambda: self._drawn(rows))

    def _drawn(self, rows: RowBlock) -> Sequence[int]:
        points = self.site.below(rows, self._limit)
        if self._slots is not None:
            return list(map(self._slots.__getitem__, points))
        if self._sums is not None:
            return list(map(partial(bisect_right, self._sums), points))
        return points

    def values(self, rows: RowBlock) -> Sequence[Any]:
        """Return the chosen values of a block."""
        return list(map(self.pool.__getitem__, self.places(rows)))

    def texts(self, rows: RowBlock, encode: Encoder) -> Sequence[str]:
        """Return the chosen values as text; each value of the pool is encoded once."""
        if encode not in self._encoded:
            self._encoded[encode] = encode(self.pool)
        return list(map(self._encoded[encode].__getitem__, self.places(rows)))


class UniqueChoice(Choice, NumberedColumn):
    """One of several values, no value twice."""

    def prepare(self) -> None:
        """Raise ConfigError if there are fewer values than rows."""
        super().prepare()
        self.pool = list(dict.fromkeys(self.pool))
        check_enough(self.site, len(self.pool), "there are {} unique values")
        self._permutation = Permutation(self.site.stream(""), len(self.pool))

    def at(self, rows: Sequence[int]) -> Sequence[Any]:
        """Return the values of these rows."""
        return list(map(self.pool.__getitem__, self._permutation.at(rows)))

    def _drawn(self, rows: RowBlock) -> Sequence[int]:
        return self._permutation.at(rows.numbers)


class Part(Choice):
    """One part of the tuples that another column chooses."""

    def __init__(self, whole: Choice, part: int) -> None:
        super().__init__(())
        self._whole, self._part = whole, part

    def prepare(self) -> None:
        """Take the part of every tuple of the pool."""
        whole = self.site.rows.bind(self._whole, self.site.name)
        assert isinstance(whole, Choice)  # noqa: S101, what binding a choice returns
        self._whole, self._encoded = whole, {}
        try:
            self.pool = [value[self._part] for value in whole.pool]
        except (TypeError, IndexError, KeyError) as error:
            raise self.site.error(
                f"a value of the pool has no part {self._part}: {error}", "Use a pool of tuples"
            ) from error

    def places(self, rows: RowBlock) -> Sequence[int]:
        """Return where in the pool each row's tuple is."""
        return self._whole.places(rows)


class Nullable(PlainColumn):
    """Another column with nulls."""

    def __init__(self, column: GeneratedColumn, share: float) -> None:
        self._column, self._share = column, share

    def prepare(self) -> None:
        """Bind the other column, and the choice of the rows that are null."""
        self._column = self.site.rows.bind(self._column, self.site.name)
        self._is_null = yes_or_no(self._share).bind(self.site.part("null"))

    def values(self, rows: RowBlock) -> Sequence[Any]:
        """Return the values of a block."""
        pairs = zip(rows.values(self._column), self._is_null.values(rows), strict=True)
        return [None if is_null else value for value, is_null in pairs]

    def texts(self, rows: RowBlock, encode: Encoder) -> Sequence[str]:
        """Return the values of a block as text."""
        null = encode([None])[0]
        pairs = zip(rows.texts(self._column, encode), self._is_null.values(rows), strict=True)
        return [null if is_null else text for text, is_null in pairs]


class Where(PlainColumn):
    """Another column where a condition is true."""

    def __init__(
        self, condition: str | Callable[..., bool], column: GeneratedColumn, otherwise: object
    ) -> None:
        self._condition, self._column, self._otherwise = condition, column, otherwise
        if isinstance(condition, str):
            self.inputs = [condition]

    def prepare(self) -> None:
        """Bind the other column, and the condition where it is a function."""
        self._column = self.site.rows.bind(self._column, self.site.name)
        self._computed: GeneratedColumn | None = None
        if not isinstance(self._condition, str):
            condition = Computed(self._condition)
            self._computed = self.site.rows.bind(condition, f"{self.site.name}\0condition")

    def _chosen(self, rows: RowBlock) -> Sequence[bool]:
        return rows.values(self._computed or self.site.rows.columns[self.inputs[0]])

    def values(self, rows: RowBlock) -> Sequence[Any]:
        """Return the values of a block."""
        chosen, column = self._chosen(rows), self._column
        if isinstance(column, Computed):
            values: Iterable[Any] = column.chosen_values(rows, chosen)
        else:
            values = compress(rows.values(column), chosen)
        return _merged(chosen, values, self._otherwise)

    def texts(self, rows: RowBlock, encode: Encoder) -> Sequence[str]:
        """Return the values of a block as text."""
        chosen, column = self._chosen(rows), self._column
        if isinstance(column, Computed):
            texts: Iterable[str] = encode(column.chosen_values(rows, chosen))
        else:
            texts = compress(rows.texts(column, encode), chosen)
        return _merged(chosen, texts, encode([self._otherwise])[0])


def _merged(chosen: Sequence[bool], values: Iterable[T], otherwise: T) -> list[T]:
    """Return the values where they are chosen, in their order, and the other one elsewhere."""
    following = iter(values)
    return [next(following) if each else otherwise for each in chosen]


def yes_or_no(share: float) -> Choice:
    """Return a choice of true, with this share, and false."""
    part = Fraction(str(share))  # its decimal digits: no rounding
    if not 0 <= part <= 1:
        raise ConfigError(f"the share {share} is not from 0 to 1", remedy="Use 0.2 for a fifth")
    return Choice([True, False], [part.numerator, part.denominator - part.numerator])

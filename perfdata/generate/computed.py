"""Constants, lists, and values computed from other columns of the row."""

from __future__ import annotations

import inspect
from difflib import get_close_matches
from itertools import compress
from typing import TYPE_CHECKING, Any

from perfdata.generate.numbers import check_enough
from perfdata.generate.tables import GeneratedColumn, NumberedColumn, PlainColumn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from perfdata.generate.encoding import Encoder
    from perfdata.generate.tables import GeneratedRows, RowBlock, Site


def listed(values: Iterable[Any]) -> GeneratedColumn:
    """Return a column with the first value in the first row, the second in the second."""
    return Listed(values)


def as_column(given: object) -> GeneratedColumn:
    """Return a column as it is, a function as a column computed by it, a value as a constant."""
    if isinstance(given, GeneratedColumn):
        return given
    if not callable(given):
        return Constant(given)
    return NumberedComputed(given) if _parameters(given) == ["row"] else Computed(given)


class Constant(PlainColumn, NumberedColumn):
    """The same value in every row."""

    is_key = False

    def __init__(self, value: object) -> None:
        self._value = value

    def at(self, rows: Sequence[int]) -> Sequence[Any]:
        """Return the value for each row."""
        return [self._value] * len(rows)

    def texts(self, rows: RowBlock, encode: Encoder) -> Sequence[str]:
        """Return the value's text for each row."""
        return encode([self._value]) * rows.count


class Listed(PlainColumn, NumberedColumn):
    """Row by row the values of a list."""

    def __init__(self, values: Iterable[object]) -> None:
        self._values = list(values)

    def prepare(self) -> None:
        """Raise ConfigError if there are fewer values than rows."""
        check_enough(self.site, len(self._values), "the list has {} values")

    def at(self, rows: Sequence[int]) -> Sequence[Any]:
        """Return the values of these rows."""
        return [self._values[row] for row in rows]


class Computed(PlainColumn):
    """What a function returns for the values of other columns, which its parameters name."""

    def __init__(self, function: Callable[..., object]) -> None:
        self._function = function

    def prepare(self) -> None:
        """Read the function's parameters; raise ConfigError if it has none."""
        self.inputs = _parameters(self._function)
        if not self.inputs:
            raise self.site.error(
                f"the function {getattr(self._function, '__name__', '')} has no parameters",
                "Name columns as its parameters, or row, the number of the row",
            )

    def values(self, rows: RowBlock) -> Sequence[Any]:
        """Return the function's values of a block."""
        return list(map(self._function, *inputs_of(self.site, self.inputs, rows)))

    def chosen_values(self, rows: RowBlock, chosen: Sequence[bool]) -> Sequence[Any]:
        """Return the function's values of the chosen rows of a block."""
        inputs = inputs_of(self.site, self.inputs, rows)
        return list(map(self._function, *(compress(values, chosen) for values in inputs)))


class NumberedComputed(Computed, NumberedColumn):
    """What a function returns for the number of the row."""

    def at(self, rows: Sequence[int]) -> Sequence[Any]:
        """Return the function's values of these rows."""
        return [self._function(row + 1) for row in rows]


def _parameters(function: Callable[..., object]) -> list[str]:
    """Return the names of a function's parameters; none of one in C without a signature."""
    try:
        return list(inspect.signature(function).parameters)
    except ValueError:
        return []


def inputs_of(site: Site, names: Iterable[str], rows: RowBlock) -> list[Sequence[Any]]:
    """Return the values of other columns of the row; ``row`` is its number, from 1."""
    columns = site.rows.columns
    return [
        rows.values(columns[name]) if name in columns else [row + 1 for row in rows.numbers]
        for name in names
    ]


def check_columns(rows: GeneratedRows) -> None:
    """Raise ConfigError for an input that is no column, or that needs the column itself."""
    columns = rows.columns
    needs: dict[str, list[str]] = {name: [] for name in columns}
    for column in rows.bound:
        column.check()
        for needed in column.inputs:
            if needed in columns:
                needs[column.site.column].append(needed)
            elif needed != "row":
                near = get_close_matches(needed, columns, 1) or sorted(columns)
                raise column.site.error(
                    f"it uses {needed}, which is no column of the table",
                    f"Use one of the columns, such as {near[0]}, or row, the number of the row",
                )
    for name in columns:
        if name in _needed(needs, name):
            raise columns[name].site.error(
                "it is computed from itself", "Compute it from columns that do not use it"
            )


def _needed(needs: Mapping[str, Sequence[str]], name: str) -> set[str]:
    """Return the columns that a column is computed from, directly or not."""
    found: set[str] = set()
    waiting = list(needs[name])
    while waiting:
        needed = waiting.pop()
        if needed not in found:
            found.add(needed)
            waiting += needs[needed]
    return found

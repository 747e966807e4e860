"""Readers: the values of a row, for one kind of row each, in the order of the COPY's columns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from perfdata.errors import LoadError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from perfdata.load.rows.fields import Field, Fields


class Reader(ABC):
    """Reads rows of one kind; ``chosen`` are the fields that its rows fill.

    These are the ``given`` ones, then those for which the model makes a value.
    """

    def __init__(self, fields: Fields, given: Sequence[Field]) -> None:
        self.fields = fields
        self._made = [field for field in fields.all if field.default and field not in given]
        self.chosen = [*given, *self._made]

    @abstractmethod
    def values(self, row: Any, number: int) -> list[Any]:
        """Return a row's values, one for each chosen field; ``number`` counts from 1.

        Raises LoadError or SchemaError for a row that does not fit.
        """

    def with_defaults(self, values: list[Any], number: int) -> list[Any]:
        """Add the values that the model makes to those that are given."""
        if self._made:
            named = dict(zip((field.name for field in self.chosen), values, strict=False))
            for field in self._made:
                named[field.name] = self.fields.missing(field, number, named)
                values.append(named[field.name])
        return values

    def unexpected(self, column: str, number: int) -> LoadError:
        """Make the error for a value of a column that the first row left out."""
        return LoadError(
            f"{self.fields.place(number, column)}: the row has a value for it, and the first row "
            "has none",
            remedy="All rows of a TableRows have the same columns: name them in columns=",
        )

    def wrong_kind(self, row: object, number: int, expected: str) -> LoadError:
        """Make the error for a row of another kind."""
        return LoadError(
            f"{self.fields.place(number)}: the row is a {type(row).__name__}, expected {expected}"
        )


class DictReader(Reader):
    """Reads dicts: all have the columns of the first one, or those of ``columns``."""

    def __init__(self, fields: Fields, columns: Iterable[str], first: Mapping[str, Any]) -> None:
        names = list(columns)
        given = {key: fields.named(key, None if names else 1) for key in names or first}
        if not names:  # parts whose dicts have another order have the same columns
            given = dict(sorted(given.items(), key=lambda item: fields.all.index(item[1])))
        self._keys = list(given)
        super().__init__(fields, list(given.values()))

    def values(self, row: Any, number: int) -> list[Any]:
        """Return a row's values, in the order of the chosen fields."""
        if not isinstance(row, Mapping):
            raise self.wrong_kind(row, number, "a dict, as the first one")
        try:
            values = [row[key] for key in self._keys]
        except KeyError:
            return self._incomplete(row, number)
        if len(row) != len(values):
            return self._incomplete(row, number)
        return self.with_defaults(values, number)

    def _incomplete(self, row: Mapping[str, Any], number: int) -> list[Any]:
        """Read a row whose keys are not those of the first one."""
        named = {self.fields.named(key, number).name: value for key, value in row.items()}
        for name in named:
            if name not in {field.name for field in self.chosen}:
                raise self.unexpected(name, number)
        for field in self.chosen:
            if field.name not in named:
                named[field.name] = self.fields.missing(field, number, named)
        return [named[field.name] for field in self.chosen]


class TupleReader(Reader):
    """Reads tuples or lists, whose columns are given."""

    def __init__(self, fields: Fields, columns: Sequence[str]) -> None:
        if not columns:
            raise LoadError(
                f"{fields.place(1)}: the row is a tuple, and columns= names no columns",
                remedy="Give columns=(…) in the order of the values, or dicts as rows",
            )
        self._width = len(columns)
        super().__init__(fields, [fields.named(name) for name in columns])

    def values(self, row: Any, number: int) -> list[Any]:
        """Return a row's values, in the order of the chosen fields."""
        if not isinstance(row, (tuple, list)):
            raise self.wrong_kind(row, number, "a tuple, as the first one")
        values = list(row)
        if len(values) != self._width:
            raise LoadError(
                f"{self.fields.place(number)}: expected {self._width} values, one for each of "
                f"columns=, received {len(values)}"
            )
        return self.with_defaults(values, number)

"""Text patterns and JSON, made of other columns."""

from __future__ import annotations

import json as json_format
from string import Formatter
from typing import TYPE_CHECKING, Any

from perfdata.generate.computed import as_column, inputs_of
from perfdata.generate.encoding import copy_texts, json_texts
from perfdata.generate.tables import GeneratedColumn, NumberedColumn, PlainColumn

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from perfdata.generate.encoding import Encoder
    from perfdata.generate.tables import RowBlock


def text(pattern: str) -> GeneratedColumn:
    """Return a column of texts such as ``"{first_name}.{row:04}@shop.test"``.

    In braces are columns of the row, or ``row``, its number from 1, with a format if wanted. A null
    makes the whole text null.
    """
    column = Text(pattern)
    return NumberedText(pattern) if set(column.inputs) <= {"row"} else column


def json(template: dict[str, Any] | list[Any]) -> GeneratedColumn:
    """Return a column of JSON: the template, with columns or functions in it where values vary."""
    return Json(template)


class Text(PlainColumn):
    """A text pattern, filled with other columns."""

    def __init__(self, pattern: str) -> None:
        self.inputs: list[str] = []
        self._given = pattern
        self._pattern = self._wrong = ""  # the pattern has its fields by position
        try:
            for literal, field, layout, conversion in Formatter().parse(pattern):
                self._pattern += literal.replace("{", "{{").replace("}", "}}")
                if field is not None:
                    self.inputs.append(field)
                    self._pattern += f"{{:{layout}}}"
                if conversion or "{" in (layout or ""):
                    self._wrong = "a field may have a format, but no conversion or field in it"
        except ValueError as error:
            self._wrong = str(error)

    def prepare(self) -> None:
        """Raise ConfigError for a pattern that can't be read."""
        if self._wrong:
            raise self.site.error(
                f"the pattern {self._given!r} can't be read: {self._wrong}",
                "Write fields as {column} or {row:05}, and braces as {{ and }}",
            )

    def values(self, rows: RowBlock) -> Sequence[Any]:
        """Return the texts of a block."""
        inputs = inputs_of(self.site, self.inputs, rows)
        full = self._pattern.format
        if not inputs:
            return [full()] * rows.count
        if any(None in values for values in inputs):
            return [None if None in row else full(*row) for row in zip(*inputs, strict=True)]
        return list(map(full, *inputs))


class NumberedText(Text, NumberedColumn):
    """A text pattern, filled with the number of the row."""

    def at(self, rows: Sequence[int]) -> Sequence[str]:
        """Return the texts of these rows."""
        full = self._pattern.format
        if len(self.inputs) == 1:
            return [full(row + 1) for row in rows]
        return [full(*[row + 1] * len(self.inputs)) for row in rows]


class Json(PlainColumn):
    """A JSON template: literal parts, and columns between them."""

    def __init__(self, template: object) -> None:
        self._template = template

    def prepare(self) -> None:
        """Divide the template into texts, and columns bound to their places in it."""
        self._parts = list(self._divided(self._template, ""))

    def _divided(self, value: object, path: str) -> Iterator[str | GeneratedColumn]:
        if isinstance(value, GeneratedColumn) or callable(value):
            value = as_column(value)
            yield self.site.rows.bind(value, f"{self.site.name}\0{path}")
        elif isinstance(value, dict):
            yield "{"
            for number, (key, part) in enumerate(value.items()):
                yield f"{', ' if number else ''}{json_format.dumps(key, ensure_ascii=False)}: "
                yield from self._divided(part, f"{path}.{key}")
            yield "}"
        elif isinstance(value, (list, tuple)):
            yield "["
            for number, part in enumerate(value):
                yield ", " if number else ""
                yield from self._divided(part, f"{path}.{number}")
            yield "]"
        else:
            yield json_texts([value])[0]

    def _documents(self, rows: RowBlock) -> list[str]:
        parts = [
            [part] * rows.count if isinstance(part, str) else part.texts(rows, json_texts)
            for part in _merged(self._parts)
        ]
        return list(map("".join, zip(*parts, strict=True)))

    def values(self, rows: RowBlock) -> Sequence[Any]:
        """Return the values of a block as Python objects."""
        return list(map(json_format.loads, self._documents(rows)))

    def texts(self, rows: RowBlock, encode: Encoder) -> Sequence[str]:
        """Return the documents of a block."""
        if encode is copy_texts:
            return copy_texts(self._documents(rows))
        return encode(rows.values(self))


def _merged(parts: Sequence[str | GeneratedColumn]) -> Iterator[str | GeneratedColumn]:
    """Yield the parts with texts that follow each other joined."""
    literal = ""
    for part in parts:
        if isinstance(part, str):
            literal += part
        else:
            yield literal
            literal = ""
            yield part
    yield literal

r"""Python values as COPY text and as JSON.

COPY separates values by tabs and rows by newlines; backslashes escape both, and ``\N`` is null.
https://www.postgresql.org/docs/current/sql-copy.html, "Text Format".
"""

from __future__ import annotations

import json
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING
from uuid import UUID

from perfdata.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    Encoder = Callable[[Sequence[object]], list[str]]

NULL = "\\N"
_ESCAPES = str.maketrans({"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"})


def copy_text(value: object) -> str:
    """Return a value as COPY text; a dict becomes JSON, a list an array."""
    encode = _ENCODERS.get(type(value))
    if encode is None:
        names = ", ".join(kind.__name__ for kind in _ENCODERS if kind is not type(None))
        raise ConfigError(
            f"{value!r} is a {type(value).__name__}, which has no COPY text here",
            remedy=f"Return one of: {names}, None",
        )
    return encode(value)


def copy_texts(values: Sequence[object]) -> list[str]:
    """Return values as COPY text; much faster for values of one type, and nulls."""
    kinds = set(map(type, values))
    if len(kinds) > 1 and type(None) in kinds:
        texts = iter(copy_texts([value for value in values if value is not None]))
        return [NULL if value is None else next(texts) for value in values]
    if kinds == {str}:
        return _escaped(values)  # type: ignore[arg-type]
    if kinds == {date}:  # a few days in many rows
        days = {day: str(day) for day in set(values)}
        return [days[day] for day in values]
    if kinds == {bool}:
        return ["t" if value else "f" for value in values]
    if kinds <= {int, Decimal, UUID}:  # str() is their text
        return list(map(str, values))
    return list(map(copy_text, values))


def json_texts(values: Sequence[object]) -> list[str]:
    """Return values as JSON; dates, UUIDs and decimals as strings."""
    return [json.dumps(value, ensure_ascii=False, default=str) for value in values]


def escape(text: str) -> str:
    """Escape a text for COPY."""
    return text.translate(_ESCAPES)


def _escaped(texts: Sequence[str]) -> list[str]:
    joined = "\n".join(texts)  # one search through all of them is faster than one in each
    if joined.count("\n") == len(texts) - 1 and not any(map(joined.__contains__, "\\\t\r")):
        return list(texts)
    return list(map(escape, texts))


def _array(values: Iterable[object]) -> str:
    return escape(_array_literal(values))


def _array_literal(values: Iterable[object]) -> str:
    """Return an array as PostgreSQL reads it: ``{1,2}``, ``{"a",NULL}``."""
    return "{" + ",".join(map(_element, values)) + "}"


def _element(value: object) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, (list, tuple)):
        return _array_literal(value)
    if isinstance(value, dict):
        value = json_texts([value])[0]
    if isinstance(value, str):
        quoted = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{quoted}"'
    return copy_text(value)


_ENCODERS: dict[type, Callable[[object], str]] = {
    type(None): lambda _: NULL,
    str: escape,  # type: ignore[dict-item]
    bool: lambda value: "t" if value else "f",
    int: str,
    float: repr,
    Decimal: str,
    date: str,
    datetime: str,
    time: str,
    timedelta: lambda value: f"{value.days} days {value.seconds}.{value.microseconds:06} seconds",  # type: ignore[attr-defined]
    UUID: str,
    bytes: lambda value: f"\\\\x{value.hex()}",  # type: ignore[attr-defined]
    dict: lambda value: escape(json_texts([value])[0]),
    list: _array,  # type: ignore[dict-item]
    tuple: _array,  # type: ignore[dict-item]
}

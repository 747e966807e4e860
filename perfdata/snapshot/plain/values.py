r"""JSON values as PostgreSQL reads them, in COPY's text format.

A value without a type of its own in JSON is text already (dates, UUIDs, enums). A list is an array
in a column of an array type, and JSON's text in any other column.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from perfdata.snapshot.plain.stream import Number

if TYPE_CHECKING:
    from collections.abc import Callable

    from perfdata.postgres.catalog import Column

    Convert = Callable[[Any], str]

_SPECIAL = re.compile(r"[\\\t\n\r]")
_ESCAPES = str.maketrans({"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"})
_NULL = r"\N"
_TRUE = (True, "true", "t", "1")


def converter(column: Column) -> Convert:
    """Return the function that turns a JSON value into COPY's text for a column."""
    text: Convert = _text
    if column.base.removesuffix("[]") in {"json", "jsonb"}:
        text = json_text
    if column.base.endswith("[]"):
        return lambda value: _copied(value, lambda array: _array_text(array, text))
    return lambda value: _copied(value, text)


def true_only(value: Any) -> str:
    """Return the text of the flag; raise ValueError for a value that is not true."""
    if value not in _TRUE:
        raise ValueError(f"the flag is {json.dumps(value)}; a snapshot has only rows with the flag")
    return "t"


def json_text(value: Any) -> str:
    """Return a value as JSON, with each number as it was written."""
    if isinstance(value, Number):
        return value
    if isinstance(value, dict):
        members = (f"{json_text(name)}: {json_text(part)}" for name, part in value.items())
        return "{" + ", ".join(members) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(json_text, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def _copied(value: Any, text: Convert) -> str:
    if value is None:
        return _NULL
    copied = text(value)
    return copied.translate(_ESCAPES) if _SPECIAL.search(copied) else copied


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json_text(value)


def _array_text(value: Any, text: Convert) -> str:
    """Return an array's text; what is no list may be the text of an array already."""
    if not isinstance(value, list):
        return _text(value)
    return "{" + ",".join(_element(part, text) for part in value) + "}"


def _element(value: Any, text: Convert) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, list) and text is not json_text:
        return _array_text(value, text)
    return '"' + text(value).replace("\\", "\\\\").replace('"', '\\"') + '"'

r"""COPY's text format: values between tabs, one row a line, ``\N`` for null.

https://www.postgresql.org/docs/current/sql-copy.html, "Text Format".
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from perfdata.dataset import TableRows

NULL = "\\N"
_ESCAPES = {
    "\\": "\\\\",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\v": "\\v",
}
_PLAIN = {escaped: plain for plain, escaped in _ESCAPES.items()}
_TO_ESCAPE = str.maketrans(_ESCAPES)
_ESCAPED = re.compile(r"\\.")


def escape(value: str) -> str:
    """Write a text as COPY wants it between tabs."""
    return value.translate(_TO_ESCAPE)


def unescape(field: str) -> str | None:
    r"""Read a field written by ``escape``; ``\N`` is None."""
    if field == NULL:
        return None
    if "\\" not in field:
        return field
    return _ESCAPED.sub(lambda match: _PLAIN[match.group()], field)


def read_rows(table: TableRows) -> Iterator[dict[str, str | None]]:
    """Read a table's blocks back: one dict a row, values as PostgreSQL would read their text."""
    for block in table.blocks:
        # Not splitlines: it also splits at separators that COPY leaves inside a value.
        for line in block.decode().removesuffix("\n").split("\n"):
            fields = map(unescape, line.split("\t"))
            yield dict(zip(table.columns, fields, strict=True))

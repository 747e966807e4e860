r"""Rows as JSON, and back as CSV: the query that writes them and the blocks that are read.

A row leaves the server as ``["a",null,"b"]``, made by array_to_json from each column's own text.
Without its brackets it is CSV whose quotes are escaped by backslashes, as long as no other JSON
escape than ``\"`` and ``\\`` stands in it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from psycopg import sql

from perfdata.database.link import OUT_DELIMITER, OUT_QUOTE, CopyFormat

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perfdata.database.catalog import Column, Table

JSON_CSV = CopyFormat("csv", quote='"', escape="\\", null="null")
# A row as it stands in a snapshot, into one column of text.
JSON_LINES = CopyFormat("csv", quote=OUT_QUOTE, delimiter=OUT_DELIMITER, null="")

_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|.)"
)
_OTHER_ESCAPE = re.compile(rb"\\[^\"\\]")
_SHORT = {
    b"\\n": b"\n", b"\\r": b"\r", b"\\t": b"\t", b"\\b": b"\b", b"\\f": b"\f", b"\\/": b"/",
    b'\\"': b'\\"', b"\\\\": b"\\\\",
}  # fmt: skip


def json_rows(
    table: Table, where: sql.Composable, columns: Sequence[str] | None = None
) -> sql.Composed:
    """Make the query for a table's rows, each as one JSON array of texts.

    ``columns`` are all stored ones unless they are named.
    """
    chosen = table.stored if columns is None else [table.column(name) for name in columns]
    values = sql.SQL(", ").join(_output(column) for column in chosen)
    return sql.SQL("SELECT array_to_json(ARRAY[{}]::text[]) FROM {} WHERE {}").format(
        values, table.only, where
    )


def _output(column: Column) -> sql.Composed:
    forms = {
        "cast": "{}::text",
        "bpchar": "textin(bpcharout({}))",
        "format": "CASE WHEN {0} IS NOT DISTINCT FROM NULL THEN NULL ELSE format('%s', {0}) END",
    }
    return sql.SQL(forms[column.output]).format(sql.Identifier(column.name))


def rows_to_csv(block: bytes) -> bytes:
    r"""Turn lines ``["a",null],`` into CSV lines ``"a",null``; every line ends with a newline."""
    body = block.rstrip(b",\n")
    csv = body[1:-1].replace(b"],\n[", b"\n") + b"\n"
    return unescape(csv)


def unescape(block: bytes) -> bytes:
    r"""Undo every JSON escape but ``\"`` and ``\\``, left to right in one pass."""
    if b"\\" not in block or not _OTHER_ESCAPE.search(block):
        return block
    return _ESCAPE.sub(_plain, block)


def _plain(match: re.Match[bytes]) -> bytes:
    escape = match[0]
    if short := _SHORT.get(escape):
        return short
    units = [int(digits, 16) for digits in escape.split(b"\\u")[1:]]
    text = b"".join(unit.to_bytes(2, "big") for unit in units).decode("utf-16-be")
    return text.replace("\\", "\\\\").replace('"', '\\"').encode()

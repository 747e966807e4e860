r"""COPY out as JSON rows, and back in as CSV: the two statements and the blocks between them.

A row leaves the server as ``["a",null,"b"]``, made by array_to_json from each column's own text.
Without its brackets it is CSV whose quotes are escaped by backslashes, as long as no other JSON
escape than ``\"`` and ``\\`` stands in it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from psycopg import sql

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from perfdata.database.catalog import Column, Table
    from perfdata.database.connection import Link

TEXT = sql.SQL("FORMAT text")
JSON_CSV = sql.SQL("FORMAT csv, QUOTE '\"', ESCAPE E'\\\\', NULL 'null'")

# JSON holds no control characters, so that a row passes COPY's csv as it is.
_OUT = "COPY ({}) TO STDOUT (FORMAT csv, QUOTE E'\\x01', DELIMITER E'\\x02')"
# Rows gathered into one block: one Python call a row costs more than the bytes do.
_BLOCK_BYTES = 1 << 18

_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|.)"
)
_OTHER_ESCAPE = re.compile(rb"\\[^\"\\]")
_SHORT = {
    b"\\n": b"\n", b"\\r": b"\r", b"\\t": b"\t", b"\\b": b"\b", b"\\f": b"\f", b"\\/": b"/",
    b'\\"': b'\\"', b"\\\\": b"\\\\",
}  # fmt: skip


def copy_out_query(table: Table, where: sql.Composable) -> sql.Composed:
    """Make the COPY that sends a table's rows, each as one JSON array of texts."""
    values = sql.SQL(", ").join(_output(column) for column in table.stored)
    select = sql.SQL("SELECT array_to_json(ARRAY[{}]::text[]) FROM {} WHERE {}").format(
        values, table.only, where
    )
    return sql.SQL(_OUT).format(select)


def _output(column: Column) -> sql.Composed:
    forms = {
        "cast": "{}::text",
        "bpchar": "textin(bpcharout({}))",
        "format": "CASE WHEN {0} IS NOT DISTINCT FROM NULL THEN NULL ELSE format('%s', {0}) END",
    }
    return sql.SQL(forms[column.output]).format(sql.Identifier(column.name))


def copy_out(link: Link, query: sql.Composed) -> Iterator[bytes]:
    """Yield blocks of whole lines, one row a line."""
    with link.cursor() as cursor, cursor.copy(query) as copy:
        lines: list[bytes] = []
        size = 0
        for line in copy:
            lines.append(bytes(line))
            size += len(line)
            if size >= _BLOCK_BYTES:
                yield b"".join(lines)
                lines, size = [], 0
        if lines:
            yield b"".join(lines)


def copy_in(
    link: Link,
    table: Table,
    columns: Sequence[str],
    blocks: Iterable[bytes],
    options: sql.Composable,
) -> int:
    """Send blocks of whole lines into a table in one COPY; return the number of rows."""
    names = sql.SQL(", ").join(map(sql.Identifier, columns))
    query = sql.SQL("COPY {} ({}) FROM STDIN ({})").format(table.identifier, names, options)
    if not columns:
        query = sql.SQL("COPY {} FROM STDIN ({})").format(table.identifier, options)
    with link.cursor() as cursor:
        with cursor.copy(query) as copy:
            for block in blocks:
                copy.write(block)
        return cursor.rowcount


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

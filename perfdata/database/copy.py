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
    from collections.abc import Iterator, Sequence

    from perfdata.database.catalog import Table

JSON_CSV = CopyFormat("csv", quote='"', escape="\\", null="null")
# A row as it stands in a snapshot, into one column of text.
JSON_LINES = CopyFormat("csv", quote=OUT_QUOTE, delimiter=OUT_DELIMITER, null="")

# Blocks of rows are of about this size: only one row alone can be longer.
PIECE_BYTES = 2 << 20

_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|.)"
)
# Whole characters, each escape (a pair of surrogates too) in one piece.
_CHARACTERS = re.compile(
    rb"(?:[^\\]++|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    rb"|\\u(?![dD][89a-fA-F])[0-9a-fA-F]{4}|\\[^u])*+"
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
    values = sql.SQL(", ").join(column.text() for column in chosen)
    return sql.SQL("SELECT array_to_json(ARRAY[{}]::text[]) FROM {} WHERE {}").format(
        values, table.only, where
    )


def rows_to_csv(block: bytes) -> bytes:
    r"""Turn lines ``["a",null],`` into CSV lines ``"a",null``; every line ends with a newline."""
    # One slice, and no copy more: a row may be of any size.
    end = len(block) - (3 if block.endswith(b"],\n") else 2)
    csv = block[1:end].replace(b"],\n[", b"\n")
    return unescape(csv + b"\n")


def csv_blocks(block: bytes) -> Iterator[bytes]:
    """Turn lines into CSV as rows_to_csv does; a row of megabytes comes in pieces.

    Pieces end between characters as JSON writes them, but not at the ends of lines.
    """
    if len(block) <= PIECE_BYTES or block.find(b"\n") < len(block) - 1:
        yield rows_to_csv(block)
        return
    at, end = 1, len(block) - (3 if block.endswith(b"],\n") else 2)
    while at < end:
        whole = _CHARACTERS.match(block, at, min(end, at + PIECE_BYTES))
        # What is no JSON stops the match: it goes as it is, and is refused where it is read.
        upto = whole.end() if whole and whole.end() > at else end
        yield unescape(block[at:upto])
        at = upto
    yield b"\n"


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

r"""COPY: its formats and statements, and rows converted from JSON to CSV.

The server sends a row as ``["a",null,"b"]``, made by array_to_json from the text of each column.
Without the brackets this is valid CSV with backslash as the escape character, provided that the
only JSON escapes in it are ``\"`` and ``\\``; all others have to be undone first.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, LiteralString

from psycopg import sql

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

# JSON contains no control characters, so with these COPY's csv format never quotes a row.
OUT_QUOTE, OUT_DELIMITER = "\x01", "\x02"
# Where a COPY into a table was when the server refused a row, in the error's context, such as
# COPY orders, line 2, column amount: "dear"
_PLACE = re.compile(r"^COPY .*?, line (\d+)(?:, column (.*?)(?::|$))?", re.MULTILINE)
# Rows are joined into blocks: a Python call per row costs more than handling its bytes.
BLOCK_BYTES = 1 << 18


@dataclass(frozen=True)
class CopyFormat:
    """The format of a COPY into a table; all options but ``name`` are for csv only."""

    name: LiteralString
    quote: LiteralString | None = None
    escape: LiteralString | None = None
    null: LiteralString | None = None
    delimiter: LiteralString | None = None

    @property
    def options(self) -> dict[LiteralString, str]:
        """The options that are set, by the names that COPY and asyncpg have for them."""
        options: dict[LiteralString, str | None] = {
            "quote": self.quote,
            "escape": self.escape,
            "null": self.null,
            "delimiter": self.delimiter,
        }
        return {name: value for name, value in options.items() if value is not None}


TEXT = CopyFormat("text")
BINARY = CopyFormat("binary")
# What a binary COPY begins with, before its rows, and ends with.
BINARY_HEADER, BINARY_TRAILER = b"PGCOPY\n\xff\r\n\0" + bytes(8), b"\xff\xff"
JSON_CSV = CopyFormat("csv", quote='"', escape="\\", null="null")
# A row as one line of JSON, as in a snapshot, into a single text column.
JSON_LINES = CopyFormat("csv", quote=OUT_QUOTE, delimiter=OUT_DELIMITER, null="")

# Blocks of rows have about this size, so a longer one is a single large row.
PIECE_BYTES = 2 << 20

_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|.)"
)
# A run of whole characters; an escape, or two for a pair of surrogates, is one character.
_CHARACTERS = re.compile(
    rb"(?:[^\\]++|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    rb"|\\u(?![dD][89a-fA-F])[0-9a-fA-F]{4}|\\[^u])*+"
)
_OTHER_ESCAPE = re.compile(rb"\\[^\"\\]")
_SHORT = {
    b"\\n": b"\n", b"\\r": b"\r", b"\\t": b"\t", b"\\b": b"\b", b"\\f": b"\f", b"\\/": b"/",
    b'\\"': b'\\"', b"\\\\": b"\\\\",
}  # fmt: skip


@dataclass(frozen=True)
class CopyIn:
    """A COPY into a table: its columns in order, the format, and whether to FREEZE the rows."""

    table: sql.Identifier
    columns: Sequence[str]
    copy_format: CopyFormat
    freeze: bool

    def statement(self) -> sql.Composed:
        """Make the statement; it names no columns if the table has none."""
        names = sql.SQL(", ").join(map(sql.Identifier, self.columns))
        listed = sql.SQL(" ({})").format(names) if self.columns else sql.SQL("")
        options: list[sql.Composable] = [
            sql.SQL("FORMAT {}").format(sql.SQL(self.copy_format.name))
        ]
        options += [
            sql.SQL("{} {}").format(sql.SQL(name), sql.Literal(value))
            for name, value in self.copy_format.options.items()
        ]
        if self.freeze:
            options.append(sql.SQL("FREEZE"))
        return sql.SQL("COPY {}{} FROM STDIN ({})").format(
            self.table, listed, sql.SQL(", ").join(options)
        )


def copy_out_statement(select: sql.Composed) -> sql.Composed:
    """Make the COPY statement that sends a query's only text column unquoted, one row per line."""
    return sql.SQL("COPY ({}) TO STDOUT (FORMAT csv, QUOTE E'\\x01', DELIMITER E'\\x02')").format(
        select
    )


def row_place(context: str) -> str:
    """Return the row, and the column, that a COPY error's context names; empty if it names none."""
    place = _PLACE.search(context)
    if place is None:
        return ""
    line, column = place.groups()
    return f"row {int(line):,}, column {column}" if column else f"row {int(line):,}"


class BlockWriter:
    """Joins what COPY sends into blocks of whole lines, and passes them to ``write``."""

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self._write = write
        self._pieces: list[bytes] = []
        self._size = 0

    def add(self, data: bytes) -> None:
        """Add one or more whole lines, or a part of a line."""
        if len(data) >= BLOCK_BYTES and self._pieces and self._pieces[-1].endswith(b"\n"):
            self.finish()  # joining would copy the large line
        self._pieces.append(data)
        self._size += len(data)
        if self._size >= BLOCK_BYTES and data.endswith(b"\n"):
            self.finish()

    def finish(self) -> None:
        """Write what is left."""
        if self._pieces:
            self._write(b"".join(self._pieces))
            self._pieces, self._size = [], 0


def rows_to_csv(block: bytes) -> bytes:
    r"""Convert lines ``["a",null],`` to CSV lines ``"a",null``, each ending with a newline."""
    # A row may be of any size, so it is sliced only once.
    end = len(block) - (3 if block.endswith(b"],\n") else 2)
    csv = block[1:end].replace(b"],\n[", b"\n")
    return unescape(csv + b"\n")


def csv_blocks(block: bytes) -> Iterator[bytes]:
    """Convert lines like rows_to_csv, but yield a row longer than PIECE_BYTES in pieces.

    Pieces end between JSON characters, not necessarily at the end of a line.
    """
    if len(block) <= PIECE_BYTES or block.find(b"\n") < len(block) - 1:
        yield rows_to_csv(block)
        return
    start, end = 1, len(block) - (3 if block.endswith(b"],\n") else 2)
    while start < end:
        piece = _CHARACTERS.match(block, start, min(end, start + PIECE_BYTES))
        # Invalid JSON ends the match: the rest is sent as it is, and the server reports the error.
        stop = piece.end() if piece and piece.end() > start else end
        yield unescape(block[start:stop])
        start = stop
    yield b"\n"


def unescape(block: bytes) -> bytes:
    r"""Undo all JSON escapes but ``\"`` and ``\\``, in one pass from left to right."""
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

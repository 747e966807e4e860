r"""Rows as JSON, and back as CSV: the query that writes them and the blocks that are read.

A row leaves the server as ``["a",null,"b"]``, made by array_to_json from each column's own text.
Without its brackets it is CSV whose quotes are escaped by backslashes, as long as no other JSON
escape than ``\"`` and ``\\`` stands in it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, LiteralString

from psycopg import sql

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

# JSON holds no control characters, so that a row passes COPY's csv as it is.
OUT_QUOTE, OUT_DELIMITER = "\x01", "\x02"
# Rows gathered into one block: one Python call a row costs more than the bytes do.
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


def copy_in_query(
    table: sql.Identifier, columns: Sequence[str], form: CopyFormat, *, freeze: bool
) -> sql.Composed:
    """Make the COPY statement into a table; no columns are named if the table has none."""
    names = sql.SQL(", ").join(map(sql.Identifier, columns))
    listed = sql.SQL(" ({})").format(names) if columns else sql.SQL("")
    options: list[sql.Composable] = [sql.SQL("FORMAT {}").format(sql.SQL(form.name))]
    options += [
        sql.SQL("{} {}").format(sql.SQL(name), sql.Literal(value))
        for name, value in form.options.items()
    ]
    if freeze:
        options.append(sql.SQL("FREEZE"))
    return sql.SQL("COPY {}{} FROM STDIN ({})").format(table, listed, sql.SQL(", ").join(options))


def copy_out_query(select: sql.Composed) -> sql.Composed:
    """Make the COPY that sends a query's one text column as it is, a row a line."""
    return sql.SQL("COPY ({}) TO STDOUT (FORMAT csv, QUOTE E'\\x01', DELIMITER E'\\x02')").format(
        select
    )


class Blocks:
    """Gathers what comes into blocks of whole lines."""

    def __init__(self, write: Callable[[bytes], None]) -> None:
        """Take what is given the blocks."""
        self._write = write
        self._pieces: list[bytes] = []
        self._size = 0

    def add(self, data: bytes) -> None:
        """Take what came: one or more whole lines, or a part of one."""
        if len(data) >= BLOCK_BYTES and self._pieces and self._pieces[-1].endswith(b"\n"):
            self.finish()  # so that a large line is not copied to be joined
        self._pieces.append(data)
        self._size += len(data)
        if self._size >= BLOCK_BYTES and data.endswith(b"\n"):
            self.finish()

    def finish(self) -> None:
        """Give away what is left."""
        if self._pieces:
            self._write(b"".join(self._pieces))
            self._pieces, self._size = [], 0


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

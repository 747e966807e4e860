r"""Python values as COPY text, adapted by psycopg as in its own COPY.

COPY's text format: values between tabs, one row a line, ``\N`` for null.
https://www.postgresql.org/docs/current/sql-copy.html, "Text Format".
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.adapt import AdaptersMap, Dumper, PyFormat, Transformer
from psycopg.types.json import Json, Jsonb, JsonbDumper

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from psycopg.abc import Buffer

    from perfdata.postgres.catalog import Column

# What psycopg, json and the column types of SQLAlchemy raise for a value that they can't write.
VALUE_ERRORS = (
    ArithmeticError,
    AttributeError,
    LookupError,
    TypeError,
    ValueError,
    psycopg.Error,
)

_JSON = {"json", "jsonb"}
_ESCAPES = {
    b"\\": b"\\\\",
    b"\b": b"\\b",
    b"\f": b"\\f",
    b"\n": b"\\n",
    b"\r": b"\\r",
    b"\t": b"\\t",
    b"\v": b"\\v",
}
_NULL = rb"\N"
_SPECIAL = re.compile(rb"[\\\b\f\n\r\t\v]")
_special = _SPECIAL.search


class _HexDumper(Dumper):
    """Writes bytes in hex: without a connection libpq would write its older, ambiguous form."""

    def dump(self, obj: Buffer) -> bytes:
        return b"\\x" + bytes(obj).hex().encode()


class _BinaryDumper(_HexDumper):
    """Writes psycopg's Binary, which SQLAlchemy makes of bytes."""

    def dump(self, obj: Any) -> bytes:
        return super().dump(obj.obj)


class TextRows:
    """Writes the rows of some columns as COPY text."""

    def __init__(self, width: int) -> None:
        adapters = AdaptersMap(psycopg.adapters)
        adapters.register_dumper(dict, JsonbDumper)
        for binary in (bytes, bytearray, memoryview):
            adapters.register_dumper(binary, _HexDumper)
        adapters.register_dumper(psycopg.Binary, _BinaryDumper)
        self._transformer = Transformer(adapters)
        self._formats = [PyFormat.TEXT] * width

    def line(self, values: Sequence[Any]) -> bytes:
        """Return a row as one line; raise one of VALUE_ERRORS for a value that can't be."""
        written = self._transformer.dump_sequence(values, self._formats)
        texts = [
            _NULL if text is None else _SPECIAL.sub(_escape, text) if _special(text) else text
            for text in written
        ]
        return b"\t".join(texts) + b"\n"

    def culprit(self, values: Sequence[Any]) -> int:
        """Return the index of the first value that can't be written."""
        return next(index for index, value in enumerate(values) if not self._writable(value))

    def _writable(self, value: Any) -> bool:
        try:
            self._transformer.dump_sequence([value], self._formats[:1])
        except VALUE_ERRORS:
            return False
        return True


def json_converter(column: Column) -> Callable[[Any], Any] | None:
    """Return what makes JSON of values in a json or jsonb column, whose lists are no arrays.

    A string is JSON text already, as in psycopg. None for columns of other types.
    """
    if column.base not in _JSON:
        return None
    wrap = Json if column.base == "json" else Jsonb

    def convert(value: Any) -> Any:
        return value if value is None or isinstance(value, (str, Json, Jsonb)) else wrap(value)

    return convert


def _escape(match: re.Match[bytes]) -> bytes:
    return _ESCAPES[match[0]]

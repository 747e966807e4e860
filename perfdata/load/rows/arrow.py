"""Arrow data as binary COPY, or as COPY text where the encoder lacks a type.

Takes whatever has ``__arrow_c_stream__``: tables and readers of pyarrow, frames of Polars and
pandas, relations of DuckDB. Types are compared with the catalog before the first row is read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa
import pyarrow.types as kinds
from pgpq import ArrowToPostgresBinaryEncoder
from pgpq.encoders import StringEncoderBuilder
from pgpq.schema import Jsonb

from perfdata.errors import LoadError, SchemaError
from perfdata.postgres.copy import BINARY_TRAILER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from perfdata.load.rows.fields import Fields, Numbers
    from perfdata.postgres.catalog import Column

    Test = Callable[[pa.DataType], bool]

# Rows that are encoded at once: some MB, so that memory stays flat whatever the batches are.
_SLICE_ROWS = 16_384
_UUID = pa.binary(16)
_SHOWN = 80  # characters of a value in an error


def _is_text(kind: pa.DataType) -> bool:
    return bool(kinds.is_string(kind) or kinds.is_large_string(kind) or kinds.is_string_view(kind))


def _is_bytes(kind: pa.DataType) -> bool:
    views = kinds.is_binary_view(kind) or kinds.is_fixed_size_binary(kind)
    return bool(views or kinds.is_binary(kind) or kinds.is_large_binary(kind))


def _is_number(kind: pa.DataType) -> bool:
    return bool(kinds.is_integer(kind) or kinds.is_floating(kind) or kinds.is_decimal(kind))


def _is_day(kind: pa.DataType) -> bool:
    return bool(kinds.is_date(kind) or kinds.is_timestamp(kind))


def _is_local(kind: pa.DataType) -> bool:
    return bool(kinds.is_date(kind) or (kinds.is_timestamp(kind) and kind.tz is None))


def _is_nested(kind: pa.DataType) -> bool:
    return bool(kinds.is_nested(kind))


class _Target(NamedTuple):
    """What a column's values are cast to before they are encoded, and from which types."""

    kind: pa.DataType
    accepts: Test


# By the column's base type. A cast is exact, or it is an error: 1.0 fits an integer, 1.5 does not.
_TARGETS = {
    "boolean": _Target(pa.bool_(), kinds.is_boolean),
    "smallint": _Target(pa.int16(), _is_number),
    "integer": _Target(pa.int32(), _is_number),
    "bigint": _Target(pa.int64(), _is_number),
    "real": _Target(pa.float32(), _is_number),
    "double precision": _Target(pa.float64(), _is_number),
    "numeric": _Target(pa.decimal128(38, 0), _is_number),
    "text": _Target(pa.string(), _is_text),
    "character varying": _Target(pa.string(), _is_text),
    "bpchar": _Target(pa.string(), _is_text),
    "json": _Target(pa.string(), lambda kind: _is_text(kind) or _is_nested(kind)),
    "jsonb": _Target(pa.string(), lambda kind: _is_text(kind) or _is_nested(kind)),
    "bytea": _Target(pa.binary(), _is_bytes),
    "uuid": _Target(_UUID, lambda kind: _is_text(kind) or _is_bytes(kind)),
    "date": _Target(pa.date32(), _is_local),
    "time without time zone": _Target(pa.time64("us"), kinds.is_time),
    "timestamp without time zone": _Target(pa.timestamp("us"), _is_local),
    "timestamp with time zone": _Target(pa.timestamp("us", "UTC"), _is_day),
    "interval": _Target(pa.duration("us"), kinds.is_duration),
}
# Elements of arrays whose binary form names the same type as the encoder does.
_ELEMENTS = {"boolean", "smallint", "integer", "bigint", "real", "double precision", "text", "date"}


class ArrowRows:
    """The rows of Arrow data: their columns, and blocks of binary COPY without header and trailer.

    ``binary`` tells whether the encoder has all the types; otherwise ``rows`` are for COPY text.
    Raises SchemaError for a column that the table lacks or whose type does not fit.
    """

    def __init__(self, data: Any, columns: Sequence[str], fields: Fields) -> None:
        if not hasattr(data, "__arrow_c_stream__"):
            raise LoadError(
                f"{fields.place()}: arrow= is a {type(data).__name__}, which has no "
                "__arrow_c_stream__",
                remedy="Give a table or frame of pyarrow, Polars, DuckDB or pandas 2.2 and later",
            )
        self._reader = pa.RecordBatchReader.from_stream(data)
        self._fields = fields
        schema = self._reader.schema
        self._names = list(columns) or schema.names
        if missing := [name for name in self._names if name not in schema.names]:
            raise SchemaError(
                f"{fields.place()}: the Arrow data has no column {', '.join(missing)}; it has "
                f"{', '.join(schema.names)}"
            )
        self._columns = [fields.named(name).column for name in self._names]
        self.columns = tuple(column.name for column in self._columns)
        targets = [
            self._target(column, _stored(schema.field(name).type))
            for column, name in zip(self._columns, self._names, strict=True)
        ]
        self._targets = [kind for kind in targets if kind is not None]
        self.binary = len(self._targets) == len(targets)

    def _target(self, column: Column, given: pa.DataType) -> pa.DataType | None:
        """Return what to cast a column to; None if it can be sent only as text."""
        place = self._fields.place(column=column.name)
        target, fits = _target_of(column, given)
        if target is not None and not _castable(given, target):
            target = None
        if not fits:
            raise SchemaError(
                f"{place}: its type is {column.type}, and the Arrow data has {given}",
                remedy="Cast the column in the frame",
            )
        if target is None:
            self._fields.origin.note(
                f"{self._fields.table.key}.{column.name}: Arrow's {given} can't be sent in binary "
                f"to {column.type}, so the rows of this table are sent as text, which is slower"
            )
        return target

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """Yield the rows as tuples of Python values."""
        for batch in self._batches():
            yield from zip(*(column.to_pylist() for column in batch), strict=True)

    def blocks(self, numbers: Numbers) -> Iterator[bytes]:
        """Yield the rows in binary; ``numbers`` counts those of the table.

        Raises LoadError for a value that does not fit its column.
        """
        schema = pa.schema(list(zip(self.columns, self._targets, strict=True)))
        encoders: dict[str, Any] = {
            field.name: ArrowToPostgresBinaryEncoder.infer_encoder(field) for field in schema
        }
        for column in self._columns:
            if column.base == "jsonb":
                field = schema.field(column.name)
                encoders[column.name] = StringEncoderBuilder.new_with_output(field, Jsonb())
        encoder = ArrowToPostgresBinaryEncoder.new_with_encoders(schema, encoders)
        encoder.write_header()  # the encoder expects it, and the table has one for all its parts
        for batch in self._batches():
            arrays = [self._cast(i, array, numbers.row) for i, array in enumerate(batch)]
            if block := encoder.write_batch(pa.RecordBatch.from_arrays(arrays, schema=schema)):
                yield block
            numbers.row += len(arrays[0]) if arrays else 0
        yield encoder.finish().removesuffix(BINARY_TRAILER)  # with the rows that it held back

    def _batches(self) -> Iterator[list[Any]]:
        """Yield the columns of slices of the data."""
        for batch in self._reader:
            for begin in range(0, batch.num_rows, _SLICE_ROWS):
                part = batch.slice(begin, _SLICE_ROWS)
                yield [_plain(part.column(name)) for name in self._names]

    def _cast(self, index: int, array: Any, before: int) -> Any:
        target = self._targets[index]
        try:
            return _exact_cast(array, target)
        except ValueError as error:
            row = next(n for n in range(len(array)) if not _fits(array.slice(n, 1), target))
            column = self._columns[index]
            place = self._fields.place(before + row + 1, column.name)
            shown = f"{array[row].as_py()!r:.{_SHOWN}}"
            raise LoadError(f"{place}: {shown} does not fit {column.type} ({error})") from error


def _target_of(column: Column, given: pa.DataType) -> tuple[pa.DataType | None, bool]:
    """Return what to cast to, None for text, and whether the types fit at all."""
    base = column.base
    if base.endswith("[]") and _is_nested(given):
        element = _TARGETS.get(base[:-2])
        inner = _stored(given.value_type) if _is_list(given) else None
        if inner is None or element is None or base[:-2] not in _ELEMENTS:
            return None, True
        fits = kinds.is_null(inner) or element.accepts(inner)
        return pa.list_(element.kind), fits
    target = _Target(pa.string(), _is_text) if column.labels else _TARGETS.get(base)
    if target is None:  # psycopg and the server decide
        return None, True
    if kinds.is_null(given):
        return target.kind, True
    if not target.accepts(given):
        return None, False
    return _exact(base, target.kind, given), True


def _exact(base: str, kind: pa.DataType, given: pa.DataType) -> pa.DataType | None:
    """Return what to cast to where that depends on the given type; None for text."""
    if base == "numeric":
        if kinds.is_integer(given):
            return pa.decimal128(20, 0)
        return given if kinds.is_decimal128(given) else None
    if base in {"json", "jsonb"} and not _is_text(given):
        return None
    if base in {"text", "character varying"} and _is_text(given):
        return given
    return kind


def _is_list(kind: pa.DataType) -> bool:
    lists = kinds.is_list(kind) or kinds.is_large_list(kind)
    return bool(lists or kinds.is_fixed_size_list(kind))


def _stored(kind: pa.DataType) -> pa.DataType:
    """Return the type of the values in a dictionary or an extension type."""
    if isinstance(kind, pa.BaseExtensionType):
        return _stored(kind.storage_type)
    return _stored(kind.value_type) if kinds.is_dictionary(kind) else kind


def _plain(array: Any) -> Any:
    """Return an array without a dictionary or an extension type."""
    if isinstance(array.type, pa.BaseExtensionType):
        return _plain(array.storage)
    if not kinds.is_dictionary(array.type):
        return array
    values = _plain(array.dictionary)
    if kinds.is_string_view(values.type):  # pyarrow can't take values of it
        values = values.cast(pa.string())
    return pa.DictionaryArray.from_arrays(array.indices, values).dictionary_decode()


def _exact_cast(array: Any, kind: pa.DataType) -> Any:
    """Cast an array; raise ArrowInvalid or another ValueError where a value would change."""
    if array.type == kind:
        return array
    if kind == _UUID and _is_text(array.type):
        texts = array.to_pylist()
        digits = [None if text is None else bytes.fromhex(text.replace("-", "")) for text in texts]
        return pa.array(digits, kind)
    cast = array.cast(kind)
    dropped = kinds.is_timestamp(array.type) and kinds.is_date(kind)  # the time of day
    if dropped and not cast.cast(array.type).equals(array):
        raise pa.ArrowInvalid("it has a time of day")
    return cast


def _fits(array: Any, kind: pa.DataType) -> bool:
    try:
        _exact_cast(array, kind)
    except ValueError:
        return False
    return True


def _castable(given: pa.DataType, kind: pa.DataType) -> bool:
    try:
        _exact_cast(pa.array([], given), kind)
    except pa.ArrowNotImplementedError:
        return False
    return True

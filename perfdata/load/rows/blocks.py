"""Python rows as blocks of COPY text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from perfdata.errors import ConfigError, LoadError
from perfdata.load.rows.fields import MISSING, table_fields
from perfdata.load.rows.readers import DictReader, Reader, TupleReader
from perfdata.load.rows.values import VALUE_ERRORS, TextRows
from perfdata.postgres.copy import BLOCK_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from perfdata.dataset import TableRows
    from perfdata.load.rows.arrow import ArrowRows
    from perfdata.load.rows.fields import Fields, Numbers, Origin
    from perfdata.postgres.catalog import Table

_SHOWN = 80  # characters of a value in an error


def reader_for(
    given: TableRows, first: object, table: Table, origin: Origin, numbers: Numbers
) -> Reader:
    """Return the reader for rows such as the first one; raise LoadError if there is none."""
    instance = hasattr(first, "_sa_instance_state")
    model = type(first) if instance and given.model is None else given.model
    if model is None:
        fields = table_fields(table, origin)
    else:
        from perfdata.load.rows.models import model_fields

        fields = model_fields(model, table, origin)
    if instance:
        from perfdata.load.rows.instances import InstanceReader

        return InstanceReader(fields, given.columns, first, numbers)
    if isinstance(first, Mapping):
        return DictReader(fields, given.columns, first)
    if isinstance(first, (tuple, list)):
        return TupleReader(fields, given.columns)
    raise LoadError(
        f"{fields.place(1)}: the row is a {type(first).__name__}, expected a dict, a tuple or an "
        "instance of a SQLAlchemy model",
        remedy="Give a dict, such as dataclasses.asdict or model_dump makes",
    )


def open_arrow(given: TableRows, fields: Fields) -> ArrowRows:
    """Return the rows of Arrow data; raise ConfigError without the extra ``arrow``."""
    try:
        from perfdata.load.rows.arrow import ArrowRows
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"{fields.place()}: arrow= needs {error.name}, which is not installed",
            remedy="Install perfdata[arrow]",
        ) from error
    return ArrowRows(given.arrow, given.columns, fields)


def row_blocks(reader: Reader, rows: Iterable[object], numbers: Numbers) -> Iterator[bytes]:
    """Yield rows as blocks of COPY text; ``numbers`` counts those of the table.

    Raises LoadError for a row or a value that does not fit.
    """
    writer = _Writer(reader)
    lines: list[bytes] = []
    size = 0
    for row in rows:
        numbers.row += 1
        lines.append(writer.line(row, numbers.row))
        size += len(lines[-1])
        if size >= BLOCK_BYTES:
            yield b"".join(lines)
            lines, size = [], 0
    if lines:
        yield b"".join(lines)


class _Writer:
    """Writes rows as lines; its errors name the row, the column and the value."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._columns = [field.name for field in reader.chosen]
        self._text = TextRows(len(self._columns))
        self._converters = [
            (index, field.convert)
            for index, field in enumerate(reader.chosen)
            if field.convert is not None
        ]

    def line(self, row: object, number: int) -> bytes:
        values = self._reader.values(row, number)
        for index, convert in self._converters:
            value = values[index]
            try:
                values[index] = None if value is MISSING else convert(value)
            except VALUE_ERRORS as error:
                raise self._error(number, index, value, error) from error
        try:
            return self._text.line(values)
        except VALUE_ERRORS as error:
            index = self._text.culprit(values)
            raise self._error(number, index, values[index], error) from error

    def _error(self, number: int, index: int, value: Any, error: Exception) -> LoadError:
        shown = repr(value)
        shown = shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}…"
        where = self._reader.fields.place(number, self._columns[index])
        return LoadError(f"{where}: {shown} can't be written ({error})")

"""Parts: the TableRows that a dataset yields, joined to one COPY a table."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from perfdata.dataset import TableRows
from perfdata.errors import LoadError, ProjectCodeError
from perfdata.generate.tables import GeneratedTable
from perfdata.load.plan import TableLoad
from perfdata.load.rows.blocks import open_arrow, reader_for, row_blocks
from perfdata.load.rows.fields import Numbers, table_fields
from perfdata.load.rows.readers import TupleReader
from perfdata.postgres.copy import BINARY, BINARY_HEADER, BINARY_TRAILER, TEXT

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from perfdata.load.rows.fields import Origin
    from perfdata.postgres.catalog import Catalog, Table
    from perfdata.postgres.copy import CopyFormat


@dataclass(frozen=True)
class _Part:
    """A TableRows as blocks for COPY."""

    columns: tuple[str, ...]
    copy_format: CopyFormat
    blocks: Iterable[bytes]


class Parts:
    """The TableRows of a dataset, read in order.

    With ``divided``, a table whose parts are all of perfdata.generate comes with these (see
    TableLoad).
    """

    def __init__(
        self, items: Iterable[object], catalog: Catalog, origin: Origin, *, divided: bool = False
    ) -> None:
        self._items = iter(items)
        self._divided = divided
        self._next: object = None
        self._catalog = catalog
        self._origin = origin

    def loads(self, *, again: bool = False) -> Iterator[TableLoad]:
        """Yield the rows of each table; read the blocks of each before the next.

        Raises ProjectCodeError for what is not TableRows, LoadError for rows that don't fit, and,
        unless ``again``, for a table whose rows come after those of another table.
        """
        self._next = next(self._items, None)
        done: set[str] = set()
        while self._next is not None:
            table = self._catalog.table(self._given().table)
            if table.key in done and not again:
                raise LoadError(
                    f"{self._origin.name}: rows of {table.key} come a second time, after those of "
                    "another table",
                    remedy="Yield all rows of a table consecutively",
                )
            done.add(table.key)
            if self._divided and (generated := self._generated(table)):
                rows = [part.blocks for part in generated]
                columns, every = generated[0].columns, itertools.chain.from_iterable(rows)
                yield TableLoad(table, columns, every, TEXT, self._origin.name, parts=rows)
                continue
            numbers = Numbers()
            parts = self._consecutive(table, numbers)
            first = next(parts, _Part((), TEXT, ()))
            blocks = self._joined(first, parts, table)
            yield TableLoad(
                table,
                first.columns,
                blocks,
                first.copy_format,
                self._origin.name,
                numbers.read if first.copy_format is BINARY else None,
            )
            for _ in blocks:
                pass
        self._check_links(done)

    def _check_links(self, tables: Collection[str]) -> None:
        """Raise LoadError if many-to-many links of instances would be lost."""
        for table, relation in self._origin.links.items():
            if table not in tables:
                raise LoadError(
                    f"{self._origin.name}: instances have {relation}, and no rows of {table} came",
                    remedy=f"Yield TableRows of {table} after both sides, with the keys that the "
                    "instances have then",
                )

    def _given(self) -> TableRows:
        if not isinstance(self._next, TableRows):
            raise ProjectCodeError(
                f"{self._origin.name} yields a {type(self._next).__name__}, not TableRows"
            )
        return self._next

    def _generated(self, table: Table) -> list[GeneratedTable]:
        """Return the parts of a table if all are generated and alike; else nothing is consumed."""
        parts: list[GeneratedTable] = []
        while isinstance(self._next, GeneratedTable) and self._next.table == table.key:
            parts.append(self._next)
            self._next = next(self._items, None)
        mixed = isinstance(self._next, TableRows) and self._next.table == table.key
        if parts and (mixed or len({part.columns for part in parts}) > 1):
            self._items = itertools.chain(parts[1:], [self._next], self._items)
            self._next, parts = parts[0], []
        return parts

    def _consecutive(self, table: Table, numbers: Numbers) -> Iterator[_Part]:
        """Yield the parts of a table that have rows, up to the first TableRows of another."""
        while self._next is not None and self._given().table == table.key:
            part = self._opened(self._given(), table, numbers)
            if part is not None:
                yield part
            self._next = next(self._items, None)

    def _opened(self, given: TableRows, table: Table, numbers: Numbers) -> _Part | None:
        if given.arrow is not None:
            return self._arrow(given, table, numbers)
        if given.rows is None:
            self._check_columns(given, table)
            return _Part(given.columns, TEXT, self._text(given))
        rows = iter(given.rows)
        for first in rows:
            reader = reader_for(given, first, table, self._origin, numbers)
            columns = tuple(field.name for field in reader.chosen)
            return _Part(columns, TEXT, row_blocks(reader, itertools.chain([first], rows), numbers))
        return None

    def _check_columns(self, given: TableRows, table: Table) -> None:
        """Raise SchemaError for a column that the table does not have."""
        if table.columns:  # without a database the columns are not known
            fields = table_fields(table, self._origin)
            for name in given.columns:
                fields.named(name)

    def _arrow(self, given: TableRows, table: Table, numbers: Numbers) -> _Part:
        fields = table_fields(table, self._origin)
        arrow = open_arrow(given, fields)
        if arrow.binary:
            return _Part(arrow.columns, BINARY, arrow.blocks(numbers))
        blocks = row_blocks(TupleReader(fields, arrow.columns), arrow.rows(), numbers)
        return _Part(arrow.columns, TEXT, blocks)

    def _text(self, given: TableRows) -> Iterator[bytes]:
        """Yield blocks of COPY text; raise ProjectCodeError for one that is not bytes."""
        for block in given.blocks:
            if not isinstance(block, (bytes, bytearray, memoryview)):
                raise ProjectCodeError(
                    f"{self._origin.name} yields a {type(block).__name__} as a block of "
                    f"{given.table}, not bytes",
                    remedy="Encode it: COPY text in UTF-8; or give Python values as rows=",
                )
            yield bytes(block)

    def _joined(self, first: _Part, others: Iterator[_Part], table: Table) -> Iterator[bytes]:
        """Yield the blocks of a table's parts; raise LoadError for one with other columns."""
        if first.copy_format is BINARY:
            yield BINARY_HEADER
        yield from first.blocks
        for part in others:
            if part.columns != first.columns:
                raise LoadError(
                    f"{self._origin.name}: a part of {table.key} has the columns "
                    f"{', '.join(part.columns)}, and the first one has {', '.join(first.columns)}",
                    remedy="Give all parts the same columns in the same order: name them in "
                    "columns=",
                )
            if part.copy_format is not first.copy_format:
                raise LoadError(
                    f"{self._origin.name}: the parts of {table.key} are partly binary, partly text",
                    remedy="Give all of them as arrow= with the same types, or none",
                )
            yield from part.blocks
        if first.copy_format is BINARY:
            yield BINARY_TRAILER

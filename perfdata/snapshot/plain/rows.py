"""The rows of a plain document as the loader takes them, fitted to a database's tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from perfdata.errors import SchemaError, SnapshotDamagedError
from perfdata.load.plan import TableLoad
from perfdata.postgres.copy import BLOCK_BYTES, TEXT
from perfdata.snapshot.plain.values import converter, true_only
from perfdata.text import join_first

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from perfdata.load.plan import Plan
    from perfdata.postgres.catalog import Catalog, Table
    from perfdata.postgres.link import Link
    from perfdata.snapshot.plain.document import PlainDocument, TableOfDocument
    from perfdata.snapshot.plain.values import Convert


@dataclass(frozen=True)
class FittedTable:
    """How a document's table goes into the database's.

    ``converters`` are those of the document's columns in its order, None for a generated column,
    which the server fills. With ``adds_flag`` the flag is added to each row.
    """

    columns: tuple[str, ...]
    converters: tuple[Convert | None, ...]
    defaults: tuple[str, ...]
    adds_flag: bool

    def line(self, row: Sequence[Any]) -> bytes:
        """Return a row as a line of COPY's text; ValueError for a value that can't be text."""
        values = [
            convert(value)
            for convert, value in zip(self.converters, row, strict=True)
            if convert is not None
        ]
        if self.adds_flag:
            values.append("t")
        return ("\t".join(values) + "\n").encode()


@dataclass(frozen=True)
class PlainRows:
    """The rows of a document, as a RowSource for an empty database."""

    document: PlainDocument
    fitted: Mapping[str, FittedTable]
    statistics: None = None

    @property
    def counts(self) -> dict[str, int]:
        """The number of rows by table."""
        return {key: table.rows for key, table in self.document.tables.items()}

    @property
    def notes(self) -> tuple[str, ...]:
        """The columns that the document lacks, by table."""
        return tuple(
            f"{key}: not in the file, so these columns took their defaults: "
            f"{', '.join(table.defaults)}"
            for key, table in self.fitted.items()
            if table.defaults
        )

    def check(self, link: Link, plan: Plan) -> None:
        """Check nothing: no row of the database stays."""

    def tables(self, catalog: Catalog, keys: Collection[str] | None = None) -> Iterator[TableLoad]:
        """Yield the tables in the order of the document, or those whose keys are given."""
        for table in self.document.rows():
            if table.key not in self.fitted:
                raise SnapshotDamagedError(f"{self.document.path} was replaced while it was read")
            if keys is None or table.key in keys:
                fitted = self.fitted[table.key]
                blocks = self._blocks(table, fitted)
                yield TableLoad(catalog.table(table.key), fitted.columns, blocks, TEXT)
            else:
                for _ in table.rows:
                    pass

    def _blocks(self, table: TableOfDocument, fitted: FittedTable) -> Iterator[bytes]:
        block = bytearray()
        for number, row in enumerate(table.rows, 1):
            try:
                block += fitted.line(row)
            except (ValueError, RecursionError) as error:
                raise SnapshotDamagedError(
                    f"{self.document.path} can't be imported: {table.key}, row {number}: {error}"
                ) from error
            if len(block) >= BLOCK_BYTES:
                yield bytes(block)
                block.clear()
        yield bytes(block)


def fit(document: PlainDocument, catalog: Catalog, flag: str) -> PlainRows:
    """Fit a document to a database's tables; SchemaError names all that does not fit."""
    problems: list[str] = []
    fitted = {}
    for key, found in document.tables.items():
        table = catalog.by_key.get(key)
        if table is None:
            problems.append(f"there is no table {key}")
            continue
        columns = found.columns or tuple(column.name for column in table.stored)
        problems += _problems(table, columns, flag)
        fitted[key] = _fitted(table, columns, flag)
    if problems:
        raise SchemaError(
            f"{document.path} does not fit the database's tables: {join_first(problems, 10)}",
            remedy="Check out the migrations that it was made with and import it; then check out "
            "the present ones and run snapshot.upgrade",
        )
    return PlainRows(document, fitted)


def _problems(table: Table, columns: Collection[str], flag: str) -> Iterator[str]:
    names = {column.name for column in table.columns}
    yield from (f"{table.key} has no column {name}" for name in columns if name not in names)
    for column in table.stored:
        needed = column.not_null and not column.has_default and column.name != flag
        if needed and column.name not in columns:
            yield f"{table.key}.{column.name} is not null, and the file has no values for it"


def _fitted(table: Table, columns: Collection[str], flag: str) -> FittedTable:
    stored = {column.name: converter(column) for column in table.stored}
    missing = [name for name in stored if name not in columns]
    has_flag = table.has_flag(flag)
    if has_flag:
        stored[flag] = true_only
    return FittedTable(
        columns=(
            *(name for name in columns if name in stored),
            *(name for name in missing if has_flag and name == flag),
        ),
        converters=tuple(stored.get(name) for name in columns),
        defaults=tuple(name for name in missing if not (has_flag and name == flag)),
        adds_flag=has_flag and flag in missing,
    )

"""Tables: rows that are generated a block and a column at a time."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Self, TypeVar

from perfdata.dataset import TableRows
from perfdata.errors import ConfigError
from perfdata.generate.encoding import copy_texts
from perfdata.generate.streams import BLOCK_ROWS, below

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from perfdata.dataset import Dataset
    from perfdata.generate.encoding import Encoder
    from perfdata.generate.places import Places

T = TypeVar("T")

# About 250 kB a piece for rows of usual width: larger ones load no faster.
_PIECE_ROWS = 1024
# Blocks of a table that others refer to: 131,072 rows stay at hand.
_KEPT_BLOCKS = 32


class GeneratedColumn:
    """A description of generated values, which each table that uses it binds to a column.

    One object used for several columns of a table gives them the same values.
    """

    site: Site
    inputs: Sequence[str] = ()  # other columns of the row that it is computed from
    is_key = False  # whether references take it where a table has no id
    plain = False  # str() of each value is its COPY text

    def bind(self, site: Site) -> GeneratedColumn:
        """Return the column at its place in a table; raise ConfigError for what cannot be."""
        raise NotImplementedError

    def check(self) -> None:
        """Raise ConfigError for what cannot be, once all columns of the table are bound."""

    def values(self, rows: RowBlock) -> Sequence[Any]:
        """Return the values of a block's rows."""
        raise NotImplementedError

    def texts(self, rows: RowBlock, encode: Encoder) -> Sequence[str]:
        """Return the values of a block's rows as text."""
        return self.as_texts(rows.values(self), encode)

    def as_texts(self, values: Sequence[Any], encode: Encoder) -> Sequence[str]:
        """Return values of the column as text."""
        if self.plain and encode is copy_texts:
            return list(map(str, values))
        return encode(values)


class NumberedColumn(GeneratedColumn):
    """A column whose value follows from the number of the row: references need no other."""

    is_key = True

    def at(self, rows: Sequence[int]) -> Sequence[Any]:
        """Return the values of these rows, which are counted from 0."""
        raise NotImplementedError

    def values(self, rows: RowBlock) -> Sequence[Any]:
        """Return the values of a block's rows."""
        return self.at(rows.numbers)


class PlainColumn(GeneratedColumn):
    """A column that is its own description: binding copies it."""

    def bind(self, site: Site) -> Self:
        """Return the column at its place."""
        bound = copy.copy(self)
        bound.site = site
        bound.prepare()
        return bound

    def prepare(self) -> None:
        """Compute what all blocks need; raise ConfigError for what cannot be."""


@dataclass(frozen=True)
class Site:
    """Where a column is: the rows of its table, and its name there."""

    rows: GeneratedRows
    name: str

    @property
    def column(self) -> str:
        """The column of the table that this is, or is a part of."""
        return self.name.partition("\0")[0]

    def stream(self, block: object) -> str:
        """Return the name of the column's stream for a block."""
        rows = self.rows
        return f"{rows.dataset.seed}\0{rows.stream}\0{self.name}\0{block}"

    def below(self, rows: RowBlock, limit: int) -> list[int]:
        """Draw an integer from 0 to ``limit`` - 1 for each row of a block."""
        return below(self.stream(rows.block), rows.count, limit)

    def part(self, name: str) -> Site:
        """Return the place of a column inside of this one."""
        return Site(self.rows, f"{self.name}\0{name}")

    def error(self, reason: str, remedy: str) -> ConfigError:
        """Return an error that names dataset, table and column."""
        return self.rows.error(f"column {self.column}: {reason}", remedy)


class RowBlock:
    """Consecutive rows of a table; each of their columns is computed once."""

    def __init__(self, rows: GeneratedRows, block: int) -> None:
        first = block * BLOCK_ROWS
        self.rows = rows
        self.block = block
        self.numbers = range(first, min(first + BLOCK_ROWS, rows.count))
        self.count = len(self.numbers)
        self._computed: dict[object, Any] = {}

    def values(self, column: GeneratedColumn) -> Sequence[Any]:
        """Return the values of a column."""
        return self.once(column, lambda: column.values(self))

    def texts(self, column: GeneratedColumn, encode: Encoder) -> Sequence[str]:
        """Return the values of a column as text."""
        return self.once((column, encode), lambda: column.texts(self, encode))

    def kinds(self, column: GeneratedColumn) -> set[type]:
        """Return the types of the values of a column."""
        return self.once((column, "kinds"), lambda: set(map(type, self.values(column))))

    def once(self, key: object, compute: Callable[[], T]) -> T:
        """Return what ``compute`` returns, computed once for this block."""
        if key not in self._computed:
            self._computed[key] = compute()
        found: T = self._computed[key]
        return found


class GeneratedRows:
    """The rows of a table as blocks of COPY text, any of which can be generated alone."""

    def __init__(self, dataset: Dataset, table: str, stream: str) -> None:
        self.dataset = dataset
        self.table = table
        self.stream = stream
        self.count = 0
        self.children: object = None  # which rows belong to which parent, for a table of per()
        self.columns: dict[str, GeneratedColumn] = {}
        self._bound: dict[GeneratedColumn, GeneratedColumn] = {}
        self._kept = lru_cache(_KEPT_BLOCKS)(self.row_block)

    def __iter__(self) -> Iterator[bytes]:
        """Yield the rows in pieces of 1,024."""
        for block in range(self.block_count):
            lines = self.lines(block)
            for first in range(0, len(lines), _PIECE_ROWS):
                yield _joined(lines[first : first + _PIECE_ROWS])

    @property
    def block_count(self) -> int:
        """The number of blocks."""
        return -(-self.count // BLOCK_ROWS)

    def block(self, number: int) -> bytes:
        """Return one block, counted from 0: the same bytes in any order and in any process."""
        return _joined(self.lines(number))

    def lines(self, block: int) -> list[str]:
        """Return the lines of one block."""
        rows = self.row_block(block)
        texts = [self._texts(name, rows) for name in self.loaded]
        return list(map("\t".join, zip(*texts, strict=True)))

    def _texts(self, name: str, rows: RowBlock) -> Sequence[str]:
        try:
            return rows.texts(self.columns[name], copy_texts)
        except ConfigError as error:
            raise Site(self, name).error(error.reason, error.remedy or "") from error

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield the rows as dicts of Python values, to look at and to test."""
        for block in range(self.block_count):
            rows = self.row_block(block)
            values = [rows.values(self.columns[name]) for name in self.loaded]
            for row in zip(*values, strict=True):
                yield dict(zip(self.loaded, row, strict=True))

    @property
    def loaded(self) -> tuple[str, ...]:
        """The columns that are loaded: those whose name does not begin with an underscore."""
        return tuple(name for name in self.columns if not name.startswith("_"))

    def row_block(self, block: int) -> RowBlock:
        """Return the rows of a block, none of whose columns is computed yet."""
        return RowBlock(self, block)

    def bind(self, column: GeneratedColumn, name: str) -> GeneratedColumn:
        """Bind a column to a name; one that has a place in this table keeps it."""
        if column not in self._bound:
            self._bound[column] = column.bind(Site(self, name))
        return self._bound[column]

    @property
    def bound(self) -> Sequence[GeneratedColumn]:
        """All columns that are bound, those inside of others included."""
        return list(self._bound.values())

    def column(self, name: str | None, site: Site) -> GeneratedColumn:
        """Return a column that ``site`` refers to: ``id``, or the first of keys, if not named."""
        if name is None:
            keys = (key for key, each in self.columns.items() if each.is_key)
            name = "id" if "id" in self.columns else next(keys, None)
        if name is None or name not in self.columns:
            raise site.error(
                f"table {self.table} has no column {name or 'of keys'}",
                f"Name one of its columns: {', '.join(self.columns)}",
            )
        return self.columns[name]

    def values_at(self, column: GeneratedColumn, places: Places) -> Sequence[Any]:
        """Return a column's values in any rows of this table."""
        if isinstance(column, NumberedColumn):
            return places.values_of(column.at)
        return self._at_blocks(lambda rows: rows.values(column), places)

    def texts_at(self, column: GeneratedColumn, places: Places, encode: Encoder) -> Sequence[str]:
        """Return a column's values in any rows of this table as text."""
        if isinstance(column, NumberedColumn):
            return places.values_of(lambda rows: column.as_texts(column.at(rows), encode))
        return self._at_blocks(lambda rows: rows.texts(column, encode), places)

    def _at_blocks(self, read: Callable[[RowBlock], Sequence[T]], places: Places) -> Sequence[T]:
        """Return values at any rows, from the blocks that they are in."""
        if not places.rows:
            return []
        block = places.least // BLOCK_ROWS
        if block == places.most // BLOCK_ROWS:
            values, first = read(self._kept(block)), block * BLOCK_ROWS
            return [values[row - first] for row in places.rows]
        blocks = {row // BLOCK_ROWS for row in places.rows}
        found = {block: read(self._kept(block)) for block in blocks}
        return [found[row // BLOCK_ROWS][row % BLOCK_ROWS] for row in places.rows]

    def error(self, reason: str, remedy: str) -> ConfigError:
        """Return an error that names dataset and table."""
        return ConfigError(
            f"dataset {self.dataset.name}, table {self.table}: {reason}", remedy=remedy
        )


class GeneratedTable(TableRows):
    """The rows of one table: what ``Dataset.generate`` yields, and what references refer to."""

    blocks: GeneratedRows

    @property
    def count(self) -> int:
        """The number of rows."""
        return self.blocks.count

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield the rows as dicts of Python values, to look at and to test."""
        return self.blocks.records()


def _joined(lines: Iterable[str]) -> bytes:
    return ("\n".join(lines) + "\n").encode()

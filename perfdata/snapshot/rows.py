"""Rows as the loader takes them: those of a snapshot file, and those that a dataset generates."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import IO, TYPE_CHECKING

from perfdata.driver_hooks import confine
from perfdata.errors import ProjectCodeError, RefusedError, SchemaError, SnapshotDamagedError
from perfdata.load.plan import Existing, TableLoad
from perfdata.load.rows.fields import Origin
from perfdata.load.rows.parts import Parts
from perfdata.postgres.copy import JSON_CSV, TEXT, csv_blocks
from perfdata.snapshot.checks.losses import rows_missing_from_file
from perfdata.snapshot.checks.ownership import refuse_others, refuse_real_rows

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from perfdata.config import Settings
    from perfdata.dataset import Dataset, TableRows
    from perfdata.generate.tables import GeneratedRows
    from perfdata.load.plan import Plan
    from perfdata.load.selection import Selection
    from perfdata.postgres.catalog import Catalog, Table
    from perfdata.postgres.copy import CopyFormat
    from perfdata.postgres.link import Link
    from perfdata.postgres.statistics import Statistics
    from perfdata.snapshot.format.reader import SnapshotFile, TableBody

# Read back in blocks of the size that COPY is fastest with.
_BLOCK_BYTES = 256 << 10


@dataclass(frozen=True)
class SnapshotRows:
    """The rows of a snapshot file, as a RowSource."""

    file: SnapshotFile

    @property
    def statistics(self) -> Statistics | None:
        """The planner's statistics, None if the file has none; known once the file is read."""
        return self.file.statistics

    def check(self, link: Link, plan: Plan) -> None:
        """Raise RefusedError if a whole table holds a row that would be lost."""
        if plan.existing is Existing.NONE:  # no table holds a row
            return
        manifest = self.file.manifest
        lost = rows_missing_from_file(link, plan.whole_tables, self.file, plan.selection)
        if plan.selection.provenance is not None:
            refuse_others(lost)
        if lost:
            raise RefusedError(
                f"refused, nothing was touched: snapshot {manifest.name} has these tables whole, "
                "and rows that differ from the snapshot's, or are not in it, would be lost: "
                f"{'; '.join(lost)}",
                remedy="Remove them or undo their changes, or create the snapshot again, with "
                "them or with the tables removed from [tool.perfdata] whole_tables",
            )

    def tables(self, catalog: Catalog, keys: Collection[str] | None = None) -> Iterator[TableLoad]:
        """Yield the tables in the order of the file, or those whose keys are given.

        Raises SnapshotDamagedError, also for a table that the manifest has no rows of: a template
        is loaded from a file of which only the checksum was compared before.
        """
        for body in self.file.tables():
            if body.key not in self.file.manifest.stats:
                raise SnapshotDamagedError(
                    f"{self.file.path.name} is damaged: its manifest counts no rows of {body.key}",
                    remedy="Build or create it again",
                )
            if keys is None or body.key in keys:
                yield TableLoad(catalog.table(body.key), body.columns, _csv(body), JSON_CSV)
            else:
                body.skip()  # checks and CSV would take most of the time of reading


def _csv(body: TableBody) -> Iterator[bytes]:
    for block in body.blocks:
        try:
            yield from csv_blocks(block)
        except UnicodeDecodeError as error:
            raise SnapshotDamagedError(
                f"table {body.key} is damaged: invalid text ({error})",
                remedy="Build or create the snapshot again",
            ) from error
        del block  # a row may be of any size: free it before the next is read


@dataclass(frozen=True)
class StoredTable:
    """A table's rows in a temporary file: where they are in it, and how many.

    With ``parts`` they are not in it, but generated again by others.
    """

    key: str
    columns: Sequence[str]
    begin: int
    end: int
    rows: int
    copy_format: CopyFormat
    parts: Sequence[GeneratedRows] = ()


@dataclass(frozen=True)
class StoredRows:
    """A dataset's rows in a temporary file, generated before it is known where they go."""

    file: IO[bytes]
    tables: Sequence[StoredTable]

    def blocks(self, table: StoredTable) -> Iterator[bytes]:
        """Yield a table's rows in blocks, of whole lines if they are text."""
        position = table.begin
        while position < table.end:
            self.file.seek(position)
            block = self.file.read(min(_BLOCK_BYTES, table.end - position))
            if position + len(block) < table.end and table.copy_format is TEXT:
                block += self.file.readline()
            position += len(block)
            yield block


@dataclass(frozen=True)
class DatasetRows:
    """The rows that a dataset generates, as a RowSource.

    The dataset's code may connect to no other database than ``conninfo``, which is ``loopback`` on
    the embedded server's port. ``stored`` are the rows if they were generated already. ``notes``
    are messages for users, complete when the rows are read. With ``divided``, tables of
    perfdata.generate come with their parts, for a distributed build.
    """

    dataset: Dataset
    selection: Selection
    conninfo: str | None = field(repr=False)
    adopt: str
    loopback: str | None = field(default=None, repr=False)
    stored: StoredRows | None = None
    statistics: None = None
    notes: list[str] = field(default_factory=list)
    divided: bool = False

    def check(self, link: Link, plan: Plan) -> None:
        """Raise RefusedError if a whole table has rows that perfdata did not load."""
        if plan.existing is not Existing.ALL:
            refuse_real_rows(link, plan.whole_tables, plan.selection)

    def tables(self, catalog: Catalog, keys: Collection[str] | None = None) -> Iterator[TableLoad]:
        """Yield the tables in the dataset's order; raise SchemaError for one without the flag."""
        if self.stored is not None:
            for stored in self.stored.tables:
                if keys is None or stored.key in keys:
                    blocks = self.stored.blocks(stored)
                    table = catalog.table(stored.key)
                    origin = f"dataset {self.dataset.name}"
                    yield TableLoad(
                        table,
                        stored.columns,
                        blocks,
                        stored.copy_format,
                        origin,
                        parts=stored.parts,
                    )
            return
        for load in self._generate(catalog):
            self._check_flag(load.table, catalog)
            if keys is None or load.table.key in keys:
                yield load
            else:  # later tables may depend on what these blocks compute
                for _ in load.blocks:
                    pass

    def _generate(self, catalog: Catalog) -> Iterator[TableLoad]:
        dataset, code = self.dataset, f"dataset {self.dataset.name}"
        origin = Origin(code, dataset.seed, dataset.as_of, self.notes)
        where = (code, self.conninfo, self.loopback)

        def loads() -> Iterator[TableLoad]:
            return Parts(_generated(dataset), catalog, origin, divided=self.divided).loads()

        for load in confine(loads, *where):
            yield replace(load, blocks=confine(partial(iter, load.blocks), *where))

    def _check_flag(self, table: Table, catalog: Catalog) -> None:
        if self.selection.has_flag(table) or self.selection.takes_whole(table):
            return
        keys = [key for key in catalog.foreign_keys if key.child == table.oid]
        cover = ""
        if entries := self.selection.possible_entries(catalog, keys):
            cover = (
                f"or, if all of its rows that reference test data are test data too, add "
                f"{' or '.join(entries)} to [tool.perfdata] flag_through; "
            )
        raise SchemaError(
            f"dataset {self.dataset.name} has rows for {table.key}, which has no column "
            f"{self.selection.flag_column} to tell them from other rows, in a database that "
            "perfdata does not own",
            remedy=f"Add the column; {cover}or restore the dataset with fresh=True, or mark the "
            f"database as perfdata's ({self.adopt}); or leave the table out of the dataset",
        )

    @property
    def counts(self) -> dict[str, int] | None:
        """The number of rows by table, if the rows were generated already."""
        return {table.key: table.rows for table in self.stored.tables} if self.stored else None

    @contextmanager
    def storing(self, catalog: Catalog, settings: Settings) -> Iterator[DatasetRows]:
        """Generate all rows into a temporary file; the source that is yielded reads them there.

        So it is known which tables they are for before anything is changed.
        """
        with tempfile.TemporaryFile(dir=settings.make_home()) as file:
            tables = [_store(load, file) for load in self._generate(catalog)]
            yield replace(self, stored=StoredRows(file, tables))


def _generated(dataset: Dataset) -> Iterable[TableRows]:
    tables: Iterable[TableRows] | None = dataset.generate(dataset)
    if tables is None:
        raise ProjectCodeError(
            f"dataset {dataset.name} failed: generate returned None, expected an iterator of "
            "TableRows",
            remedy="Yield each table's TableRows, or return a list of them",
        )
    return tables


def _store(load: TableLoad, file: IO[bytes]) -> StoredTable:
    begin, rows = file.tell(), sum(part.count for part in load.parts)
    if load.parts:
        return StoredTable(load.table.key, load.columns, begin, begin, rows, TEXT, load.parts)
    for block in load.blocks:
        file.write(block)
        rows += block.count(b"\n") if load.rows_read is None else 0
    if load.rows_read is not None:
        rows = load.rows_read()
    end = file.tell()
    return StoredTable(load.table.key, load.columns, begin, end, rows, load.copy_format)

"""What is compared: the rows of a snapshot file or of a database, as the same lines of JSON."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Protocol

from psycopg import sql

from perfdata.load.privileges import check_readable
from perfdata.postgres.catalog import json_rows
from perfdata.postgres.reflection import read_catalog
from perfdata.postgres.user_code import OTHER_ROLES, refuse_user_code
from perfdata.snapshot.prepare import selection_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from perfdata.postgres.link import Link
    from perfdata.snapshot.format.manifest import Manifest
    from perfdata.snapshot.format.reader import TableBody
    from perfdata.snapshot.store import Snapshot

    Columns = Mapping[str, Sequence[str]]
    Take = Callable[[str, list[bytes]], None]


class Side(Protocol):
    """One of the two that are compared; rows may be read more than once, and stay the same."""

    name: str
    columns: Columns
    primary_keys: Columns

    def rows(self, key: str) -> int:
        """Count a table's rows."""

    def read(self, wanted: Columns, take: Take) -> None:
        """Give ``take`` each table's key and the lines of its rows, many at a time.

        ``wanted`` are the columns by table; a table that is not named is passed over.
        """


class FileSide:
    """A snapshot's file, checked whole first."""

    def __init__(self, snapshot: Snapshot) -> None:
        """Check the file; raises SnapshotDamagedError."""
        self.name = snapshot.name
        self._file = snapshot.open().check()
        self.manifest = self._file.manifest
        self.columns: Columns = {key: list(one) for key, one in self.manifest.schema.items()}
        self.primary_keys = self.manifest.primary_keys

    def rows(self, key: str) -> int:
        """Count a table's rows."""
        return self.manifest.stats[key]

    def read(self, wanted: Columns, take: Take) -> None:
        """Read the body once."""
        for body in self._file.tables():
            columns = wanted.get(body.key)
            for block in body.blocks:
                if columns is not None:
                    lines = block.rstrip(b",\n").split(b",\n")
                    take(body.key, _chosen(lines, body, columns))


def _chosen(lines: list[bytes], body: TableBody, columns: Sequence[str]) -> list[bytes]:
    """Leave of each line's values those of the columns, written as the server writes them."""
    if list(columns) == list(body.columns):
        return lines
    places = [list(body.columns).index(name) for name in columns]
    return [_written([row[place] for place in places]) for row in map(json.loads, lines)]


def _written(values: list[str | None]) -> bytes:
    return json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode()


class DatabaseSide:
    """The rows of a database that a snapshot's would be taken from, in one transaction."""

    def __init__(self, link: Link, manifest: Manifest, *, as_superuser: bool = False) -> None:
        """Find the tables; the transaction is open, and reading."""
        self.name = "the database"
        self._link = link
        self._selection = selection_of(manifest)
        others = link.later(OTHER_ROLES)
        self._catalog = read_catalog(link)
        tables = self._selection.tables(self._catalog)
        if not as_superuser:
            refuse_user_code(link, others.rows, read=tables)
        check_readable(link, tables)
        self.columns: Columns = {
            table.key: [column.name for column in table.stored] for table in tables
        }
        self.primary_keys: Columns = {table.key: list(table.primary_key) for table in tables}

    def rows(self, key: str) -> int:
        """Count a table's rows."""
        table = self._catalog.table(key)
        count = sql.SQL("SELECT count(*) FROM {} WHERE {}")
        return int(self._link.value(count.format(table.only, self._selection.where(table))))

    def read(self, wanted: Columns, take: Take) -> None:
        """Read the tables once."""
        for key, columns in wanted.items():
            table = self._catalog.table(key)
            query = json_rows(table, self._selection.where(table), columns)
            self._link.copy_out(query, partial(_take_lines, take, key))


def _take_lines(take: Take, key: str, block: bytes) -> None:
    take(key, block[:-1].split(b"\n"))

"""The two sides of a comparison: rows of a snapshot file or a database, as equal lines of JSON."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Protocol

from psycopg import sql

from perfdata.load.privileges import check_readable
from perfdata.postgres.catalog import json_rows
from perfdata.postgres.reflection import read_catalog
from perfdata.postgres.user_code import OTHER_ROLES, refuse_user_code
from perfdata.snapshot.prepare import covered_by, selection_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from perfdata.postgres.link import Link
    from perfdata.snapshot.format.manifest import Manifest
    from perfdata.snapshot.store import Snapshot

    Columns = Mapping[str, Sequence[str]]
    Take = Callable[[str, list[bytes]], None]


class Side(Protocol):
    """One side of a comparison; its rows can be read repeatedly and do not change."""

    name: str
    columns: Columns
    primary_keys: Columns

    def rows(self, key: str) -> int:
        """Count a table's rows."""

    def read(self, wanted: Columns, take: Take) -> None:
        """Call ``take`` with a table's key and many lines of its rows at a time.

        ``wanted`` has the columns to read by table; other tables are skipped.
        """


class FileSide:
    """The rows of a snapshot file, which is checked first; raises SnapshotDamagedError."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.name = snapshot.name
        self._file = snapshot.open().check()
        self.manifest = self._file.manifest
        self.columns: Columns = {key: list(names) for key, names in self.manifest.schema.items()}
        self.primary_keys = self.manifest.primary_keys

    def rows(self, key: str) -> int:
        """Count a table's rows."""
        return self.manifest.stats[key]

    def read(self, wanted: Columns, take: Take) -> None:
        """Read the file once."""
        for body in self._file.tables():
            names = wanted.get(body.key)
            if names is None:
                body.skip()
                continue
            for block in body.blocks:
                lines = block.rstrip(b",\n").split(b",\n")
                take(body.key, _chosen(lines, list(body.columns), list(names)))


def _chosen(lines: list[bytes], columns: list[str], names: list[str]) -> list[bytes]:
    """Keep the values of some columns in each line, written as the server writes them."""
    if names == columns:
        return lines
    places = [columns.index(name) for name in names]
    rows = ([row[place] for place in places] for row in map(json.loads, lines))
    return [json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode() for row in rows]


class DatabaseSide:
    """The rows of a database that a snapshot would hold now, over a link in a read transaction."""

    def __init__(self, link: Link, manifest: Manifest, *, as_superuser: bool = False) -> None:
        self.name = "the database"
        self._link = link
        roles = link.later(OTHER_ROLES)
        self._catalog = read_catalog(link)
        self._selection = selection_of(manifest, covered_by(manifest, self._catalog))
        tables = self._selection.tables(self._catalog)
        if not as_superuser:
            refuse_user_code(link, roles.rows, read=tables)
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

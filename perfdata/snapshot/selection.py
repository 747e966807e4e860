"""Which rows of which tables a snapshot takes: all, the flagged ones, or tables whole."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from psycopg import sql

from perfdata.errors import SchemaError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from perfdata.postgres.catalog import Catalog, Table
    from perfdata.snapshot.format import Manifest


@dataclass(frozen=True)
class Selection:
    """The rows with a flag (None: every row), and all rows of the tables whose keys are named."""

    flag_column: str | None
    whole: Collection[str] = ()

    @classmethod
    def of(cls, manifest: Manifest) -> Selection:
        """Return what a snapshot was made of."""
        return cls(manifest.flag_column, frozenset(manifest.whole_tables))

    def takes_whole(self, table: Table) -> bool:
        """Tell whether every row of a table is taken."""
        return self.flag_column is None or table.key in self.whole

    def tables(self, catalog: Catalog) -> tuple[Table, ...]:
        """Return the tables that are taken, in foreign-key order."""
        return tuple(
            table
            for table in catalog.tables
            if self.takes_whole(table) or table.has_flag(self.flag_column or "")
        )

    def where(self, table: Table, alias: str | None = None) -> sql.Composable:
        """Make the condition that a table's rows are taken under; false for a table left out.

        It may be null, as a flag may. The bare column is what partial indexes are found by.
        """
        if self.takes_whole(table):
            return sql.SQL("true")
        if self.flag_column is None or not table.has_flag(self.flag_column):
            return sql.SQL("false")
        names = [alias, self.flag_column] if alias else [self.flag_column]
        return sql.Identifier(*names)


def whole_tables(catalog: Catalog, patterns: Sequence[str]) -> frozenset[str]:
    """Return the keys of the tables that patterns name; raise SchemaError for one that names none.

    A pattern is a table's name as snapshots write it, wildcards allowed.
    """
    for pattern in patterns:
        if not named_tables(catalog.by_key, [pattern]):
            raise SchemaError(
                f"[tool.perfdata] whole_tables names {pattern!r}, and the database has no such "
                f"table; a table of another schema than public is written schema.table"
            )
    return named_tables(catalog.by_key, patterns)


def named_tables(keys: Iterable[str], patterns: Sequence[str]) -> frozenset[str]:
    """Return those of the keys of tables that patterns name."""
    return frozenset(
        key for key in keys for pattern in patterns if key == pattern or fnmatchcase(key, pattern)
    )

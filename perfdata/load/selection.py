"""Which rows a snapshot or a load is about: every row, the flagged ones, or all of some tables."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from psycopg import sql

from perfdata.errors import SchemaError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from perfdata.postgres.catalog import Catalog, Table


@dataclass(frozen=True)
class Selection:
    """The rows with a flag, and every row of the tables whose keys are in ``whole``.

    ``flag_column`` None selects every row of every table.
    """

    flag_column: str | None
    whole: Collection[str] = frozenset()

    @property
    def all_rows(self) -> bool:
        """Whether every row of every table is selected."""
        return self.flag_column is None

    def takes_whole(self, table: Table) -> bool:
        """Tell whether every row of a table is selected."""
        return self.flag_column is None or table.key in self.whole

    def has_flag(self, table: Table) -> bool:
        """Tell whether a table has the flag."""
        return self.flag_column is not None and table.has_flag(self.flag_column)

    def tables(self, catalog: Catalog) -> tuple[Table, ...]:
        """Return the tables that have selected rows, in foreign-key order."""
        return tuple(
            table for table in catalog.tables if self.takes_whole(table) or self.has_flag(table)
        )

    def where(self, table: Table, alias: str | None = None) -> sql.Composable:
        """Make the condition for a table's selected rows.

        It is null where the flag is: a bare column, so that partial indexes are used.
        """
        if self.takes_whole(table):
            return sql.SQL("true")
        return self.flagged(table, alias)

    def flagged(self, table: Table, alias: str | None = None) -> sql.Composable:
        """Make the condition for a table's flagged rows; false without a flag."""
        if self.flag_column is None or not self.has_flag(table):
            return sql.SQL("false")
        return sql.Identifier(*([alias] if alias else []), self.flag_column)

    def unflagged(self, table: Table, alias: str | None = None) -> sql.Composable:
        """Make the condition for a table's rows that are not test data; true without a flag."""
        if not self.has_flag(table):
            return sql.SQL("true")
        return sql.SQL("{} IS NOT TRUE").format(self.flagged(table, alias))


def whole_tables(catalog: Catalog, patterns: Sequence[str]) -> frozenset[str]:
    """Return the keys of the tables that the setting ``whole_tables`` names.

    A pattern is a table's key (``name``, or ``schema.name`` outside public), wildcards allowed.
    Raises SchemaError for a pattern that matches no table.
    """
    for pattern in patterns:
        if not matching_keys(catalog.by_key, [pattern]):
            raise SchemaError(
                f"[tool.perfdata] whole_tables names {pattern!r}, and the database has no such "
                "table; a table outside schema public is written schema.table"
            )
    return matching_keys(catalog.by_key, patterns)


def matching_keys(keys: Iterable[str], patterns: Sequence[str]) -> frozenset[str]:
    """Return the table keys that match one of the patterns."""
    return frozenset(
        key for key in keys for pattern in patterns if key == pattern or fnmatchcase(key, pattern)
    )

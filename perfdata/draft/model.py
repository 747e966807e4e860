"""Drafts of tables and columns, and what they are made from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from perfdata.draft.statistics import NO_STATISTICS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from perfdata.draft.rules import TableRules
    from perfdata.draft.statistics import TableStatistics
    from perfdata.postgres.catalog import Catalog, ForeignKey, Table


@dataclass(frozen=True)
class ColumnDraft:
    """A column's code, "" if it is left out, and what a person should know."""

    name: str
    code: str
    comment: str = ""


@dataclass
class TableDraft:
    """A table's code: its variable, the number of its rows and its columns.

    ``count`` is the number of rows of a table with a parameter, ``least`` and ``most`` are limits.
    ``before`` are lines that precede it, ``comments`` what a person should know.
    """

    variable: str
    table: Table
    rows: str
    count: int | None
    least: int
    most: int
    before: list[str] = field(default_factory=list)
    columns: dict[str, ColumnDraft] = field(default_factory=dict)
    comments: list[str] = field(default_factory=list)

    def is_serial(self, column: str) -> bool:
        """Tell whether a column counts from 1."""
        return column in self.columns and self.columns[column].code == "g.serial()"


@dataclass(frozen=True)
class Schema:
    """What drafts are made from, and the drafts so far, by the tables' oids.

    ``shapes`` are statistics by the tables' keys. ``single`` are tables that have one row only,
    with the table that makes it necessary (see settle_overlaps).
    """

    catalog: Catalog
    rules: Mapping[int, TableRules]
    flag: str
    shapes: Mapping[str, TableStatistics]
    single: Mapping[int, str] = field(default_factory=dict)
    drafts: dict[int, TableDraft] = field(default_factory=dict)

    def statistics(self, table: Table) -> TableStatistics:
        """Return what is known of a table's rows."""
        return self.shapes.get(table.key, NO_STATISTICS)

    def parent(self, key: ForeignKey) -> TableDraft | None:
        """Return the draft of the table that a key references, None before it is drafted."""
        return None if key.parent == key.child else self.drafts.get(key.parent)

    def is_usable(self, key: ForeignKey) -> bool:
        """Tell whether a key's values can be those of its parent's draft."""
        parent = self.parent(key)
        whole = self.catalog.by_oid[key.parent]
        return (
            parent is not None
            and (key.referenced.schema, key.referenced.name) == (whole.schema, whole.name)
            and all(name in parent.columns for name in key.parent_columns)
        )

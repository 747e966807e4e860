"""Which rows a snapshot or a load covers, and what it can't cover."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from psycopg import sql

from perfdata.errors import SchemaError
from perfdata.postgres.catalog import table_key
from perfdata.postgres.coverage import covering_keys, entry_for
from perfdata.text import join_first

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from perfdata.config import Settings
    from perfdata.load.provenance import Provenance
    from perfdata.postgres.catalog import Catalog, ForeignKey, Table
    from perfdata.postgres.coverage import CoveringKey
    from perfdata.postgres.link import Link

_UNCOVERED = """
WITH RECURSIVE part (root, oid) AS (
  SELECT o, o FROM unnest(%s::oid[]) o
  UNION ALL SELECT p.root, i.inhrelid FROM part p JOIN pg_inherits i ON i.inhparent = p.oid
  JOIN pg_class c ON c.oid = i.inhrelid WHERE c.relispartition)
SELECT 'partition', n.nspname, c.relname
FROM part JOIN pg_class c ON c.oid = part.oid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'f'
UNION ALL SELECT 'foreign', n.nspname, c.relname
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'f' AND NOT c.relispartition
UNION ALL SELECT 'extension', n.nspname, c.relname
FROM pg_extension e CROSS JOIN unnest(e.extconfig) u (oid)
JOIN pg_class c ON c.oid = u.oid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p')
UNION ALL SELECT 'large', '', count(*)::text FROM pg_largeobject_metadata HAVING count(*) > 0
ORDER BY 1, 2, 3"""


@dataclass(frozen=True)
class Selection:
    """The flagged rows, and every row of the tables whose keys are in ``whole``.

    If ``flag_column`` is None, every row of every table. ``provenance`` tells which rows of a whole
    table are perfdata's own; it is known in databases that perfdata owns. A row of a table that is
    ``covered``, by table key, counts as flagged if the row that it references does.
    """

    flag_column: str | None
    whole: Collection[str] = frozenset()
    provenance: Provenance | None = None
    covered: Mapping[str, CoveringKey] = field(default_factory=dict)

    @property
    def all_rows(self) -> bool:
        """Whether every row of every table is selected."""
        return self.flag_column is None

    def takes_whole(self, table: Table) -> bool:
        """Tell whether every row of a table is selected."""
        return self.flag_column is None or table.key in self.whole

    def has_flag(self, table: Table) -> bool:
        """Tell whether a table has the flag column, or is covered."""
        return self.flag_column is not None and (
            table.has_flag(self.flag_column) or table.key in self.covered
        )

    def possible_entries(self, catalog: Catalog, keys: Iterable[ForeignKey]) -> list[str]:
        """Return the entries of ``flag_through`` that would cover the tables of these keys."""
        entries = [
            entry_for(catalog, key)
            for key in keys
            if self.has_flag(catalog.by_oid[key.parent])
            and not self.has_flag(catalog.by_oid[key.child])
        ]
        return sorted(filter(None, entries))

    def children_first(self, tables: Iterable[Table]) -> list[Table]:
        """Sort tables so that covered ones come before those that decide their flags."""
        return sorted(tables, key=self._depth, reverse=True)

    def _depth(self, table: Table) -> int:
        """Return by how many foreign keys a table's flags are decided."""
        covering = self.covered.get(table.key)
        return 1 + self._depth(covering.parent) if covering else 0

    def with_unflagged(self, catalog: Catalog, keys: Iterable[str]) -> Selection:
        """Add those of the tables that lack the flag and are not covered."""
        unflagged = {key for key in keys if not self.has_flag(catalog.table(key))}
        return replace(self, whole=frozenset({*self.whole, *unflagged}))

    def tables(self, catalog: Catalog) -> tuple[Table, ...]:
        """Return the tables that have selected rows, in foreign-key order."""
        return tuple(
            table for table in catalog.tables if self.takes_whole(table) or self.has_flag(table)
        )

    def where(self, table: Table, alias: str | None = None) -> sql.Composable:
        """Make the condition for a table's selected rows; null where the flag is null."""
        if self.takes_whole(table):
            return sql.SQL("true")
        return self.flagged(table, alias)

    def others(self, table: Table, alias: str | None = None) -> sql.Composable:
        """Make the condition for a table's rows that are not selected."""
        return sql.SQL("false") if self.takes_whole(table) else self.unflagged(table, alias)

    def flagged(self, table: Table, alias: str | None = None) -> sql.Composable:
        """Make the condition for a table's flagged rows; false without a flag column."""
        if self.flag_column is None or not self.has_flag(table):
            return sql.SQL("false")
        if covering := self.covered.get(table.key):
            parent = f"flagged_{self._depth(table)}"  # another one for each key of a chain
            return covering.leads_to(self.flagged(covering.parent, parent), alias, parent)
        # The bare column, so that PostgreSQL can use partial indexes.
        return sql.Identifier(*([alias] if alias else []), self.flag_column)

    def real(self, table: Table) -> sql.Composable:
        """Make the condition for a table's unflagged rows, except perfdata's own."""
        unflagged = self.unflagged(table)
        if self.provenance is None or not self.takes_whole(table):
            return unflagged
        return sql.SQL("{} AND NOT {}").format(unflagged, self.provenance.written())

    def unflagged(self, table: Table, alias: str | None = None) -> sql.Composable:
        """Make the condition for a table's unflagged rows; true without a flag column."""
        if not self.has_flag(table):
            return sql.SQL("true")
        flagged = self.flagged(table, alias)
        if table.key in self.covered:  # PostgreSQL makes an anti-join of NOT EXISTS
            return sql.SQL("NOT {}").format(flagged)
        # Unlike IS NOT TRUE, which is the same, this can use an index on the column.
        return sql.SQL("({flag} IS FALSE OR {flag} IS NULL)").format(flag=flagged)


def flagged_selection(catalog: Catalog, flag: str, settings: Settings) -> Selection:
    """Return the flagged rows, with those of the tables that the setting ``flag_through`` covers.

    Raises SchemaError for a setting that names no such table.
    """
    return Selection(flag, covered=covering_keys(catalog, flag, settings.flag_through))


def whole_tables(catalog: Catalog, patterns: Sequence[str]) -> frozenset[str]:
    """Return the keys of the tables that the setting ``whole_tables`` names.

    A pattern is a table's key (``name``, or ``schema.name`` outside public), wildcards allowed.
    Raises SchemaError for a pattern that matches no table.
    """
    for pattern in patterns:
        if not matching_keys(catalog.by_key, [pattern]):
            raise SchemaError(
                f"[tool.perfdata] whole_tables names {pattern!r}, but no table in the database "
                "matches that",
                remedy="Correct it; a table outside schema public is written schema.table",
            )
    return matching_keys(catalog.by_key, patterns)


def matching_keys(keys: Iterable[str], patterns: Sequence[str]) -> frozenset[str]:
    """Return the table keys that match any of the patterns."""
    return frozenset(
        key for key in keys for pattern in patterns if key == pattern or fnmatchcase(key, pattern)
    )


def uncovered_notes(link: Link, tables: Collection[Table], *, all_rows: bool) -> Sequence[str]:
    """Return a note for each kind of rows that a snapshot of all rows does not contain.

    Raises SchemaError if rows of the tables themselves can't be read: rows that row-level security
    hides from this role, and rows of partitions that are foreign tables.
    """
    refuse_hidden_rows(tables)
    found: dict[str, list[str]] = {}
    for kind, schema, name in link.rows(_UNCOVERED, ([table.oid for table in tables],)):
        found.setdefault(kind, []).append(table_key(schema, name) if schema else name)
    if partitions := found.get("partition"):
        raise SchemaError(
            "these partitions are foreign tables, whose rows are on another server: "
            f"{join_first(partitions)}",
            remedy="Detach them, and the remaining rows can be saved",
        )
    if not all_rows:
        return ()
    notes = []
    if names := found.get("foreign"):
        notes.append(f"foreign tables, whose rows are on another server: {', '.join(names)}")
    if names := found.get("extension"):
        notes.append(f"tables of extensions: {', '.join(names)}")
    if count := found.get("large"):
        notes.append(f"large objects: {int(count[0]):,} (columns with their oids are)")
    return [f"not in the snapshot: {note}" for note in notes]


def refuse_hidden_rows(tables: Collection[Table]) -> None:
    """Raise SchemaError if row-level security hides rows of the tables from this role."""
    if hidden := [table.key for table in tables if table.hidden]:
        raise SchemaError(
            f"row-level security hides rows from this role: {join_first(hidden)}",
            remedy="Nothing was touched. Use the tables' owner (unless it is FORCEd), or a role "
            "with BYPASSRLS",
        )

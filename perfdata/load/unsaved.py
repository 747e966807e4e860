"""What a snapshot can't hold: found and named, never skipped in silence."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perfdata.errors import SchemaError
from perfdata.postgres.catalog import table_key
from perfdata.text import first

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from perfdata.postgres.catalog import Table
    from perfdata.postgres.link import Link

_UNSAVED = """
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


def unsaved(link: Link, tables: Collection[Table], *, all_rows: bool) -> Sequence[str]:
    """Say what stands in the database that a snapshot of these tables does not hold.

    Raises SchemaError where rows of the tables themselves could not be had: rows that row-level
    security hides from this role, rows of partitions that are foreign tables.
    """
    refuse_hidden(tables)
    found: dict[str, list[str]] = {}
    for kind, schema, name in link.rows(_UNSAVED, ([table.oid for table in tables],)):
        found.setdefault(kind, []).append(table_key(schema, name) if schema else name)
    if partitions := found.get("partition"):
        raise SchemaError(
            f"these partitions are foreign tables, whose rows are another server's: "
            f"{first(partitions)}. Detach them, and what is left can be saved"
        )
    if not all_rows:
        return ()
    notes = []
    if names := found.get("foreign"):
        notes.append(f"foreign tables, whose rows are another server's: {', '.join(names)}")
    if names := found.get("extension"):
        notes.append(f"tables of extensions: {', '.join(names)}")
    if count := found.get("large"):
        notes.append(f"large objects: {int(count[0]):,} (their numbers in columns are)")
    return [f"not in the snapshot: {note}" for note in notes]


def refuse_hidden(tables: Collection[Table]) -> None:
    """Raise SchemaError where row-level security hides rows of the tables from this role."""
    if hidden := [table.key for table in tables if table.hidden]:
        raise SchemaError(
            f"row-level security hides rows from this role: {first(hidden)}; nothing was touched. "
            "Use the tables' owner (where it is not FORCEd), or a role with BYPASSRLS"
        )

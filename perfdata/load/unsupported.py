"""What a load can't restore in the tables that it fills: rules, some keys, foreign partitions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perfdata.errors import SchemaError
from perfdata.postgres.catalog import table_key
from perfdata.text import join_first

if TYPE_CHECKING:
    from perfdata.load.plan import Plan
    from perfdata.postgres.link import AnyQuery, Rows

# Rules, foreign keys that the catalog leaves out (an extension's), and partitions on other servers.
_UNSUPPORTED = """
WITH RECURSIVE part (oid) AS (
  SELECT unnest(%(oids)s::oid[])
  UNION ALL SELECT i.inhrelid FROM part p JOIN pg_inherits i ON i.inhparent = p.oid
  JOIN pg_class c ON c.oid = i.inhrelid WHERE c.relispartition)
SELECT 'rule', r.rulename, n.nspname, c.relname
FROM pg_rewrite r JOIN part ON part.oid = r.ev_class JOIN pg_class c ON c.oid = r.ev_class
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE r.ev_type <> '1' AND r.ev_enabled <> 'D'
UNION ALL SELECT 'extension_key', k.conname, n.nspname, c.relname
FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
JOIN pg_namespace n ON n.oid = c.relnamespace WHERE k.contype = 'f' AND k.conparentid = 0
  AND (k.conrelid IN (SELECT oid FROM part) OR k.confrelid IN (SELECT oid FROM part))
  AND NOT k.oid = ANY (%(keys)s::oid[])
UNION ALL SELECT 'foreign', '', n.nspname, c.relname
FROM part JOIN pg_class c ON c.oid = part.oid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'f'
ORDER BY 1, 3, 4, 2"""
_LABELS = {
    "rule": "{table}: {name}",
    "extension_key": "foreign key {name} of {table}",
    "foreign": "{table}",
}


def unsupported_query(plan: Plan) -> AnyQuery:
    """Make the query for what a load can't restore in its tables."""
    oids, keys = [table.oid for table in plan.tables], [key.oid for key in plan.foreign_keys]
    return _UNSUPPORTED, {"oids": oids, "keys": keys}


def refuse_unsupported(rows: Rows) -> None:
    """Raise SchemaError if there are rows of unsupported_query."""
    found: dict[str, list[str]] = {}
    for kind, name, schema, table in rows:
        label = _LABELS[kind].format(name=name, table=table_key(schema, table))
        found.setdefault(kind, []).append(label)
    if rules := found.get("rule"):
        raise SchemaError(
            "rules rewrite what is written to these tables, so rows may silently stay or be "
            f"lost: {join_first(rules)}",
            remedy="Nothing was touched. Disable them for the load (ALTER TABLE … DISABLE RULE)",
        )
    if keys := found.get("extension_key"):
        raise SchemaError(
            "the load can't drop and recreate these, because they tie the tables to an "
            f"extension's: {join_first(keys)}",
            remedy="Nothing was touched. Drop them for the load",
        )
    if partitions := found.get("foreign"):
        raise SchemaError(
            "these partitions are foreign tables, whose rows are on another server: "
            f"{join_first(partitions)}",
            remedy="Nothing was touched. Detach them for the load",
        )

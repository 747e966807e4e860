"""What the catalog requires of a table's rows: unique keys, check constraints, partitions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from perfdata.draft.checks import ColumnRules, read_check

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from perfdata.postgres.catalog import Catalog
    from perfdata.postgres.link import Link

# All of a table and of its partitions, which are listed under their roots.
_PARTS = """
WITH RECURSIVE part (root, oid) AS (
  SELECT o, o FROM unnest(%s::oid[]) o
  UNION ALL SELECT p.root, i.inhrelid FROM part p JOIN pg_inherits i ON i.inhparent = p.oid
  JOIN pg_class c ON c.oid = i.inhrelid WHERE c.relispartition)
"""
# An index on an expression depends on the columns in it.
_KEYS = f"""{_PARTS}
SELECT DISTINCT p.root::bigint, i.indisprimary, ARRAY(
  SELECT a.attname::text FROM pg_attribute a
  WHERE a.attrelid = i.indrelid AND a.attnum > 0 AND (
    a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1])
    OR (i.indexprs IS NOT NULL AND EXISTS (
      SELECT FROM pg_depend d WHERE d.objid = i.indexrelid AND d.refobjid = i.indrelid
      AND d.classid = 'pg_class'::regclass AND d.refobjsubid = a.attnum)))
  ORDER BY array_position((i.indkey::int2[])[0:i.indnkeyatts - 1], a.attnum), a.attnum)
FROM part p JOIN pg_index i ON i.indrelid = p.oid
WHERE i.indisunique OR i.indisexclusion
ORDER BY 1, 2 DESC, 3"""  # noqa: S608  all are constants
_CHECKS = f"""{_PARTS}
SELECT DISTINCT p.root::bigint, '', pg_get_constraintdef(k.oid)
FROM part p JOIN pg_constraint k ON k.conrelid = p.oid WHERE k.contype = 'c'
UNION SELECT p.root::bigint, a.attname::text, pg_get_constraintdef(k.oid)
FROM part p JOIN pg_attribute a ON a.attrelid = p.oid AND a.attnum > 0 AND NOT a.attisdropped
JOIN pg_constraint k ON k.contypid = a.atttypid WHERE k.contype = 'c'
ORDER BY 1, 2, 3"""  # noqa: S608  all are constants
_PARTITIONS = f"""{_PARTS}
SELECT p.root::bigint, t.partstrat::text, ARRAY(
  SELECT a.attname::text FROM unnest(t.partattrs::int2[]) WITH ORDINALITY u (attnum, n)
  JOIN pg_attribute a ON a.attrelid = t.partrelid AND a.attnum = u.attnum ORDER BY u.n),
  ARRAY(SELECT pg_get_expr(c.relpartbound, c.oid) FROM pg_inherits i
        JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = p.oid ORDER BY c.relname)
FROM part p JOIN pg_partitioned_table t ON t.partrelid = p.oid WHERE t.partstrat <> 'h'
ORDER BY 1, 3"""  # noqa: S608  all are constants


@dataclass
class TableRules:
    """What a table's rows must fulfil.

    Attributes:
        keys: the columns of each unique key or exclusion constraint, the primary key first.
        columns: what single columns must fulfil, by name.
        unread: constraints that can't be read, as SQL.
    """

    keys: list[tuple[str, ...]] = field(default_factory=list)
    columns: dict[str, ColumnRules] = field(default_factory=dict)
    unread: list[str] = field(default_factory=list)

    def column(self, name: str) -> ColumnRules:
        """Return what a column must fulfil."""
        return self.columns.setdefault(name, ColumnRules())


def read_rules(link: Link, catalog: Catalog) -> Mapping[int, TableRules]:
    """Read what the rows of each table must fulfil, by the table's oid."""
    oids = [table.oid for table in catalog.tables]
    keys, checks, partitions = link.together(
        [(_KEYS, (oids,)), (_CHECKS, (oids,)), (_PARTITIONS, (oids,))]
    )
    rules = {oid: TableRules() for oid in oids}
    for oid, _, names in keys:
        if names:
            rules[oid].keys.append(tuple(names))
    for oid, column, definition in checks:
        table, names = rules[oid], [each.name for each in catalog.by_oid[oid].columns]
        if not read_check(definition, column, names, table.column):
            table.unread.append(f"{column}: {definition}" if column else definition)
    for oid, *partition in partitions:
        _read_partitions(rules[oid], *partition)
    return rules


def _read_partitions(
    rules: TableRules, strategy: str, columns: Sequence[str], bounds: Sequence[str]
) -> None:
    """Keep a partitioned table's rows in the partitions that it has."""
    if "DEFAULT" in bounds:
        return
    if len(columns) != 1 or not bounds:
        rules.unread.append(f"partitions: {'; '.join(bounds) or 'none'}")
    elif strategy == "l":
        values = [value for bound in bounds for value in _values(bound, "IN")]
        rules.column(columns[0]).choices = values
    elif not any("MAXVALUE" in bound for bound in bounds):
        # The lower bounds are in the partitions; MINVALUE is none.
        values = [value for bound in bounds for value in _values(bound, "FROM")]
        rules.column(columns[0]).choices = values


def _values(bound: str, word: str) -> list[Any]:
    from sqlglot import exp, parse_one

    from perfdata.draft.checks import literal

    listed = bound.partition(f"{word} ")[2].partition(" TO ")[0]
    parsed = parse_one(f"SELECT 1 IN {listed}", read="postgres").find(exp.In)
    values = [literal(value) for value in parsed.expressions] if parsed else []
    return [value for value in values if value is not None]

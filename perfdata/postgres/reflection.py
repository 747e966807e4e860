"""Reflection: reading the tables, their columns, foreign keys and sequences from pg_catalog."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from perfdata.postgres.catalog import (
    Catalog,
    Column,
    ColumnSequence,
    ForeignKey,
    Relation,
    Table,
    VersionTable,
)
from perfdata.postgres.types import TYPES, UserTypes

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from perfdata.postgres.link import Link

# Alembic's version table is compared, never copied. It has version_num as its only column, and no
# index or statistics expressions, which a query might evaluate. Any other table of that name is
# treated like the rest.
VERSION_TABLE = "alembic_version"
IS_VERSION_TABLE = """(c.relkind = 'r' AND NOT c.relhassubclass
  AND ARRAY(SELECT a.attname::text FROM pg_attribute a
            WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) = '{version_num}'
  AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid
                  AND (i.indexprs IS NOT NULL OR i.indpred IS NOT NULL))
  AND NOT EXISTS (SELECT FROM pg_statistic_ext s WHERE s.stxrelid = c.oid))"""

_TABLES = f"""
SELECT n.nspname, c.relname, c.relkind = 'p', c.oid::bigint,
  row_security_active(c.oid),
  ARRAY(SELECT a.attname::text FROM pg_index i
        CROSS JOIN LATERAL unnest(i.indkey) WITH ORDINALITY u (attnum, n)
        JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = u.attnum
        WHERE i.indrelid = c.oid AND i.indisprimary ORDER BY u.n),
  {IS_VERSION_TABLE},
  CASE WHEN NOT has_table_privilege(c.oid, 'SELECT') THEN quote_ident(current_user) END
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence <> 't'
  AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
  AND NOT EXISTS (SELECT FROM pg_depend d
                  WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
ORDER BY n.nspname <> 'public', n.nspname, c.relname"""  # noqa: S608  both are constants

# How to get a column's text. A cast to text may change the value: bpchar's drops trailing blanks,
# a user-defined one (its oid is 16384 or more) may do anything. Such columns use the type's output
# function, and so do all user-defined types, since their owners may add a cast at any time.
_COLUMNS = """
WITH RECURSIVE base (oid, base) AS (
  SELECT t.oid, t.oid FROM pg_type t WHERE t.typtype <> 'd'
  UNION ALL SELECT t.oid, b.base FROM base b
    JOIN pg_type t ON t.typbasetype = b.oid AND t.typtype = 'd')
SELECT a.attrelid::bigint, a.atttypid::bigint, a.attname, format_type(a.atttypid, a.atttypmod),
  format_type(b.base, -1), a.attnotnull, a.attgenerated <> '',
  CASE WHEN b.base = 'bpchar'::regtype THEN 'bpchar'
       WHEN b.base >= 16384 OR EXISTS (
            SELECT FROM pg_cast k WHERE k.castsource = b.base AND k.oid >= 16384
            AND k.casttarget = 'text'::regtype AND k.castmethod <> 'i') THEN 'format'
       ELSE 'cast' END,
  ARRAY(SELECT e.enumlabel::text FROM pg_enum e WHERE e.enumtypid = a.atttypid
        ORDER BY e.enumsortorder),
  a.atthasdef OR a.attidentity <> ''
FROM pg_attribute a JOIN base b ON b.oid = a.atttypid
WHERE a.attrelid = ANY (%s) AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attrelid, a.attnum"""

# The keys of the tables, and of single partitions, which are listed under their root tables.
_FOREIGN_KEYS = """
WITH RECURSIVE part (root, oid) AS (
  SELECT o, o FROM unnest(%(oids)s::oid[]) o
  UNION ALL SELECT p.root, i.inhrelid FROM part p JOIN pg_inherits i ON i.inhparent = p.oid
  JOIN pg_class c ON c.oid = i.inhrelid WHERE c.relispartition)
SELECT k.oid::bigint, k.conname, child.root::bigint, parent.root::bigint,
  cn.nspname, cc.relname, cc.relkind = 'p', pn.nspname, pc.relname, pc.relkind = 'p',
  pg_get_constraintdef(k.oid), obj_description(k.oid, 'pg_constraint'),
  ARRAY(SELECT a.attname::text FROM unnest(k.conkey) WITH ORDINALITY u (attnum, n)
        JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.attnum ORDER BY u.n),
  ARRAY(SELECT a.attname::text FROM unnest(k.confkey) WITH ORDINALITY u (attnum, n)
        JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = u.attnum ORDER BY u.n),
  coalesce((to_jsonb(k) ->> 'conperiod')::boolean, false)
FROM pg_constraint k
JOIN part child ON child.oid = k.conrelid JOIN part parent ON parent.oid = k.confrelid
JOIN pg_class cc ON cc.oid = k.conrelid JOIN pg_namespace cn ON cn.oid = cc.relnamespace
JOIN pg_class pc ON pc.oid = k.confrelid JOIN pg_namespace pn ON pn.oid = pc.relnamespace
WHERE k.contype = 'f' AND k.conparentid = 0
ORDER BY k.conrelid, k.conname"""

# A column's values come from a sequence if the column owns it or its default calls it.
_SEQUENCES = """
SELECT DISTINCT n.nspname, c.relname, a.attrelid::bigint, a.attname, s.seqincrement,
  s.seqmin, s.seqmax
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_sequence s ON s.seqrelid = c.oid
JOIN (SELECT d.objid AS seq, d.refobjid AS rel, d.refobjsubid AS num FROM pg_depend d
      WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass
        AND d.deptype IN ('a', 'i') AND d.refobjsubid > 0
      UNION SELECT d.refobjid, f.adrelid, f.adnum
      FROM pg_depend d JOIN pg_attrdef f ON f.oid = d.objid
      WHERE d.classid = 'pg_attrdef'::regclass AND d.refclassid = 'pg_class'::regclass
     ) u ON u.seq = c.oid
JOIN pg_attribute a ON a.attrelid = u.rel AND a.attnum = u.num
WHERE a.attrelid = ANY (%s)
ORDER BY 1, 2, 3, 4"""


def read_catalog(link: Link) -> Catalog:
    """Read all tables but those of system schemas and of extensions.

    Types and definitions are schema-qualified, whatever the session's search path.
    """
    with link.within_transaction():
        rows = link.rows(_TABLES)
        version_rows = [row for row in rows if row[1] == VERSION_TABLE and row[-2]]
        table_rows = {row[3]: row[:-2] for row in rows if row not in version_rows}
        oids = list(table_rows)
        column_rows, type_rows, key_rows, sequence_rows = link.together(
            [
                (_COLUMNS, (oids,)),
                (TYPES, (oids,)),
                (_FOREIGN_KEYS, {"oids": oids}),
                (_SEQUENCES, (oids,)),
            ]
        )
    types = UserTypes(type_rows)
    columns: dict[int, list[Column]] = {oid: [] for oid in oids}
    for oid, type_oid, *fields in column_rows:
        columns[oid].append(Column(*[*fields, types.detail(type_oid)]))
    keys = tuple(_foreign_key(row) for row in key_rows)
    sequences = tuple(ColumnSequence(*row) for row in sequence_rows)
    versions = tuple(VersionTable(*[*row[:3], row[-1]]) for row in version_rows)
    tables = {oid: Table(*[*row, columns[oid]]) for oid, row in table_rows.items()}
    return Catalog(tuple(_ordered(tables, keys)), keys, sequences, versions)


def _foreign_key(row: tuple[Any, ...]) -> ForeignKey:
    fields = [*row[:4], Relation(*row[4:7]), Relation(*row[7:10]), *row[10:]]
    return ForeignKey(*fields)


def _ordered(tables: Mapping[int, Table], keys: Iterable[ForeignKey]) -> Sequence[Table]:
    """Sort parents before children; a cycle is cut where it is entered.

    Cutting is harmless, as the keys are dropped during a load.
    """
    parents: dict[int, list[int]] = {oid: [] for oid in tables}
    for key in keys:
        if key.child in tables and key.parent in tables:
            parents[key.child].append(key.parent)
    ordered: dict[int, Table] = {}
    entered: set[int] = set()
    stack = list(tables)[::-1]
    while stack:
        oid = stack.pop()
        if oid in ordered:
            continue
        waiting = [parent for parent in parents[oid] if parent not in entered | ordered.keys()]
        if waiting and oid not in entered:
            entered.add(oid)
            stack += [oid, *waiting[::-1]]
        else:
            ordered[oid] = tables[oid]
    return list(ordered.values())

"""What pg_catalog says of the tables: columns, foreign keys, sequences, in foreign-key order."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from psycopg import sql

from perfdata.errors import SchemaError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from perfdata.database.link import Link

# Alembic's own bookkeeping is compared, never copied: it belongs to the tables, not to the rows.
VERSION_TABLE = "alembic_version"

_TABLES = """
SELECT c.oid::bigint, n.nspname, c.relname, c.relkind = 'p',
  EXISTS (SELECT FROM pg_constraint k
          WHERE k.conrelid = c.oid AND k.contype IN ('c', 'n') AND NOT k.convalidated),
  ARRAY(SELECT a.attname::text FROM pg_index i
        CROSS JOIN LATERAL unnest(i.indkey) WITH ORDINALITY u (attnum, n)
        JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = u.attnum
        WHERE i.indrelid = c.oid AND i.indisprimary ORDER BY u.n)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence <> 't'
  AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
  AND NOT EXISTS (SELECT FROM pg_depend d
                  WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
ORDER BY n.nspname <> 'public', n.nspname, c.relname"""

# How a column becomes its output text: a function's cast to text may lose something (bpchar its
# blanks, an application's own type anything), so these go through the output function instead.
_COLUMNS = """
WITH RECURSIVE base (oid, base) AS (
  SELECT t.oid, t.oid FROM pg_type t WHERE t.typtype <> 'd'
  UNION ALL SELECT t.oid, b.base FROM base b
    JOIN pg_type t ON t.typbasetype = b.oid AND t.typtype = 'd')
SELECT a.attrelid::bigint, a.attname, format_type(a.atttypid, a.atttypmod),
  b.base::regtype::text, a.attnotnull, a.attgenerated <> '',
  CASE WHEN b.base = 'bpchar'::regtype THEN 'bpchar'
       WHEN b.base >= 16384 AND EXISTS (SELECT FROM pg_cast k WHERE k.castsource = b.base
            AND k.casttarget = 'text'::regtype AND k.castmethod = 'f') THEN 'format'
       ELSE 'cast' END,
  ARRAY(SELECT e.enumlabel::text FROM pg_enum e WHERE e.enumtypid = a.atttypid
        ORDER BY e.enumsortorder)
FROM pg_attribute a JOIN base b ON b.oid = a.atttypid
WHERE a.attrelid = ANY (%s) AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attrelid, a.attnum"""

_FOREIGN_KEYS = """
SELECT k.oid::bigint, k.conname, k.conrelid::bigint, k.confrelid::bigint,
  pg_get_constraintdef(k.oid), obj_description(k.oid, 'pg_constraint'),
  (SELECT array_agg(a.attname::text ORDER BY u.n)
   FROM unnest(k.conkey) WITH ORDINALITY u (attnum, n)
   JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.attnum),
  (SELECT array_agg(a.attname::text ORDER BY u.n)
   FROM unnest(k.confkey) WITH ORDINALITY u (attnum, n)
   JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = u.attnum)
FROM pg_constraint k
WHERE k.contype = 'f' AND k.conparentid = 0
  AND k.conrelid = ANY (%(oids)s) AND k.confrelid = ANY (%(oids)s)
ORDER BY k.conrelid, k.conname"""

# A sequence feeds a column when the column owns it, or when the column's default calls it.
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


@dataclass(frozen=True)
class Column:
    """One column; ``output`` says how its text is taken (cast, bpchar or format).

    ``base`` is the type itself, or what a domain is made of.
    """

    name: str
    type: str
    base: str
    not_null: bool
    generated: bool
    output: str
    labels: Sequence[str]

    def described(self) -> str:
        """Say what decides whether rows fit: the type, its labels, whether null may stand."""
        labels = f" ({', '.join(self.labels)})" if self.labels else ""
        return f"{self.type}{labels}{' not null' if self.not_null else ''}"


@dataclass(frozen=True)
class Table:
    """One table (for partitions: the root), with its columns in order.

    ``unchecked`` tells that rows may be there that a NOT VALID check would not let in again.
    """

    columns: Sequence[Column]
    oid: int
    schema: str
    name: str
    partitioned: bool
    unchecked: bool
    primary_key: Sequence[str]

    @property
    def key(self) -> str:
        """The name in snapshots and messages: bare in schema public, else ``schema.table``."""
        return table_key(self.schema, self.name)

    @property
    def identifier(self) -> sql.Identifier:
        """The quoted, qualified name."""
        return sql.Identifier(self.schema, self.name)

    @property
    def only(self) -> sql.Composed:
        """What stands behind FROM or TRUNCATE: this table's own rows, or all its partitions'."""
        return sql.SQL("{}" if self.partitioned else "ONLY {}").format(self.identifier)

    @cached_property
    def stored(self) -> tuple[Column, ...]:
        """The columns that rows bring: all but the generated ones."""
        return tuple(column for column in self.columns if not column.generated)

    def column(self, name: str) -> Column:
        """Return the column of that name."""
        return next(column for column in self.columns if column.name == name)

    def has_flag(self, flag_column: str) -> bool:
        """Tell whether the table has the boolean flag column."""
        return any(c.name == flag_column and c.base == "boolean" for c in self.columns)


@dataclass(frozen=True)
class ForeignKey:
    """One foreign key, as it is to be put back."""

    oid: int
    name: str
    child: int
    parent: int
    definition: str
    comment: str | None
    child_columns: Sequence[str]
    parent_columns: Sequence[str]


@dataclass(frozen=True)
class FedSequence:
    """One sequence and the column that it feeds."""

    schema: str
    name: str
    table: int
    column: str
    increment: int
    minimum: int
    maximum: int

    @property
    def identifier(self) -> sql.Identifier:
        """The quoted, qualified name."""
        return sql.Identifier(self.schema, self.name)


@dataclass(frozen=True)
class Catalog:
    """The tables of a database, parents before children as far as cycles allow."""

    tables: tuple[Table, ...]
    foreign_keys: tuple[ForeignKey, ...]
    sequences: tuple[FedSequence, ...]

    @cached_property
    def by_key(self) -> Mapping[str, Table]:
        """The tables by the name that snapshots use."""
        return {table.key: table for table in self.tables}

    @cached_property
    def by_oid(self) -> Mapping[int, Table]:
        """The tables by their oid."""
        return {table.oid: table for table in self.tables}

    def table(self, key: str) -> Table:
        """Return the table of that key, or raise SchemaError."""
        try:
            return self.by_key[key]
        except KeyError:
            raise SchemaError(f"the database has no table {key}") from None

    def flagged(self, flag_column: str) -> tuple[Table, ...]:
        """Return the tables that have the flag column."""
        return tuple(table for table in self.tables if table.has_flag(flag_column))


def table_key(schema: str, name: str) -> str:
    """Name a table for people: ``table`` in schema public, else ``schema.table``."""
    parts = [name] if schema == "public" else [schema, name]
    return ".".join(_quoted(part) if "." in part or '"' in part else part for part in parts)


def _quoted(part: str) -> str:
    return '"' + part.replace('"', '""') + '"'


def read_catalog(link: Link) -> Catalog:
    """Read the tables of every schema but the system's and the extensions' own.

    Types and definitions come qualified, so that they mean the same on every search path.
    """
    with link.transaction({"search_path": ""}):
        found = [row for row in link.rows(_TABLES) if row[2] != VERSION_TABLE]
        oids = [row[0] for row in found]
        columns: dict[int, list[Column]] = {oid: [] for oid in oids}
        for oid, *fields in link.rows(_COLUMNS, (oids,)):
            columns[oid].append(Column(*fields))
        keys = tuple(ForeignKey(*row) for row in link.rows(_FOREIGN_KEYS, {"oids": oids}))
        sequences = tuple(FedSequence(*row) for row in link.rows(_SEQUENCES, (oids,)))
    tables = {row[0]: Table(columns[row[0]], *row) for row in found}
    return Catalog(tuple(_ordered(tables, keys)), keys, sequences)


def _ordered(tables: Mapping[int, Table], keys: Iterable[ForeignKey]) -> Sequence[Table]:
    """Put parents before children; a cycle is cut where it is entered (keys are off in a load)."""
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

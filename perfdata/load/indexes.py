"""Indexes in a load: dropped before, built at once after.

Among them are those of primary keys and unique constraints: filling an index row by row, in the
order of random keys, is the dearest of all. Whole restores with all indexes in place and without:
76 and 83 ms at 411 rows, 263 and 221 ms at 32,101, 1.25 and 0.90 s at 321,001, 6.7 and 4.15 s at
1,605,001.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from psycopg import sql

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from perfdata.postgres.catalog import ForeignKey
    from perfdata.postgres.link import Link

# Indexes that their definition alone brings back whole: no partition, comment, mark, option of a
# constraint's, own statistics target or dependant that a new index would not have. Nor one whose
# expression calls a function outside pg_catalog: that may need the database's own search path, and
# from 17 on a build has none. What depends on
# them through the foreign keys that are taken off besides is no hindrance. In the order in which
# they were made: of two that cost the same the planner takes the first.
_PLAIN_INDEXES = """
SELECT n.nspname, c.relname, t.relname, k.conname,
  coalesce(pg_get_constraintdef(k.oid), pg_get_indexdef(c.oid))
FROM pg_index i
JOIN pg_class c ON c.oid = i.indexrelid
JOIN pg_class t ON t.oid = i.indrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_constraint k ON k.conindid = c.oid AND k.contype IN ('p', 'u', 'x')
WHERE i.indrelid = ANY (%(oids)s) AND c.relkind = 'i' AND NOT c.relispartition
  AND c.reltablespace = 0 AND has_schema_privilege(n.oid, 'CREATE')
  AND pg_has_role(t.relowner, 'USAGE')
  AND i.indisvalid AND i.indisready AND NOT i.indisclustered AND NOT i.indisreplident
  AND obj_description(c.oid, 'pg_class') IS NULL
  AND obj_description(k.oid, 'pg_constraint') IS NULL
  AND (k.oid IS NULL OR c.reloptions IS NULL)
  AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attstattarget >= 0)
  AND NOT EXISTS (SELECT FROM pg_depend d
                  WHERE (d.refclassid = 'pg_class'::regclass AND d.refobjid = c.oid
                      OR d.refclassid = 'pg_constraint'::regclass AND d.refobjid = k.oid)
                    AND NOT (d.classid = 'pg_class'::regclass AND d.objid = c.oid)
                    AND NOT (d.classid = 'pg_constraint'::regclass AND EXISTS (
                      SELECT FROM pg_constraint f WHERE f.oid = d.objid AND f.contype = 'f'
                        AND (f.oid = ANY (%(keys)s) OR f.conparentid = ANY (%(keys)s)))))
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass
                  AND d.objid = c.oid AND (d.deptype IN ('e', 'x')
                    OR d.refclassid IN ('pg_proc'::regclass, 'pg_operator'::regclass)))
ORDER BY i.indrelid, i.indexrelid"""


class PlainIndex(NamedTuple):
    """An index, or a constraint that is one, as it is to be built again."""

    schema: str
    name: str
    table: str
    constraint: str | None
    definition: str

    def drop(self) -> sql.Composed:
        """Make the statement that drops it."""
        if self.constraint is None:
            return sql.SQL("DROP INDEX {}").format(sql.Identifier(self.schema, self.name))
        return sql.SQL("ALTER TABLE {} DROP CONSTRAINT {}").format(
            sql.Identifier(self.schema, self.table), sql.Identifier(self.constraint)
        )

    def build(self) -> sql.SQL | sql.Composed:
        """Make the statement that builds it again."""
        if self.constraint is None:
            return sql.SQL(self.definition)
        return sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} {}").format(
            sql.Identifier(self.schema, self.table),
            sql.Identifier(self.constraint),
            sql.SQL(self.definition),
        )


def plain_indexes(
    link: Link, oids: Sequence[int], keys: Collection[ForeignKey]
) -> list[PlainIndex]:
    """Find the indexes of tables that can be taken off and built again."""
    if not oids:
        return []
    params = {"oids": list(oids), "keys": [key.oid for key in keys]}
    return [PlainIndex(*row) for row in link.rows(_PLAIN_INDEXES, params)]


def drop_indexes(link: Link, indexes: Iterable[PlainIndex]) -> None:
    """Take indexes off, after the foreign keys that stand on them."""
    for index in indexes:
        link.later(index.drop())


def build_indexes(link: Link, indexes: Iterable[PlainIndex]) -> None:
    """Build indexes again, before the foreign keys that stand on them."""
    for index in indexes:
        link.later(index.build())

"""Indexes in a load: dropped before the rows are loaded, and built after.

Indexes of primary keys and unique constraints are included: inserting random keys into an
index row by row is the most expensive part of a load. Restores with all indexes in place and
without: 76 and 83 ms at 411 rows, 263 and 221 ms at 32,101, 1.25 and 0.90 s at 321,001, 6.7 and
4.15 s at 1,605,001.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from psycopg import sql

from perfdata.errors import RefusedError
from perfdata.text import join_first

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from perfdata.postgres.catalog import ForeignKey
    from perfdata.postgres.link import Link

# Indexes that their definition alone restores: without partitions, a comment, the marks CLUSTER or
# REPLICA IDENTITY, storage options of a constraint's, a statistics target, or dependents other than
# the dropped foreign keys. Not those whose expression calls a function outside pg_catalog: it may
# need the database's search path, and from 17 on index builds have none. In the order of creation:
# the planner takes the first of two indexes of equal cost.
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

_DUMPS = """
SELECT format('pid %s (user %s)', pid, usename) FROM pg_stat_activity
WHERE datname = current_database() AND application_name = 'pg_dump'"""


class PlainIndex(NamedTuple):
    """An index to be dropped and built again, by itself or with the constraint that needs it."""

    schema: str
    name: str
    table: str
    constraint: str | None
    definition: str

    def drop(self) -> sql.Composed:
        """Make the statement that drops the index, for after the foreign keys that depend on it."""
        if self.constraint is None:
            return sql.SQL("DROP INDEX {}").format(sql.Identifier(self.schema, self.name))
        return sql.SQL("ALTER TABLE {} DROP CONSTRAINT {}").format(
            sql.Identifier(self.schema, self.table), sql.Identifier(self.constraint)
        )

    def build(self) -> sql.SQL | sql.Composed:
        """Make the statement that builds the index, for before the keys that depend on it."""
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
    """Return the indexes of tables that can be dropped and built again; ``keys`` are dropped."""
    if not oids:
        return []
    params = {"oids": list(oids), "keys": [key.oid for key in keys]}
    return [PlainIndex(*row) for row in link.rows(_PLAIN_INDEXES, params)]


def refuse_dumps(link: Link) -> None:
    """Raise RefusedError while pg_dump reads this database: it would miss dropped indexes."""
    _, rows = link.together(["SELECT pg_stat_clear_snapshot()", _DUMPS])
    if dumps := [row[0] for row in rows]:
        raise RefusedError(
            "refused, everything is as it was: rebuild_indexes=True drops indexes, and a dump that "
            f"runs now would miss them: {join_first(dumps)}",
            remedy="Wait until the dump has ended, or leave out rebuild_indexes=True",
        )

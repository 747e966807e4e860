"""What a load takes off the tables and puts back: foreign keys, triggers, secondary indexes.

Constraints that are checked row by row cost three quarters of a load (DESIGN). Taken off and put
back in the same transaction they are checked once, and a failure brings all of it back.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, LiteralString, NamedTuple

from psycopg import sql

from perfdata.database.connection import first
from perfdata.errors import LoadError, SchemaError, ServerRefusedError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from perfdata.database.catalog import Catalog, ForeignKey, Table
    from perfdata.database.link import Link

# Below this many rows rebuilding the indexes gains nothing: 0.20 and 0.17 s at 32,101 rows,
# 1.25 and 1.0 s at 321,001, 6.7 and 5.4 s at 1,605,001 (POSTGRES.md, Loading).
INDEX_REBUILD_ROWS = 200_000

# Indexes that pg_get_indexdef alone brings back whole: no constraint, partition, comment, mark,
# option, own statistics target or dependant that a new index would not have.
_PLAIN_INDEXES = """
SELECT n.nspname, c.relname, pg_get_indexdef(c.oid)
FROM pg_index i
JOIN pg_class c ON c.oid = i.indexrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE i.indrelid = ANY (%s) AND c.relkind = 'i' AND NOT c.relispartition AND c.reltablespace = 0
  AND has_schema_privilege(n.oid, 'CREATE')
  AND i.indisvalid AND i.indisready AND NOT i.indisclustered AND NOT i.indisreplident
  AND obj_description(c.oid, 'pg_class') IS NULL
  AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attstattarget >= 0)
  AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = c.oid)
  AND NOT EXISTS (SELECT FROM pg_depend d
                  WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = c.oid)
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass
                  AND d.objid = c.oid AND d.deptype IN ('e', 'x'))
ORDER BY 1, 2"""

_TRIGGERS = """
SELECT t.tgrelid::bigint, t.tgname, t.tgenabled::text FROM pg_trigger t
WHERE t.tgrelid = ANY (%s) AND NOT t.tgisinternal AND t.tgparentid = 0 AND t.tgenabled <> 'D'
ORDER BY 1, 2"""

# What is not taken off by way of the tables themselves: keys of single partitions, keys of tables
# that are not read (an extension's), and triggers of a partition that differ from its root's.
_STRANGE = """
WITH RECURSIVE part (root, oid) AS (
  SELECT o, o FROM unnest(%(oids)s::oid[]) o
  UNION ALL SELECT p.root, i.inhrelid FROM part p JOIN pg_inherits i ON i.inhparent = p.oid
  JOIN pg_class c ON c.oid = i.inhrelid WHERE c.relispartition)
SELECT format('foreign key %%I of %%s', k.conname, k.conrelid::regclass) FROM pg_constraint k
WHERE k.contype = 'f' AND k.conparentid = 0
  AND (k.conrelid IN (SELECT oid FROM part) OR k.confrelid IN (SELECT oid FROM part))
  AND NOT k.oid = ANY (%(keys)s::oid[])
UNION ALL SELECT format('trigger %%I of %%s', t.tgname, t.tgrelid::regclass)
FROM part p JOIN pg_trigger t ON t.tgrelid = p.oid LEFT JOIN pg_trigger r ON r.oid = t.tgparentid
WHERE p.oid <> p.root AND NOT t.tgisinternal AND t.tgenabled IS DISTINCT FROM r.tgenabled
ORDER BY 1"""

_RULES = """
SELECT r.ev_class::regclass::text || ': ' || r.rulename FROM pg_rewrite r
WHERE r.ev_class = ANY (%s) AND r.ev_type <> '1' AND r.ev_enabled <> 'D' ORDER BY 1"""

# Everything about a table but its rows, a line each. Internal triggers are named by their
# constraint and function, because their own names hold an oid.
_DESCRIBED = """
SELECT format('table %%s: %%s', c.oid::regclass, (to_jsonb(c) - ARRAY['relfilenode', 'relpages',
  'reltuples', 'relallvisible', 'relallfrozen', 'relfrozenxid', 'relminmxid', 'reltoastrelid',
  'relhasindex', 'relhastriggers', 'relhasrules'])::text || coalesce(obj_description(c.oid), ''))
FROM pg_class c WHERE c.oid = ANY (%(oids)s)
UNION ALL SELECT format('column %%s.%%I: %%s', a.attrelid::regclass, a.attname,
  to_jsonb(a) - 'attmissingval')
FROM pg_attribute a WHERE a.attrelid = ANY (%(oids)s) AND a.attnum > 0 AND NOT a.attisdropped
UNION ALL SELECT format('constraint %%s.%%I: %%s %%s', k.conrelid::regclass, k.conname,
  to_jsonb(k) - ARRAY['oid', 'conindid', 'conbin'],
  pg_get_constraintdef(k.oid) || coalesce(obj_description(k.oid, 'pg_constraint'), ''))
FROM pg_constraint k
WHERE (k.conrelid = ANY (%(oids)s) OR k.confrelid = ANY (%(oids)s)) AND k.conparentid = 0
UNION ALL SELECT format('index %%s: %%s', i.indexrelid::regclass, pg_get_indexdef(i.indexrelid)
  || (to_jsonb(i) - ARRAY['indexrelid', 'indcheckxmin', 'indexprs', 'indpred'])::text
  || coalesce(obj_description(i.indexrelid), ''))
FROM pg_index i WHERE i.indrelid = ANY (%(oids)s)
UNION ALL SELECT format('trigger %%s.%%s: %%s %%s', t.tgrelid::regclass,
  coalesce(k.conname || ' ' || t.tgfoid::regproc::text, t.tgname), t.tgenabled,
  CASE WHEN NOT t.tgisinternal THEN pg_get_triggerdef(t.oid) END)
FROM pg_trigger t LEFT JOIN pg_constraint k ON k.oid = t.tgconstraint
WHERE t.tgrelid = ANY (%(oids)s) AND coalesce(k.conparentid, 0) = 0"""


_FOREIGN_KEY_VIOLATION = "23503"


_DEFERRABLE = """
SELECT DISTINCT n.nspname, k.conname, k.condeferred
FROM pg_constraint k JOIN pg_namespace n ON n.oid = k.connamespace
WHERE k.condeferrable AND k.conrelid = ANY (%s) ORDER BY 1, 2"""


class _Deferrable(NamedTuple):
    schema: str
    name: str
    deferred: bool


class _Index(NamedTuple):
    schema: str
    name: str
    definition: str


@contextmanager
def taken_off(
    link: Link, catalog: Catalog, tables: Collection[Table], rows: int | None
) -> Iterator[None]:
    """Take foreign keys, user triggers and (for many rows) indexes off; put all back and compare.

    To be used inside a transaction. Raises SchemaError, so that all is rolled back, where
    something about a table would not be as it was.
    """
    oids = [table.oid for table in tables]
    keys = [key for key in catalog.foreign_keys if key.child in oids or key.parent in oids]
    _refuse_rules(link, oids)
    _refuse_strange(link, oids, keys)
    touched = sorted({*oids, *(key.child for key in keys), *(key.parent for key in keys)})
    deferrable = [_Deferrable(*row) for row in link.rows(_DEFERRABLE, (touched,))]
    # What is deferred is checked now: tables with such events waiting can't be altered.
    _set_constraints(link, deferrable, "IMMEDIATE")
    before = _described(link, touched)
    indexes = _drop_indexes(link, oids) if rows and rows >= INDEX_REBUILD_ROWS else []
    triggers = _disable_triggers(link, catalog, oids)
    for key in keys:
        _alter(link, catalog.by_oid[key.child], "DROP CONSTRAINT {}", key.name)
    yield
    for index in indexes:
        link.execute(sql.SQL(index.definition))
    for key in keys:
        _add_key(link, catalog, key)
    for oid, name, state in triggers:
        forms = {"O": "ENABLE TRIGGER {}", "R": "ENABLE REPLICA TRIGGER {}"}
        form = forms.get(state, "ENABLE ALWAYS TRIGGER {}")
        _alter(link, catalog.by_oid[oid], form, name)
    _set_constraints(link, [one for one in deferrable if one.deferred], "DEFERRED")
    _compare(before, _described(link, touched))


def _set_constraints(link: Link, constraints: list[_Deferrable], when: LiteralString) -> None:
    if constraints:
        names = sql.SQL(", ").join(sql.Identifier(one.schema, one.name) for one in constraints)
        link.execute(sql.SQL("SET CONSTRAINTS {} {}").format(names, sql.SQL(when)))


def _described(link: Link, oids: list[int]) -> set[str]:
    return {row[0] for row in link.rows(_DESCRIBED, {"oids": oids})}


def _compare(before: set[str], after: set[str]) -> None:
    if differing := sorted({line.partition(":")[0] for line in before ^ after}):
        raise SchemaError(
            f"the load would not have left the tables as they were ({first(differing)}); "
            "everything was rolled back"
        )


def _refuse_rules(link: Link, oids: list[int]) -> None:
    if rules := [row[0] for row in link.rows(_RULES, (oids,))]:
        raise SchemaError(
            f"rules rewrite what is written to these tables, so that rows may silently stay or "
            f"go: {first(rules)}; disable them (ALTER TABLE … DISABLE RULE) for the load"
        )


def _refuse_strange(link: Link, oids: list[int], keys: list[ForeignKey]) -> None:
    params = {"oids": oids, "keys": [key.oid for key in keys]}
    if strange := [row[0] for row in link.rows(_STRANGE, params)]:
        raise SchemaError(
            f"the load can't take these off and put them back: {first(strange)}; nothing was "
            "touched. Define them on the partitioned table itself, or drop them for the load"
        )


def _drop_indexes(link: Link, oids: list[int]) -> list[_Index]:
    indexes = [_Index(*row) for row in link.rows(_PLAIN_INDEXES, (oids,))]
    for index in indexes:
        name = sql.Identifier(index.schema, index.name)
        link.execute(sql.SQL("DROP INDEX {}").format(name))
    return indexes


def _disable_triggers(link: Link, catalog: Catalog, oids: list[int]) -> list[tuple[int, str, str]]:
    triggers = [(oid, name, state) for oid, name, state in link.rows(_TRIGGERS, (oids,))]
    for oid, name, _ in triggers:
        _alter(link, catalog.by_oid[oid], "DISABLE TRIGGER {}", name)
    return triggers


def _add_key(link: Link, catalog: Catalog, key: ForeignKey) -> None:
    child = catalog.by_oid[key.child]
    definition = sql.SQL(key.definition)
    name = sql.Identifier(key.name)
    try:
        link.execute(
            sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} {}").format(
                child.identifier, name, definition
            )
        )
    except ServerRefusedError as error:
        if error.sqlstate != _FOREIGN_KEY_VIOLATION:
            raise
        raise LoadError(
            f"rows of {child.key} reference rows that are not there (constraint {key.name}: "
            f"{error.detail}); everything was rolled back"
        ) from error
    if key.comment is not None:
        link.execute(
            sql.SQL("COMMENT ON CONSTRAINT {} ON {} IS {}").format(
                name, child.identifier, sql.Literal(key.comment)
            )
        )


def _alter(link: Link, table: Table, action: str, name: str) -> None:
    act = sql.SQL(action).format(sql.Identifier(name))
    link.execute(sql.SQL("ALTER TABLE {} {}").format(table.identifier, act))

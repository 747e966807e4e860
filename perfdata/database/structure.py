"""What a load takes off the tables and puts back: foreign keys, triggers, secondary indexes.

Constraints that are checked row by row cost three quarters of a load (DESIGN). Taken off and put
back in the same transaction they are checked once, and a failure brings all of it back.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, LiteralString, NamedTuple

from psycopg import sql

from perfdata.database.connection import first
from perfdata.database.triggers import KeyStates, disable_triggers, enable_triggers
from perfdata.errors import LoadError, SchemaError, ServerRefusedError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

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

# What can't be taken off and put back, and what would happen besides: rules, keys of tables that
# are not read (an extension's), partitions on other servers, event triggers.
_SURVEY = """
WITH RECURSIVE part (oid) AS (
  SELECT unnest(%(oids)s::oid[])
  UNION ALL SELECT i.inhrelid FROM part p JOIN pg_inherits i ON i.inhparent = p.oid
  JOIN pg_class c ON c.oid = i.inhrelid WHERE c.relispartition)
SELECT 'rule', format('%%s: %%s', r.ev_class::regclass, r.rulename)
FROM pg_rewrite r JOIN part ON part.oid = r.ev_class
WHERE r.ev_type <> '1' AND r.ev_enabled <> 'D'
UNION ALL SELECT 'strange', format('foreign key %%I of %%s', k.conname, k.conrelid::regclass)
FROM pg_constraint k WHERE k.contype = 'f' AND k.conparentid = 0
  AND (k.conrelid IN (SELECT oid FROM part) OR k.confrelid IN (SELECT oid FROM part))
  AND NOT k.oid = ANY (%(keys)s::oid[])
UNION ALL SELECT 'foreign', c.oid::regclass::text
FROM part JOIN pg_class c ON c.oid = part.oid WHERE c.relkind = 'f'
UNION ALL SELECT 'event', evtname FROM pg_event_trigger WHERE evtenabled IN ('O', 'A')
UNION ALL SELECT 'quiet', name FROM pg_settings
WHERE name = 'event_triggers' AND current_setting('is_superuser') = 'on'
ORDER BY 1, 2"""

# Everything about a table and its partitions but their rows, a line each. Internal triggers are
# named by their constraint and function, because their own names hold an oid.
_DESCRIBED = """
WITH RECURSIVE part (oid) AS (
  SELECT unnest(%(oids)s::oid[])
  UNION SELECT i.inhrelid FROM part p JOIN pg_inherits i ON i.inhparent = p.oid
  JOIN pg_class c ON c.oid = i.inhrelid WHERE c.relispartition),
class AS (
  SELECT c.oid, (to_jsonb(c) - ARRAY['oid', 'relfilenode', 'relpages', 'reltuples',
    'relallvisible', 'relallfrozen', 'relfrozenxid', 'relminmxid', 'reltoastrelid', 'relhasindex',
    'relhastriggers', 'relhasrules'])::text || coalesce(obj_description(c.oid, 'pg_class'), '')
    AS facts
  FROM pg_class c)
SELECT format('table %%s: %%s', c.oid::regclass, c.facts) FROM class c JOIN part USING (oid)
UNION ALL SELECT format('column %%s.%%I: %%s', a.attrelid::regclass, a.attname,
  to_jsonb(a) - 'attmissingval')
FROM pg_attribute a JOIN part ON part.oid = a.attrelid WHERE a.attnum > 0 AND NOT a.attisdropped
UNION ALL SELECT format('constraint %%s.%%I: %%s %%s', k.conrelid::regclass, k.conname,
  to_jsonb(k) - ARRAY['oid', 'conindid', 'conbin'],
  pg_get_constraintdef(k.oid) || coalesce(obj_description(k.oid, 'pg_constraint'), ''))
FROM pg_constraint k WHERE k.conparentid = 0
  AND (k.conrelid IN (SELECT oid FROM part) OR k.confrelid IN (SELECT oid FROM part))
UNION ALL SELECT format('index %%s: %%s', i.indexrelid::regclass, pg_get_indexdef(i.indexrelid)
  || (to_jsonb(i) - ARRAY['indexrelid', 'indcheckxmin', 'indexprs', 'indpred'])::text || c.facts
  || ARRAY(SELECT a.attstattarget FROM pg_attribute a
           WHERE a.attrelid = i.indexrelid ORDER BY a.attnum)::text)
FROM pg_index i JOIN part ON part.oid = i.indrelid JOIN class c ON c.oid = i.indexrelid
UNION ALL SELECT format('trigger %%s.%%s: %%s %%s', t.tgrelid::regclass,
  coalesce(k.conname || ' ' || t.tgfoid::regproc::text, t.tgname), t.tgenabled,
  CASE WHEN NOT t.tgisinternal THEN pg_get_triggerdef(t.oid) END)
FROM pg_trigger t JOIN part ON part.oid = t.tgrelid
LEFT JOIN pg_constraint k ON k.oid = t.tgconstraint
WHERE coalesce(k.conparentid, 0) = 0
UNION ALL SELECT format('trigger %%s.%%s of a partition: %%s, %%s times', t.tgrelid::regclass,
  t.tgfoid::regproc, t.tgenabled, count(*))
FROM pg_trigger t JOIN part ON part.oid = t.tgrelid JOIN pg_constraint k ON k.oid = t.tgconstraint
WHERE k.conparentid <> 0 GROUP BY t.tgrelid, t.tgfoid, t.tgenabled"""

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
) -> Iterator[Sequence[str]]:
    """Take foreign keys, user triggers and (for many rows) indexes off; put all back and compare.

    To be used inside a transaction; gives what a user should know of it. Raises
    SchemaError, so that all is rolled back, where something about a table would not be as it was.
    """
    oids = [table.oid for table in tables]
    keys = [key for key in catalog.foreign_keys if key.child in oids or key.parent in oids]
    found = _survey(link, oids, keys)
    touched = sorted({*oids, *(key.child for key in keys), *(key.parent for key in keys)})
    deferrable = [_Deferrable(*row) for row in link.rows(_DEFERRABLE, (touched,))]
    # What is deferred is checked now: tables with such events waiting can't be altered.
    _set_constraints(link, deferrable, "IMMEDIATE")
    before = _described(link, touched)
    states = KeyStates(link, keys)
    resting = states.resting(catalog, tables)
    keys = [key for key in keys if key not in resting]
    with _quiet(link, found):
        indexes = _drop_indexes(link, oids) if rows and rows >= INDEX_REBUILD_ROWS else []
        triggers = disable_triggers(link, tables)
        for key in keys:
            drop = sql.SQL("ALTER TABLE {} DROP CONSTRAINT {}")
            link.execute(drop.format(key.referencing.identifier, sql.Identifier(key.name)))
        yield _event_notes(found) if indexes or triggers or keys else ()
        for index in indexes:
            link.execute(sql.SQL(index.definition))
        for key in keys:
            _add_key(link, catalog, key)
        states.put_back(keys)
        enable_triggers(link, triggers)
    _set_constraints(link, [one for one in deferrable if one.deferred], "DEFERRED")
    _compare(before, _described(link, touched))


def _survey(link: Link, oids: list[int], keys: list[ForeignKey]) -> Mapping[str, list[str]]:
    """Find what stands in the way of a load, and raise SchemaError naming it."""
    found: dict[str, list[str]] = {}
    for kind, name in link.rows(_SURVEY, {"oids": oids, "keys": [key.oid for key in keys]}):
        found.setdefault(kind, []).append(name)
    if rules := found.get("rule"):
        raise SchemaError(
            f"rules rewrite what is written to these tables, so that rows may silently stay or "
            f"go: {first(rules)}; disable them (ALTER TABLE … DISABLE RULE) for the load"
        )
    if strange := found.get("strange"):
        raise SchemaError(
            f"the load can't take these off and put them back, as they tie the tables to an "
            f"extension's: {first(strange)}; nothing was touched. Drop them for the load"
        )
    if foreign := found.get("foreign"):
        raise SchemaError(
            f"these partitions are foreign tables, whose rows are another server's: "
            f"{first(foreign)}; nothing was touched. Detach them for the load"
        )
    return found


def _event_notes(found: Mapping[str, list[str]]) -> tuple[str, ...]:
    events = [] if "quiet" in found else found.get("event", [])
    if not events:
        return ()
    work = "keys, triggers or indexes were taken off and put back"
    return (f"event triggers fired when {work}: {first(events)}",)


@contextmanager
def _quiet(link: Link, found: Mapping[str, list[str]]) -> Iterator[None]:
    """Let no event trigger fire, where the server (from 17 on) lets a superuser say so."""
    change = "SELECT set_config('event_triggers', %s, true)"
    setting = bool({"quiet", "event"} <= found.keys()) and link.value("SHOW event_triggers")
    if setting:
        link.rows(change, ("off",))
    yield
    if setting:
        link.rows(change, (setting,))


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


def _drop_indexes(link: Link, oids: list[int]) -> list[_Index]:
    indexes = [_Index(*row) for row in link.rows(_PLAIN_INDEXES, (oids,))]
    for index in indexes:
        name = sql.Identifier(index.schema, index.name)
        link.execute(sql.SQL("DROP INDEX {}").format(name))
    return indexes


def _add_key(link: Link, catalog: Catalog, key: ForeignKey) -> None:
    child = key.referencing.identifier
    name = sql.Identifier(key.name)
    add = sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} {}")
    try:
        link.execute(add.format(child, name, sql.SQL(key.definition)))
    except ServerRefusedError as error:
        if error.sqlstate != _FOREIGN_KEY_VIOLATION:
            raise
        raise LoadError(
            f"rows of {catalog.by_oid[key.child].key} reference rows that are not there "
            f"(constraint {key.name}: {error.detail}); everything was rolled back"
        ) from error
    if key.comment is not None:
        link.execute(
            sql.SQL("COMMENT ON CONSTRAINT {} ON {} IS {}").format(
                name, child, sql.Literal(key.comment)
            )
        )

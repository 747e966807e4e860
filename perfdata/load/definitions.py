"""The definitions of tables: what a load can't restore is refused, and nothing else may change."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from perfdata.errors import SchemaError
from perfdata.postgres.catalog import table_key
from perfdata.text import first

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from perfdata.load.plan import Plan
    from perfdata.postgres.link import AnyQuery, Link, Rows

# Rules, foreign keys that the catalog leaves out (an extension's), partitions on other servers,
# event triggers, and whether this role can disable event triggers.
_SURVEY = """
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
UNION ALL SELECT 'event', evtname, NULL, NULL FROM pg_event_trigger WHERE evtenabled IN ('O', 'A')
UNION ALL SELECT 'can_disable', name, NULL, NULL FROM pg_settings
WHERE name = 'event_triggers' AND current_setting('is_superuser') = 'on'
ORDER BY 1, 3, 4, 2"""
_LABELS = {
    "rule": "{table}: {name}",
    "extension_key": "foreign key {name} of {table}",
    "foreign": "{table}",
}

# Everything about tables and their partitions except rows, one line per object. Internal triggers
# are named by their constraint and function, because their own names contain an oid.
_DEFINITIONS = """
WITH RECURSIVE part (oid) AS (
  SELECT unnest(%(oids)s::oid[])
  UNION SELECT i.inhrelid FROM part p JOIN pg_inherits i ON i.inhparent = p.oid
  JOIN pg_class c ON c.oid = i.inhrelid WHERE c.relispartition),
class AS NOT MATERIALIZED (
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


class EventTriggers(NamedTuple):
    """The enabled event triggers, and whether this role can disable them (from PostgreSQL 17)."""

    names: Sequence[str]
    can_disable: bool

    @property
    def notes(self) -> tuple[str, ...]:
        """The message for users if event triggers fired."""
        if self.can_disable or not self.names:
            return ()
        work = "keys, triggers or indexes were dropped and recreated"
        return (f"event triggers fired when {work}: {first(self.names)}",)


def survey_query(plan: Plan) -> AnyQuery:
    """Make the query for what a load can't restore, and for event triggers."""
    oids, keys = [table.oid for table in plan.tables], [key.oid for key in plan.keys]
    return _SURVEY, {"oids": oids, "keys": keys}


def check_survey(rows: Rows) -> EventTriggers:
    """Raise SchemaError if the tables have something that a load can't restore."""
    found: dict[str, list[str]] = {}
    for kind, name, schema, table in rows:
        key = table_key(schema, table) if table else ""
        label = _LABELS.get(kind, "{name}").format(name=name, table=key)
        found.setdefault(kind, []).append(label)
    if rules := found.get("rule"):
        raise SchemaError(
            "rules rewrite what is written to these tables, so rows may silently stay or be "
            f"lost: {first(rules)}",
            remedy="Disable them for the load (ALTER TABLE … DISABLE RULE)",
        )
    if keys := found.get("extension_key"):
        raise SchemaError(
            "the load can't drop and recreate these, because they tie the tables to an "
            f"extension's: {first(keys)}; nothing was touched",
            remedy="Drop them for the load",
        )
    if partitions := found.get("foreign"):
        raise SchemaError(
            "these partitions are foreign tables, whose rows are on another server: "
            f"{first(partitions)}; nothing was touched",
            remedy="Detach them for the load",
        )
    return EventTriggers(found.get("event", []), "can_disable" in found)


@contextmanager
def without_event_triggers(link: Link, triggers: EventTriggers) -> Iterator[None]:
    """Disable event triggers for the block if this role can."""
    change = "SELECT set_config('event_triggers', %s, true)"
    setting = bool(triggers.names and triggers.can_disable) and link.value("SHOW event_triggers")
    if setting:
        link.later(change, ("off",))
    yield
    if setting:
        link.later(change, (setting,))


def definitions_query(oids: Collection[int]) -> AnyQuery:
    """Make the query for the definitions of tables and all that belongs to them."""
    return _DEFINITIONS, {"oids": list(oids)}


def compare_definitions(before: Rows, after: Rows) -> None:
    """Raise SchemaError if the rows of definitions_query differ."""
    changed = {line for (line,) in before} ^ {line for (line,) in after}
    if changed:
        names = sorted({line.partition(":")[0] for line in changed})
        raise SchemaError(
            f"the load would have changed these definitions: {first(names)}; "
            "everything was rolled back"
        )

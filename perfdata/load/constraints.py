"""What a load takes off the tables and puts back: foreign keys, triggers, secondary indexes.

Constraints that are checked row by row cost three quarters of a load (DESIGN). Taken off and put
back in the same transaction they are checked once, and a failure brings all of it back.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, LiteralString, NamedTuple

from psycopg import sql

from perfdata.errors import LoadError, SchemaError, ServerRefusedError
from perfdata.load.indexes import build_indexes, drop_indexes, plain_indexes
from perfdata.load.triggers import (
    KeyStates,
    disable_triggers,
    enable_triggers,
    key_triggers,
    triggers_of,
    user_trigger,
)
from perfdata.load.unproven import (
    UnprovenCheck,
    add_unproven,
    drop_unproven,
    unproven_of,
)
from perfdata.postgres.catalog import table_key
from perfdata.postgres.link import Check
from perfdata.text import first

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from perfdata.load.existing import Removal
    from perfdata.load.indexes import PlainIndex
    from perfdata.load.plan import Plan
    from perfdata.postgres.catalog import Catalog, ForeignKey, Table
    from perfdata.postgres.link import Link, Rows

# What can't be taken off and put back, and what would happen besides: rules, keys of tables that
# are not read (an extension's), partitions on other servers, event triggers.
_SURVEY = """
WITH RECURSIVE part (oid) AS (
  SELECT unnest(%(oids)s::oid[])
  UNION ALL SELECT i.inhrelid FROM part p JOIN pg_inherits i ON i.inhparent = p.oid
  JOIN pg_class c ON c.oid = i.inhrelid WHERE c.relispartition)
SELECT 'rule', r.rulename, n.nspname, c.relname
FROM pg_rewrite r JOIN part ON part.oid = r.ev_class JOIN pg_class c ON c.oid = r.ev_class
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE r.ev_type <> '1' AND r.ev_enabled <> 'D'
UNION ALL SELECT 'strange', k.conname, n.nspname, c.relname
FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
JOIN pg_namespace n ON n.oid = c.relnamespace WHERE k.contype = 'f' AND k.conparentid = 0
  AND (k.conrelid IN (SELECT oid FROM part) OR k.confrelid IN (SELECT oid FROM part))
  AND NOT k.oid = ANY (%(keys)s::oid[])
UNION ALL SELECT 'foreign', '', n.nspname, c.relname
FROM part JOIN pg_class c ON c.oid = part.oid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'f'
UNION ALL SELECT 'event', evtname, NULL, NULL FROM pg_event_trigger WHERE evtenabled IN ('O', 'A')
UNION ALL SELECT 'quiet', name, NULL, NULL FROM pg_settings
WHERE name = 'event_triggers' AND current_setting('is_superuser') = 'on'
ORDER BY 1, 3, 4, 2"""
_SAID = {
    "rule": "{table}: {name}",
    "strange": "foreign key {name} of {table}",
    "foreign": "{table}",
}

# Everything about a table and its partitions but their rows, a line each. Internal triggers are
# named by their constraint and function, because their own names hold an oid.
_DESCRIBED = """
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

_FOREIGN_KEY_VIOLATION = "23503"
_NOT_ENFORCED_SINCE = 180000


_DEFERRABLE = """
SELECT DISTINCT n.nspname, k.conname, k.condeferred
FROM pg_constraint k JOIN pg_namespace n ON n.oid = k.connamespace
WHERE k.condeferrable AND k.conrelid = ANY (%s) ORDER BY 1, 2"""


class _Deferrable(NamedTuple):
    schema: str
    name: str
    deferred: bool


@dataclass
class TakenOff:
    """What was taken off, and is put back at the end, unless that was done before (``rebuilt``).

    ``suspended`` are the keys that are NOT ENFORCED meanwhile, ``resting`` those that were left, on
    empty tables. ``notes`` is what a user should know.
    """

    indexes: Sequence[PlainIndex]
    keys: Sequence[ForeignKey]
    suspended: Sequence[ForeignKey]
    resting: Sequence[ForeignKey]
    notes: Sequence[str]
    rebuilt: bool = False

    def put_back(self, link: Link) -> None:
        """Build the indexes and add the keys, where that was not done yet."""
        if not self.rebuilt:
            with link.own_path():
                build_indexes(link, self.indexes)
                for key in self.keys:
                    add_key(link, key)
                for key in self.suspended:
                    _enforce(link, key, "ENFORCED")
            self.rebuilt = True


@contextmanager
def taken_off(link: Link, plan: Plan, before: Collection[Removal]) -> Iterator[TakenOff]:
    """Take foreign keys, user triggers and the indexes that are to be rebuilt off; put all back.

    To be used inside a transaction, or where all is thrown away after an error. Where no table is
    truncated and no index rebuilt, PostgreSQL 18 keeps the keys, NOT ENFORCED for as long. Raises
    SchemaError where something about a table would not be as it was.
    """
    catalog, tables = plan.catalog, plan.tables
    oids = [table.oid for table in tables]
    keys = _keys_of(catalog, oids)
    touched = sorted({*oids, *(key.child for key in keys), *(key.parent for key in keys)})
    old_rows = plan.selection.all_rows  # they come past checks that are NOT VALID
    version, survey, deferrables, states_before, user_triggers, checks, described = link.together(
        [
            "SELECT current_setting('server_version_num')::int",
            (_SURVEY, {"oids": oids, "keys": [key.oid for key in keys]}),
            (_DEFERRABLE, (touched,)),
            key_triggers(keys),
            triggers_of(oids),
            unproven_of(oids if old_rows else ()),
            (_DESCRIBED, {"oids": touched}),
        ]
    )
    found = _surveyed(survey)
    states = KeyStates(link, keys, states_before)
    resting = states.resting(catalog, tables)
    keys = [key for key in keys if key not in resting]
    suspended: list[ForeignKey] = []
    if version[0][0] >= _NOT_ENFORCED_SINCE and not any(
        one.truncate or one.rebuild for one in before
    ):
        suspended = [key for key in keys if not key.unchecked]
    dropped = [key for key in keys if key not in suspended]
    indexes = plain_indexes(link, [one.table.oid for one in before if one.rebuild], dropped)
    triggers = [user_trigger(row) for row in user_triggers]
    unproven = [UnprovenCheck(*row) for row in checks]
    deferrable = [_Deferrable(*row) for row in deferrables]
    # What is deferred is checked now: tables with such events waiting can't be altered.
    _set_constraints(link, deferrable, "IMMEDIATE")
    with _quiet(link, found), _dangling_told(catalog, keys):
        with link.own_path():  # event triggers may find what they use by it
            disable_triggers(link, triggers)
            for key in dropped:
                drop = sql.SQL("ALTER TABLE {} DROP CONSTRAINT {}")
                link.later(drop.format(key.referencing.identifier, sql.Identifier(key.name)))
            for key in suspended:
                _enforce(link, key, "NOT ENFORCED")
            drop_unproven(link, unproven)
            drop_indexes(link, indexes)
        touching = indexes or triggers or keys or unproven
        off = TakenOff(
            indexes, dropped, suspended, resting, _event_notes(found) if touching else ()
        )
        yield off
        with link.own_path():
            add_unproven(link, unproven)
        off.put_back(link)
        states.put_back(keys)
        with link.own_path():
            enable_triggers(link, triggers)
        _set_constraints(link, [one for one in deferrable if one.deferred], "DEFERRED")
        after = link.rows(_DESCRIBED, {"oids": touched})
    _compare({row[0] for row in described}, {row[0] for row in after})


def survey_check(catalog: Catalog, tables: Collection[Table]) -> Check:
    """Check that nothing stands in the way of a load; SchemaError names what does."""
    oids = [table.oid for table in tables]
    keys = [key.oid for key in _keys_of(catalog, oids)]

    def judge(answers: Sequence[Rows]) -> None:
        _surveyed(answers[0])

    return Check([(_SURVEY, {"oids": oids, "keys": keys})], judge)


def _keys_of(catalog: Catalog, oids: Collection[int]) -> list[ForeignKey]:
    return [key for key in catalog.foreign_keys if key.child in oids or key.parent in oids]


def _surveyed(rows: Rows) -> Mapping[str, list[str]]:
    """Raise SchemaError, naming it, where something stands in the way of a load."""
    found: dict[str, list[str]] = {}
    for kind, name, schema, table in rows:
        key = table_key(schema, table) if table else ""
        found.setdefault(kind, []).append(_SAID.get(kind, "{name}").format(name=name, table=key))
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
        link.later(change, ("off",))
    yield
    if setting:
        link.later(change, (setting,))


def _set_constraints(link: Link, constraints: list[_Deferrable], when: LiteralString) -> None:
    if constraints:
        names = sql.SQL(", ").join(sql.Identifier(one.schema, one.name) for one in constraints)
        link.later(sql.SQL("SET CONSTRAINTS {} {}").format(names, sql.SQL(when)))


def _compare(before: set[str], after: set[str]) -> None:
    if differing := sorted({line.partition(":")[0] for line in before ^ after}):
        raise SchemaError(
            f"the load would not have left the tables as they were ({first(differing)}); "
            "everything was rolled back"
        )


def _enforce(link: Link, key: ForeignKey, how: LiteralString) -> None:
    alter = sql.SQL("ALTER TABLE {} ALTER CONSTRAINT {} {}")
    name = sql.Identifier(key.name)
    link.later(alter.format(key.referencing.identifier, name, sql.SQL(how)))


def add_key(link: Link, key: ForeignKey, *, unchecked: bool = False) -> None:
    """Put a foreign key back; ``unchecked``: its rows are checked later, by validating it."""
    child = key.referencing.identifier
    name = sql.Identifier(key.name)
    add = sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} {}")
    definition = f"{key.definition} NOT VALID" if unchecked else key.definition
    link.later(add.format(child, name, sql.SQL(definition)))
    if key.comment is not None:
        link.later(
            sql.SQL("COMMENT ON CONSTRAINT {} ON {} IS {}").format(
                name, child, sql.Literal(key.comment)
            )
        )


@contextmanager
def _dangling_told(catalog: Catalog, keys: Collection[ForeignKey]) -> Iterator[None]:
    """Name the table whose rows reference none, where a key could not be put back."""
    try:
        yield
    except ServerRefusedError as error:
        if error.sqlstate != _FOREIGN_KEY_VIOLATION:
            raise
        children = {catalog.by_oid[k.child].key for k in keys if k.name == error.constraint}
        raise LoadError(
            f"rows of {', '.join(sorted(children)) or 'a table'} reference rows that are not there "
            f"(constraint {error.constraint}: {error.detail}); everything was rolled back"
        ) from error

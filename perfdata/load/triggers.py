"""Triggers in a load: they do not fire, and disabled foreign keys stay disabled."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, LiteralString, NamedTuple

from psycopg import sql

from perfdata.errors import SchemaError
from perfdata.text import join_first

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from perfdata.postgres.catalog import Catalog, ForeignKey, Table
    from perfdata.postgres.link import AnyQuery, Link, Rows

# Also the triggers' copies on partitions, whose states may differ from the root's.
_USER_TRIGGERS = """
WITH RECURSIVE part (oid) AS (
  SELECT unnest(%s::oid[])
  UNION ALL SELECT i.inhrelid FROM part p JOIN pg_inherits i ON i.inhparent = p.oid
  JOIN pg_class c ON c.oid = i.inhrelid WHERE c.relispartition)
SELECT n.nspname, c.relname, c.relkind = 'p', t.tgname, t.tgenabled::text
FROM part JOIN pg_trigger t ON t.tgrelid = part.oid
JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE NOT t.tgisinternal AND t.tgenabled <> 'D' ORDER BY 1, 2, 4"""

# The triggers that enforce a foreign key, on both tables and their partitions. Keys are found by
# name: a key that was dropped and added has a new oid, and its triggers have new names.
_KEY_TRIGGERS = """
WITH RECURSIVE tree (schema, child, key, oid) AS (
  SELECT n.nspname, c.relname, k.conname, k.oid
  FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN unnest(%s::text[], %s::text[], %s::text[]) AS w (schema, child, key)
    ON w.schema = n.nspname AND w.child = c.relname AND w.key = k.conname
  UNION ALL SELECT t.schema, t.child, t.key, k.oid
  FROM tree t JOIN pg_constraint k ON k.conparentid = t.oid)
SELECT tree.schema, tree.child, tree.key, n.nspname, c.relname, p.proname, t.tgname,
  t.tgenabled::text
FROM tree JOIN pg_trigger t ON t.tgconstraint = tree.oid
JOIN pg_proc p ON p.oid = t.tgfoid
JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace"""

# The enabled event triggers, and whether this role can disable them (from PostgreSQL 17).
_EVENT_TRIGGERS = """
SELECT coalesce((SELECT array_agg(evtname::text ORDER BY evtname) FROM pg_event_trigger
                 WHERE evtenabled IN ('O', 'A')), '{}'),
  current_setting('is_superuser') = 'on'
  AND EXISTS (SELECT FROM pg_settings WHERE name = 'event_triggers')"""

_ENABLED, DISABLED = "O", "D"
_ACTIONS = {
    _ENABLED: "ENABLE TRIGGER {}",
    DISABLED: "DISABLE TRIGGER {}",
    "R": "ENABLE REPLICA TRIGGER {}",
    "A": "ENABLE ALWAYS TRIGGER {}",
}
_CHECK_FUNCTIONS = {"RI_FKey_check_ins", "RI_FKey_check_upd"}


class EventTriggers(NamedTuple):
    """The row of event_triggers_query."""

    names: Sequence[str]
    can_disable: bool

    @property
    def notes(self) -> tuple[str, ...]:
        """The message for users if event triggers fired."""
        if self.can_disable or not self.names:
            return ()
        work = "keys, triggers or indexes were dropped and recreated"
        return (f"event triggers fired when {work}: {join_first(self.names)}",)


class UserTrigger(NamedTuple):
    """A row of user_triggers_query; ``state`` is a value of pg_trigger.tgenabled."""

    schema: str
    table: str
    partitioned: bool
    name: str
    state: str


class _KeyTrigger(NamedTuple):
    schema: str
    child: str
    key: str
    table_schema: str
    table: str
    function: str
    name: str
    state: str

    @property
    def identity(self) -> Sequence[str]:
        """What stays the same when the key is dropped and added."""
        return self[:6]


def event_triggers_query() -> AnyQuery:
    """Make the query for EventTriggers."""
    return _EVENT_TRIGGERS


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


def user_triggers_query(oids: Sequence[int]) -> AnyQuery:
    """Make the query for the enabled user triggers of tables and their partitions."""
    return _USER_TRIGGERS, (oids,)


def set_trigger_states(
    link: Link, triggers: Collection[UserTrigger], state: str | None = None
) -> None:
    """Queue setting the state of triggers; without ``state``, restoring each trigger's own."""
    for trigger in triggers:
        _set_state(link, trigger.schema, trigger.table, trigger.name, state or trigger.state)


class DisabledKeys:
    """The foreign keys that have disabled triggers, and the states of these triggers.

    ``triggers`` are the rows of key_triggers_query.
    """

    def __init__(self, link: Link, keys: Collection[ForeignKey], triggers: Rows) -> None:
        self._link = link
        self._triggers = [_KeyTrigger(*row) for row in triggers]
        disabled = {trigger[:3] for trigger in self._triggers if trigger.state != _ENABLED}
        self._keys = [key for key in keys if _name(key) in disabled]

    def kept(self, catalog: Catalog, tables: Collection[Table]) -> list[ForeignKey]:
        """Return the disabled keys that need not be dropped, because they check no loaded row.

        Both tables of such a key are empty, and are truncated and filled together. Only a superuser
        can disable the other keys again: raises SchemaError, naming the keys, for other roles.
        """
        kept = [key for key in self._keys if self._can_be_kept(key, catalog, tables)]
        others = [key for key in self._keys if key not in kept]
        if others and self._link.value("SELECT current_setting('is_superuser')") != "on":
            names = [f"{key.name} of {catalog.by_oid[key.child].key}" for key in others]
            raise SchemaError(
                "these foreign keys are disabled, and only a superuser could disable them again "
                f"after the load: {join_first(names)}",
                remedy="Nothing was touched. Enable them (ALTER TABLE … ENABLE TRIGGER ALL), "
                "drop them for the load, or run it as a superuser",
            )
        return kept

    def _can_be_kept(self, key: ForeignKey, catalog: Catalog, tables: Collection[Table]) -> bool:
        ends = {key.child, key.parent}
        states = {
            trigger.state
            for trigger in self._triggers
            if trigger[:3] == _name(key) and trigger.function in _CHECK_FUNCTIONS
        }
        if states != {DISABLED} or not ends <= {table.oid for table in tables}:
            return False
        empty = sql.SQL(" AND ").join(
            sql.SQL("NOT EXISTS (SELECT FROM {})").format(catalog.by_oid[oid].only) for oid in ends
        )
        return bool(self._link.value(sql.SQL("SELECT {}").format(empty)))

    def disable_again(self, keys: Collection[ForeignKey]) -> None:
        """Queue restoring the states of disabled triggers, for keys that were dropped and added."""
        disabled = [key for key in keys if key in self._keys]
        if not disabled:
            return
        states = {
            trigger.identity: trigger.state
            for trigger in self._triggers
            if trigger.state != _ENABLED
        }
        found = [_KeyTrigger(*row) for row in self._link.rows(*key_triggers_query(disabled))]
        with self._link.own_path():
            for trigger in found:
                if state := states.get(trigger.identity):
                    _set_state(self._link, trigger.table_schema, trigger.table, trigger.name, state)


def key_triggers_query(keys: Collection[ForeignKey]) -> tuple[LiteralString, Sequence[list[str]]]:
    """Make the query for the triggers that enforce these foreign keys."""
    names = [_name(key) for key in keys]
    return _KEY_TRIGGERS, [[name[part] for name in names] for part in range(3)]


def _name(key: ForeignKey) -> tuple[str, str, str]:
    return key.referencing.schema, key.referencing.name, key.name


def _set_state(link: Link, schema: str, table: str, name: str, state: str) -> None:
    action = sql.SQL(_ACTIONS[state]).format(sql.Identifier(name))
    # ONLY, because each partition's trigger has its own state.
    alter = sql.SQL("ALTER TABLE ONLY {} {}")
    link.later(alter.format(sql.Identifier(schema, table), action))

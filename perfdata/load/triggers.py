"""Triggers in a load: users' are not fired, and those of disabled foreign keys stay disabled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, LiteralString, NamedTuple

from psycopg import sql

from perfdata.errors import SchemaError
from perfdata.postgres.catalog import Relation
from perfdata.text import first

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from perfdata.postgres.catalog import Catalog, ForeignKey, Table
    from perfdata.postgres.link import AnyQuery, Link, Rows

# Each relation's own, clones on partitions too: their states may differ from the root's.
_TRIGGERS = """
WITH RECURSIVE part (oid) AS (
  SELECT unnest(%s::oid[])
  UNION ALL SELECT i.inhrelid FROM part p JOIN pg_inherits i ON i.inhparent = p.oid
  JOIN pg_class c ON c.oid = i.inhrelid WHERE c.relispartition)
SELECT n.nspname, c.relname, c.relkind = 'p', t.tgname, t.tgenabled::text
FROM part JOIN pg_trigger t ON t.tgrelid = part.oid
JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE NOT t.tgisinternal AND t.tgenabled <> 'D' ORDER BY 1, 2, 4"""

# The triggers that keep a foreign key, on both ends and on their partitions. A key is known by its
# name: it has another oid when it is put back, and so have the names of its triggers.
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

_ENABLED, _DISABLED = "O", "D"
_FORMS = {
    _ENABLED: "ENABLE TRIGGER {}",
    _DISABLED: "DISABLE TRIGGER {}",
    "R": "ENABLE REPLICA TRIGGER {}",
    "A": "ENABLE ALWAYS TRIGGER {}",
}
_CHECKS = {"RI_FKey_check_ins", "RI_FKey_check_upd"}


class UserTrigger(NamedTuple):
    """A trigger that somebody made, and how it is enabled."""

    relation: Relation
    name: str
    state: str


class _KeyTrigger(NamedTuple):
    schema: str
    child: str
    key: str
    on_schema: str
    on: str
    function: str
    name: str
    state: str

    @property
    def place(self) -> Sequence[str]:
        """What tells it from others, whatever it is called."""
        return self[:6]


def triggers_of(oids: Sequence[int]) -> AnyQuery:
    """Make the query for the enabled triggers that users put on tables and their partitions."""
    return _TRIGGERS, (oids,)


def user_trigger(row: tuple[Any, ...]) -> UserTrigger:
    """Read one row of that query."""
    return UserTrigger(Relation(*row[:3]), *row[3:])


def disable_triggers(link: Link, triggers: Collection[UserTrigger]) -> None:
    """Disable users' triggers."""
    for one in triggers:
        _set_state(link, one.relation, one.name, _DISABLED)


def enable_triggers(link: Link, triggers: Collection[UserTrigger]) -> None:
    """Give triggers the states back that they had."""
    for one in triggers:
        _set_state(link, one.relation, one.name, one.state)


class KeyStates:
    """The states of the foreign keys' own triggers, of those keys that somebody disabled."""

    def __init__(self, link: Link, keys: Collection[ForeignKey], before: Rows) -> None:
        """Take the keys and, as they are before, the rows of key_triggers."""
        self._link = link
        self._before = [_KeyTrigger(*row) for row in before]
        disabled = {one[:3] for one in self._before if one.state != _ENABLED}
        self.disabled = [key for key in keys if _named(key) in disabled]

    def resting(self, catalog: Catalog, tables: Collection[Table]) -> list[ForeignKey]:
        """Return the disabled keys that may stay where they are: they check nothing that comes in.

        Both their tables are empty, and truncated and filled together. All others are put back by
        a superuser alone: raises SchemaError, naming them, for who is none.
        """
        resting = [key for key in self.disabled if self._rests(key, catalog, tables)]
        others = [key for key in self.disabled if key not in resting]
        if others and self._link.value("SELECT current_setting('is_superuser')") != "on":
            named = [f"{key.name} of {catalog.by_oid[key.child].key}" for key in others]
            raise SchemaError(
                f"these foreign keys are disabled, and only a superuser could put them back so: "
                f"{first(named)}; nothing was touched. Enable them (ALTER TABLE … ENABLE TRIGGER "
                "ALL), drop them for the load, or let a superuser do it"
            )
        return resting

    def _rests(self, key: ForeignKey, catalog: Catalog, tables: Collection[Table]) -> bool:
        ends = {key.child, key.parent}
        checks = [
            one.state for one in self._before if one[:3] == _named(key) and one.function in _CHECKS
        ]
        if {*checks} != {_DISABLED} or not ends <= {table.oid for table in tables}:
            return False
        empty = sql.SQL(" AND ").join(
            sql.SQL("NOT EXISTS (SELECT FROM {})").format(catalog.by_oid[oid].only) for oid in ends
        )
        return bool(self._link.value(sql.SQL("SELECT {}").format(empty)))

    def put_back(self, keys: Collection[ForeignKey]) -> None:
        """Disable again, of keys that were added again, what was disabled."""
        disabled = [key for key in keys if key in self.disabled]
        if not disabled:
            return
        states = {one.place: one.state for one in self._before if one.state != _ENABLED}
        found = [_KeyTrigger(*row) for row in self._link.rows(*key_triggers(disabled))]
        with self._link.own_path():
            for one in found:
                if state := states.get(one.place):
                    relation = Relation(one.on_schema, one.on, partitioned=False)
                    _set_state(self._link, relation, one.name, state)


def key_triggers(keys: Collection[ForeignKey]) -> tuple[LiteralString, Sequence[list[str]]]:
    """Make the query for the triggers that keep these keys."""
    named = [_named(key) for key in keys]
    return _KEY_TRIGGERS, [[one[n] for one in named] for n in range(3)]


def _named(key: ForeignKey) -> tuple[str, str, str]:
    return key.referencing.schema, key.referencing.name, key.name


def _set_state(link: Link, relation: Relation, name: str, state: str) -> None:
    action = sql.SQL(_FORMS[state]).format(sql.Identifier(name))
    # ONLY: partitions have states of their own.
    link.later(sql.SQL("ALTER TABLE ONLY {} {}").format(relation.identifier, action))

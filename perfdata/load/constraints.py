"""The constraints of tables during a load: dropped or disabled before it, restored after it.

This module owns what a load changes in definitions and has to restore: foreign keys, triggers (by
``triggers``), NOT VALID checks and indexes (by ``indexes``). Checking constraints row by row takes
three quarters of a load. Constraints that are dropped and added again in one transaction are
checked once, and an error brings all of them back.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, LiteralString, NamedTuple

from psycopg import sql

from perfdata.errors import LoadError, ServerRefusedError
from perfdata.load.definitions import compare_definitions, definitions_query
from perfdata.load.indexes import plain_indexes
from perfdata.load.triggers import (
    DISABLED,
    DisabledKeys,
    EventTriggers,
    UserTrigger,
    event_triggers_query,
    key_triggers_query,
    set_trigger_states,
    user_triggers_query,
    without_event_triggers,
)
from perfdata.load.unsupported import refuse_unsupported, unsupported_query

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from perfdata.load.indexes import PlainIndex
    from perfdata.load.plan import Plan
    from perfdata.load.removals import Removal
    from perfdata.postgres.catalog import Catalog, ForeignKey
    from perfdata.postgres.link import Link, Rows

_FOREIGN_KEY_VIOLATION = "23503"
_NOT_ENFORCED_SINCE = 180000  # server_version_num

_DEFERRABLE = """
SELECT DISTINCT n.nspname, k.conname, k.condeferred
FROM pg_constraint k JOIN pg_namespace n ON n.oid = k.connamespace
WHERE k.condeferrable AND k.conrelid = ANY (%s) ORDER BY 1, 2"""

# Only those of plain tables: an inherited constraint can't be dropped from one table alone.
_NOT_VALID = """
SELECT n.nspname, c.relname, k.conname, pg_get_constraintdef(k.oid),
  obj_description(k.oid, 'pg_constraint')
FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE k.conrelid = ANY (%s) AND k.contype IN ('c', 'n') AND NOT k.convalidated
  AND coalesce((to_jsonb(k) ->> 'conenforced')::boolean, true)
  AND pg_has_role(c.relowner, 'USAGE') AND c.relkind = 'r' AND NOT c.relispartition
  AND k.coninhcount = 0
  AND NOT EXISTS (SELECT FROM pg_inherits i WHERE i.inhparent = c.oid)
ORDER BY k.conrelid, k.conname"""


class _NotValidCheck(NamedTuple):
    """A check or not-null constraint that is NOT VALID.

    Old rows may violate it, so a snapshot of all rows may contain rows that it would refuse.
    """

    schema: str
    table: str
    name: str
    definition: str
    comment: str | None


@dataclass
class DroppedConstraints:
    """What a load has dropped and must recreate.

    Attributes:
        indexes: indexes to be built.
        keys: foreign keys to be added.
        not_enforced: foreign keys to be set to ENFORCED again.
        kept: disabled foreign keys that were not dropped, since their tables are empty.
        notes: messages for users.
    """

    indexes: Sequence[PlainIndex]
    keys: Sequence[ForeignKey]
    not_enforced: Sequence[ForeignKey]
    kept: Sequence[ForeignKey]
    notes: Sequence[str]

    def recreate(self, link: Link) -> None:
        """Queue building the indexes and adding the foreign keys, which checks all rows."""
        with link.own_path():
            for index in self.indexes:
                link.later(index.build())
            for key in self.keys:
                add_key(link, key)
            for key in self.not_enforced:
                _alter_key(link, key, "ENFORCED")


@contextmanager
def without_constraints(
    link: Link, plan: Plan, removals: Collection[Removal]
) -> Iterator[DroppedConstraints]:
    """Drop foreign keys and the indexes to be rebuilt, and disable user triggers, for the block.

    The block must call ``recreate``; the rest is restored after it. Use this inside a transaction,
    or in a database that is dropped after an error. If no table is truncated and no index rebuilt,
    PostgreSQL 18 keeps the foreign keys as NOT ENFORCED. Raises SchemaError for what can't be
    restored, or if a table's definition would change.
    """
    oids, keys = [table.oid for table in plan.tables], plan.foreign_keys
    touched = sorted({*oids, *(key.child for key in keys), *(key.parent for key in keys)})
    # Only a snapshot of all rows contains rows that NOT VALID checks would refuse.
    checked = oids if plan.selection.all_rows else []
    version, unsupported, events, deferrable, key_triggers, user_triggers, checks, before = (
        link.together(
            [
                "SELECT current_setting('server_version_num')::int",
                unsupported_query(plan),
                event_triggers_query(),
                (_DEFERRABLE, (touched,)),
                key_triggers_query(keys),
                user_triggers_query(oids),
                (_NOT_VALID, (checked,)),
                definitions_query(touched),
            ]
        )
    )
    refuse_unsupported(unsupported)
    event_triggers = EventTriggers(*events[0])
    disabled = DisabledKeys(link, keys, key_triggers)
    kept = disabled.kept(plan.catalog, plan.tables)
    keys = [key for key in keys if key not in kept]
    not_enforced: list[ForeignKey] = []
    rewritten = any(removal.truncate or removal.rebuild for removal in removals)
    if version[0][0] >= _NOT_ENFORCED_SINCE and not rewritten:
        not_enforced = [key for key in keys if not key.unchecked]
    dropped = [key for key in keys if key not in not_enforced]
    rebuilt = [removal.table.oid for removal in removals if removal.rebuild]
    indexes = plain_indexes(link, rebuilt, dropped)
    triggers = [UserTrigger(*row) for row in user_triggers]
    not_valid = [_NotValidCheck(*row) for row in checks]
    # This runs the pending deferred checks: a table that has any can't be altered.
    _set_constraints(link, deferrable, "IMMEDIATE")
    with without_event_triggers(link, event_triggers), _explain_violation(plan.catalog, keys):
        with link.own_path():  # event triggers may depend on it
            set_trigger_states(link, triggers, DISABLED)
            for key in dropped:
                _drop_constraint(link, key.referencing.identifier, key.name)
            for key in not_enforced:
                _alter_key(link, key, "NOT ENFORCED")
            for check in not_valid:
                _drop_constraint(link, sql.Identifier(check.schema, check.table), check.name)
            for index in indexes:
                link.later(index.drop())
        altered = indexes or triggers or keys or not_valid
        notes = event_triggers.notes if altered else ()
        yield DroppedConstraints(indexes, dropped, not_enforced, kept, notes)
        with link.own_path():
            _add_not_valid(link, not_valid)
        disabled.disable_again(keys)
        with link.own_path():
            set_trigger_states(link, triggers)
        _set_constraints(link, [row for row in deferrable if row[2]], "DEFERRED")
        (after,) = link.together([definitions_query(touched)])
    compare_definitions(before, after)


def add_key(link: Link, key: ForeignKey, *, unchecked: bool = False) -> None:
    """Queue adding a foreign key; ``unchecked`` makes the key NOT VALID until it is validated."""
    definition = f"{key.definition} NOT VALID" if unchecked else key.definition
    _add_constraint(link, key.referencing.identifier, key.name, definition, key.comment)


def _add_not_valid(link: Link, checks: Iterable[_NotValidCheck]) -> None:
    for check in checks:
        table = sql.Identifier(check.schema, check.table)
        _add_constraint(link, table, check.name, check.definition, check.comment)


def _add_constraint(
    link: Link, table: sql.Identifier, name: str, definition: str, comment: str | None
) -> None:
    constraint = sql.Identifier(name)
    add = sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} {}")
    link.later(add.format(table, constraint, sql.SQL(definition)))
    if comment is not None:
        add_comment = sql.SQL("COMMENT ON CONSTRAINT {} ON {} IS {}")
        link.later(add_comment.format(constraint, table, sql.Literal(comment)))


def _drop_constraint(link: Link, table: sql.Identifier, name: str) -> None:
    drop = sql.SQL("ALTER TABLE {} DROP CONSTRAINT {}")
    link.later(drop.format(table, sql.Identifier(name)))


def _alter_key(link: Link, key: ForeignKey, enforced: LiteralString) -> None:
    alter = sql.SQL("ALTER TABLE {} ALTER CONSTRAINT {} {}")
    name = sql.Identifier(key.name)
    link.later(alter.format(key.referencing.identifier, name, sql.SQL(enforced)))


def _set_constraints(link: Link, deferrable: Rows, when: LiteralString) -> None:
    if deferrable:
        names = sql.SQL(", ").join(sql.Identifier(schema, name) for schema, name, _ in deferrable)
        link.later(sql.SQL("SET CONSTRAINTS {} {}").format(names, sql.SQL(when)))


@contextmanager
def _explain_violation(catalog: Catalog, keys: Collection[ForeignKey]) -> Iterator[None]:
    """Name the referencing table in the error of a foreign key that rows violate."""
    try:
        yield
    except ServerRefusedError as error:
        if error.sqlstate != _FOREIGN_KEY_VIOLATION:
            raise
        children = {catalog.by_oid[k.child].key for k in keys if k.name == error.constraint}
        raise LoadError(
            f"rows of {', '.join(sorted(children)) or 'a table'} reference rows that do not exist "
            f"(constraint {error.constraint}: {error.detail}); everything was rolled back"
        ) from error

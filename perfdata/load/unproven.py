"""Checks that are NOT VALID: old rows may break them, and would not come in again past them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from psycopg import sql

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from perfdata.postgres.link import AnyQuery, Link

# Those of plain tables alone: what is inherited can't be taken off one table and put back.
_UNPROVEN = """
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


class UnprovenCheck(NamedTuple):
    """A check or a not-null constraint that is NOT VALID, as it is to be put back."""

    schema: str
    table: str
    name: str
    definition: str
    comment: str | None


def unproven_of(oids: Collection[int]) -> AnyQuery:
    """Make the query for the checks of tables that are NOT VALID."""
    return _UNPROVEN, (list(oids),)


def drop_unproven(link: Link, checks: Iterable[UnprovenCheck]) -> None:
    """Take checks off."""
    for one in checks:
        drop = sql.SQL("ALTER TABLE {} DROP CONSTRAINT {}")
        table = sql.Identifier(one.schema, one.table)
        link.later(drop.format(table, sql.Identifier(one.name)))


def add_unproven(link: Link, checks: Iterable[UnprovenCheck]) -> None:
    """Put checks back: NOT VALID, so that no row is looked at."""
    for one in checks:
        table, name = sql.Identifier(one.schema, one.table), sql.Identifier(one.name)
        add = sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} {}")
        link.later(add.format(table, name, sql.SQL(one.definition)))
        if one.comment is not None:
            comment = sql.SQL("COMMENT ON CONSTRAINT {} ON {} IS {}")
            link.later(comment.format(name, table, sql.Literal(one.comment)))

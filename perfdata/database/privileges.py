"""Privileges: what a role must be allowed, asked of the catalog before the first change."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from perfdata.database.connection import first
from perfdata.errors import RefusedError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from perfdata.database.catalog import Table
    from perfdata.database.emptying import Before
    from perfdata.database.link import Asked, Link, Rows
    from perfdata.database.plan import Plan

# A partition's keys and triggers are taken off by way of its root, and only by who owns it too.
_PRIVILEGES = """
WITH RECURSIVE part (root, oid) AS (
  SELECT o, o FROM unnest(%(oids)s::oid[]) o
  UNION ALL SELECT p.root, i.inhrelid FROM part p JOIN pg_inherits i ON i.inhparent = p.oid
  JOIN pg_class c ON c.oid = i.inhrelid WHERE c.relispartition),
seen (root, oid, kind) AS (
  SELECT root, oid, CASE WHEN root = oid THEN 'table' ELSE 'partition' END FROM part
  UNION ALL SELECT 0, s::regclass, 'sequence' FROM unnest(%(sequences)s::text[]) s)
SELECT s.root::bigint, s.kind, s.oid::regclass::text, pg_get_userbyid(c.relowner)::text,
  current_user::text, pg_has_role(c.relowner, 'USAGE'),
  EXISTS (SELECT FROM pg_trigger t
          WHERE t.tgrelid = c.oid AND NOT t.tgisinternal AND t.tgenabled <> 'D'),
  CASE WHEN s.kind = 'table' THEN
    ARRAY(SELECT w FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE']) w
          WHERE has_table_privilege(c.oid, w))
    || CASE WHEN has_any_column_privilege(c.oid, 'REFERENCES') THEN ARRAY['REFERENCES'] END
  END
FROM seen s JOIN pg_class c ON c.oid = s.oid
ORDER BY s.kind <> 'table', 3"""

_LOCKING = {"UPDATE", "DELETE", "TRUNCATE"}  # any of them lets a role lock a table


class _Found(NamedTuple):
    root: int
    kind: str
    name: str
    owner: str
    role: str
    owned: bool
    triggers: bool
    held: Sequence[str] | None

    def lacking(self, wanted: Collection[str]) -> Iterator[str]:
        missing = [one for one in wanted if one not in (self.held or ())]
        if missing:
            listed = ", ".join(missing)
            yield f"{self.name} lacks {listed} (GRANT {listed} ON {self.name} TO {self.role})"

    def foreign(self) -> Iterator[str]:
        if not self.owned:
            kind = "SEQUENCE" if self.kind == "sequence" else "TABLE"
            yield (
                f"{self.name} is changed by its owner {self.owner} alone (ALTER {kind} "
                f"{self.name} OWNER TO {self.role}, or GRANT {self.owner} TO {self.role})"
            )


def privileges_of(plan: Plan) -> Asked:
    """Make the query for what the role may do with the tables, partitions and sequences."""
    oids = {table.oid for table in plan.tables}
    sequences = [one for one in plan.catalog.sequences if one.table in oids]
    names = sorted({one.identifier.as_string(None) for one in sequences})
    touched = [table.oid for table in plan.touched]
    return _PRIVILEGES, {"oids": touched, "sequences": names}


def check_privileges(rows: Rows, plan: Plan) -> None:
    """Raise RefusedError, naming each that is missing and what gives it, before any lock."""
    found = [_Found(*row) for row in rows]
    filled = {table.oid for table in plan.tables}
    keys = [k for k in plan.catalog.foreign_keys if k.child in filled or k.parent in filled]
    altered = {key.child for key in keys}
    altered |= {one.root for one in found if one.triggers and one.root in filled}
    referenced = {key.parent for key in keys}
    lacking: list[str] = []
    for one in found:
        if one.root in altered or one.kind == "sequence":
            lacking += one.foreign()
        if one.kind == "table":
            lacking += one.lacking(_needed(one, filled, referenced))
    _refuse(lacking)


def _needed(one: _Found, filled: Collection[int], referenced: Collection[int]) -> list[str]:
    needed = ["SELECT"]
    if one.root in filled:
        needed.append("INSERT")
    if one.root in referenced:
        needed.append("REFERENCES")
    if not _LOCKING & set(one.held or ()):
        needed.append("TRUNCATE")
    return needed


def check_emptying(rows: Rows, before: Iterable[Before]) -> None:
    """Raise RefusedError where the role may not empty the tables in the way that was chosen."""
    found = {one.root: one for one in map(_Found._make, rows) if one.kind == "table"}
    lacking: list[str] = []
    for one in before:
        wanted = ["TRUNCATE"] if one.truncate else ["DELETE"] if one.going else []
        lacking += found[one.table.oid].lacking(wanted)
    _refuse(lacking)


def check_readable(link: Link, tables: Iterable[Table]) -> None:
    """Raise RefusedError, naming each table whose rows the role may not read."""
    params = {"oids": [table.oid for table in tables], "sequences": []}
    found = [_Found(*row) for row in link.rows(_PRIVILEGES, params)]
    _refuse([said for one in found if one.kind == "table" for said in one.lacking(["SELECT"])])


def _refuse(lacking: Sequence[str]) -> None:
    if lacking:
        raise RefusedError(
            f"refused, nothing was touched: the role may not do all that this needs: "
            f"{first(lacking, 20)}"
        )

"""Materialised views: refreshed after a load, in the order of their dependencies."""

from __future__ import annotations

from typing import TYPE_CHECKING, LiteralString, NamedTuple

from psycopg import sql

from perfdata.postgres.catalog import table_key
from perfdata.text import join_first

if TYPE_CHECKING:
    from collections.abc import Collection

    from perfdata.postgres.catalog import Table
    from perfdata.postgres.link import Deferred, Link, Rows

# What each view depends on, through other views and SQL functions, as far as the catalog knows. A
# view has more dependencies than those it depends on, so counting them gives the order.
_VIEWS = """
WITH RECURSIVE part (oid) AS (
  SELECT unnest(%s::oid[])
  UNION ALL SELECT i.inhrelid FROM part p JOIN pg_inherits i ON i.inhparent = p.oid
  JOIN pg_class c ON c.oid = i.inhrelid WHERE c.relispartition),
direct (classid, objid, refclassid, refobjid) AS (
  SELECT 'pg_class'::regclass::oid, r.ev_class, d.refclassid, d.refobjid
  FROM pg_rewrite r JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid
  WHERE d.refobjid <> r.ev_class
  UNION SELECT d.classid, d.objid, d.refclassid, d.refobjid FROM pg_depend d
  WHERE d.classid = 'pg_proc'::regclass),
needs (view, classid, objid) AS (
  SELECT c.oid, d.refclassid, d.refobjid FROM pg_class c JOIN direct d ON d.objid = c.oid
    AND d.classid = 'pg_class'::regclass WHERE c.relkind = 'm'
  UNION SELECT n.view, d.refclassid, d.refobjid
  FROM needs n JOIN direct d ON d.classid = n.classid AND d.objid = n.objid)
SELECT n.nspname, c.relname, c.relispopulated, pg_has_role(c.relowner, 'USAGE'),
  EXISTS (SELECT FROM needs JOIN part ON part.oid = needs.objid
          WHERE needs.view = c.oid AND needs.classid = 'pg_class'::regclass)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'm' ORDER BY
  (SELECT count(*) FROM needs JOIN pg_class m ON m.oid = needs.objid AND m.relkind = 'm'
   WHERE needs.view = c.oid AND needs.classid = 'pg_class'::regclass), 1, 2"""


class _View(NamedTuple):
    schema: str
    name: str
    populated: bool
    owned: bool
    fed: bool  # by the tables

    @property
    def key(self) -> str:
        return table_key(self.schema, self.name)


def populated_views(link: Link) -> list[str]:
    """Return the keys of the populated materialised views, dependencies first."""
    views = [_View(*row) for row in link.rows(_VIEWS, ([],))]
    return [view.key for view in views if view.populated]


def views_query(tables: Collection[Table]) -> tuple[LiteralString, tuple[list[int]]]:
    """Make the query for the materialised views, and which of them the tables feed."""
    return _VIEWS, ([table.oid for table in tables],)


def unfed_views(found: Rows) -> list[sql.Identifier]:
    """Return the populated views that the tables do not feed; ``found``: rows of views_query."""
    views = [_View(*row) for row in found]
    return [
        sql.Identifier(view.schema, view.name) for view in views if view.populated and not view.fed
    ]


def refresh_views(link: Link, found: Deferred, populated: Collection[str] = ()) -> list[str]:
    """Queue refreshing the populated views that the tables feed, and return notes for users.

    ``found`` is views_query, sent. Views whose keys are in ``populated`` (those of the snapshot)
    are populated too.
    """
    wanted = [
        view
        for view in (_View(*row) for row in found.rows)
        if (view.fed and view.populated) or (view.key in populated and not view.populated)
    ]
    with link.own_path():
        for view in wanted:
            if view.owned:
                name = sql.Identifier(view.schema, view.name)
                link.later(sql.SQL("REFRESH MATERIALIZED VIEW {}").format(name))
    if others := [view.key for view in wanted if not view.owned]:
        return [f"materialised views of another owner were not refreshed: {join_first(others)}"]
    return []

"""Privileges: what a role needs for a load, read from the catalog before the first change."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from perfdata.errors import PrivilegesError
from perfdata.postgres.catalog import table_key

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from perfdata.load.plan import Plan
    from perfdata.load.removals import Removal
    from perfdata.postgres.catalog import Table
    from perfdata.postgres.link import AnyQuery, Link, Rows

# Dropping a root's keys and triggers drops its partitions' too, so the role must own all of them. A
# sequence that a column owns changes its owner with the table. MAINTAIN is new in PostgreSQL 17.
_PRIVILEGES = """
WITH RECURSIVE part (root, oid) AS (
  SELECT o, o FROM unnest(%(oids)s::oid[]) o
  UNION ALL SELECT p.root, i.inhrelid FROM part p JOIN pg_inherits i ON i.inhparent = p.oid
  JOIN pg_class c ON c.oid = i.inhrelid WHERE c.relispartition),
seen (root, oid, kind) AS (
  SELECT root, oid, CASE WHEN root = oid THEN 'table' ELSE 'partition' END FROM part
  UNION ALL SELECT 0, c.oid, 'sequence' FROM pg_class c
  JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relkind = 'S' AND c.relpersistence <> 't' AND n.nspname !~ '^pg_'
    AND (%(every)s AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass
                                   AND d.objid = c.oid AND d.deptype = 'e')
      OR (n.nspname, c.relname) IN (
        SELECT * FROM unnest(%(schemas)s::text[], %(names)s::text[])))),
owning (oid, owning) AS (
  SELECT d.objid, d.refobjid FROM pg_depend d
  WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass
    AND d.deptype IN ('a', 'i') AND d.refobjsubid > 0)
SELECT s.root::bigint, s.kind, n.nspname, c.relname, quote_ident(n.nspname),
  CASE WHEN n.nspname = 'public' THEN '' ELSE quote_ident(n.nspname) || '.' END
    || quote_ident(c.relname),
  CASE WHEN m.nspname = 'public' THEN '' ELSE quote_ident(m.nspname) || '.' END
    || quote_ident(t.relname),
  CASE t.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END,
  quote_ident(pg_get_userbyid(c.relowner)), quote_ident(current_user),
  pg_has_role(c.relowner, 'USAGE'), has_schema_privilege(n.oid, 'USAGE'),
  EXISTS (SELECT FROM pg_trigger t
          WHERE t.tgrelid = c.oid AND NOT t.tgisinternal AND t.tgenabled <> 'D'),
  CASE WHEN s.kind <> 'partition' THEN
    ARRAY(SELECT w FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE']
            || CASE WHEN v.new THEN ARRAY['MAINTAIN'] END) w
          WHERE has_table_privilege(c.oid, w))
    || CASE WHEN has_any_column_privilege(c.oid, 'REFERENCES') THEN ARRAY['REFERENCES'] END
  END, v.new
FROM seen s JOIN pg_class c ON c.oid = s.oid
LEFT JOIN owning o ON o.oid = c.oid AND c.relkind = 'S'
JOIN pg_class t ON t.oid = coalesce(o.owning, c.oid)
JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_namespace m ON m.oid = t.relnamespace,
  (SELECT current_setting('server_version_num')::int >= 170000) v (new)
ORDER BY s.kind <> 'table', 3, 4"""

_LOCKING = {"UPDATE", "DELETE", "TRUNCATE", "MAINTAIN"}  # any of them lets a role lock a table


class _Relation(NamedTuple):
    """A table, partition or sequence, and what the role may do with it."""

    root: int
    kind: str  # table, partition or sequence
    schema: str
    name: str
    sql_schema: str
    sql_name: str
    altered: str  # what ALTER … OWNER names: the relation, or the table that owns the sequence
    altered_kind: str
    owner: str
    role: str
    owned: bool
    schema_usage: bool
    triggers: bool
    held: Sequence[str] | None
    has_maintain: bool  # whether the server has that privilege

    @property
    def key(self) -> str:
        return table_key(self.schema, self.name)


class _MissingPrivileges:
    """The statements that give a role what it lacks, at most one per relation."""

    def __init__(self, relations: Sequence[_Relation]) -> None:
        self._relations = relations
        self._owners: dict[str, str] = {}
        self._alter: dict[str, str] = {}
        self._grant: dict[str, str] = {}

    def require_ownership(self, relation: _Relation, why: str) -> None:
        if not relation.owned:
            alter = f"ALTER {relation.altered_kind} {relation.altered} OWNER TO {relation.role};"
            comment = f"  -- now owned by {relation.owner}; {why}"
            self._alter.setdefault(relation.altered, alter + comment)
            self._owners[relation.owner] = relation.role

    def require(self, relation: _Relation, privileges: Collection[str], why: str = "") -> None:
        held = relation.held or ()
        if missing := [privilege for privilege in privileges if privilege not in held]:
            kind = "SEQUENCE " if relation.kind == "sequence" else ""
            grant = f"GRANT {', '.join(missing)} ON {kind}{relation.sql_name} TO {relation.role};"
            self._grant[relation.sql_name] = grant + (f"  -- {why}" if why else "")

    def refuse(self) -> None:
        """Raise PrivilegesError if something is missing."""
        schemas = dict.fromkeys(
            (relation.sql_schema, relation.role)
            for relation in self._relations
            if not relation.schema_usage
        )
        statements = [f"GRANT USAGE ON SCHEMA {schema} TO {role};" for schema, role in schemas]
        statements += self._alter.values()
        # Ownership includes all privileges.
        statements += [grant for name, grant in self._grant.items() if name not in self._alter]
        if not statements:
            return
        if self._owners:
            grants = [f"GRANT {owner} TO {role};" for owner, role in self._owners.items()]
            statements.append(f"-- or, instead of each ALTER: {' '.join(grants)}")
        tables = sum(relation.kind != "sequence" for relation in self._relations)
        others = len(self._relations) - tables
        sequences = f" and {others:,} sequence{'s' if others > 1 else ''}" if others else ""
        raise PrivilegesError(
            f"refused, nothing was touched: role {self._relations[0].role} lacks some of the "
            f"privileges that this needs on {tables:,} tables{sequences}",
            statements,
        )


def privileges_query(plan: Plan) -> AnyQuery:
    """Make the query for what the role may do with the tables, partitions and sequences."""
    oids = {table.oid for table in plan.tables}
    sequences = [sequence for sequence in plan.catalog.sequences if sequence.table in oids]
    return _PRIVILEGES, {
        "oids": [table.oid for table in plan.touched],
        "every": bool(plan.sequences),
        "schemas": [sequence.schema for sequence in sequences],
        "names": [sequence.name for sequence in sequences],
    }


def check_privileges(rows: Rows, plan: Plan) -> None:
    """Raise PrivilegesError if the role can't run a load; ``rows`` are privileges_query's."""
    filled = {table.oid for table in plan.tables}
    fed = {table_key(s.schema, s.name) for s in plan.catalog.sequences if s.table in filled}
    advanced = fed | plan.sequences.keys()
    relations = [
        relation
        for relation in map(_Relation._make, rows)
        if relation.kind != "sequence" or relation.key in advanced
    ]
    altered = {key.child for key in plan.foreign_keys}
    altered |= {r.root for r in relations if r.triggers and r.root in filled}
    referenced = {key.parent for key in plan.foreign_keys}
    missing = _MissingPrivileges(relations)
    for relation in relations:
        if relation.root in altered:
            why = "its keys and triggers are dropped and recreated"
            missing.require_ownership(relation, why)
        elif relation.kind == "sequence":
            missing.require_ownership(relation, "its next value is set")
        if relation.kind == "table":
            _require_for_table(missing, relation, filled, referenced)
    missing.refuse()


def _require_for_table(
    missing: _MissingPrivileges,
    table: _Relation,
    filled: Collection[int],
    referenced: Collection[int],
) -> None:
    privileges = ["SELECT"]
    if table.root in filled:
        privileges.append("INSERT")
    if table.root in referenced:
        privileges.append("REFERENCES")
    if not _LOCKING & set(table.held or ()):
        # A table that is not filled is only locked: the least that permits that.
        least = "MAINTAIN" if table.has_maintain else "UPDATE"
        privileges.append("TRUNCATE" if table.root in filled else least)
    why = "" if table.root in filled else "a foreign key ties it to a table that is filled"
    missing.require(table, privileges, why)


def check_emptying(rows: Rows, removals: Iterable[Removal]) -> None:
    """Raise PrivilegesError if the role may not remove rows in the way that was chosen."""
    tables = {table.root: table for table in map(_Relation._make, rows) if table.kind == "table"}
    missing = _MissingPrivileges(list(tables.values()))
    for removal in removals:
        privileges = ["TRUNCATE"] if removal.truncate else ["DELETE"] if removal.going else []
        missing.require(tables[removal.table.oid], privileges)
    missing.refuse()


def check_readable(link: Link, tables: Iterable[Table], *, sequences: bool = False) -> None:
    """Raise PrivilegesError if the role may not read the tables, or (all) sequences."""
    oids = [table.oid for table in tables]
    params = {"oids": oids, "every": sequences, "schemas": [], "names": []}
    relations = [_Relation(*row) for row in link.rows(_PRIVILEGES, params)]
    missing = _MissingPrivileges(relations)
    for relation in relations:
        if relation.kind != "partition":
            missing.require(relation, ["SELECT"])
    missing.refuse()

"""Privileges: whether a role has those that a load or create needs, checked before any change.

Errors list the statements that grant what is missing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from perfdata.errors import PrivilegesError
from perfdata.postgres.catalog import table_key

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from perfdata.postgres.catalog import Catalog, Table
    from perfdata.postgres.link import AnyQuery, Link, Rows

# Dropping a root's keys and triggers requires owning its partitions too. A sequence that a column
# owns has the table's owner, and changes it with the table. MAINTAIN exists since PostgreSQL 17.
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

_LOCKING = {"UPDATE", "DELETE", "TRUNCATE", "MAINTAIN"}  # each allows LOCK TABLE in any mode


class _Load(Protocol):
    """The part of a load's plan that decides its privileges: it locks all ``touched`` tables."""

    @property
    def catalog(self) -> Catalog: ...
    @property
    def tables(self) -> Sequence[Table]: ...
    @property
    def touched(self) -> Sequence[Table]: ...
    @property
    def sequences(self) -> Mapping[str, object]: ...


class _Emptied(Protocol):
    """A table that is emptied: by TRUNCATE, or by DELETE if rows are ``going``."""

    @property
    def table(self) -> Table: ...
    @property
    def truncate(self) -> bool: ...
    @property
    def going(self) -> int: ...


class _Found(NamedTuple):
    root: int
    kind: str
    schema: str
    name: str
    written_schema: str  # as SQL
    written: str  # as SQL
    altered: str  # whose owner to change: the relation, or the table of a column's sequence
    altered_kind: str
    owner: str
    role: str
    owned: bool
    usable: bool  # whether the role has USAGE on the schema
    triggers: bool
    held: Sequence[str] | None
    maintain: bool  # whether the server has the MAINTAIN privilege

    @property
    def key(self) -> str:
        return table_key(self.schema, self.name)


class _Missing:
    """Collects the statements that grant what is missing, at most one for each relation."""

    def __init__(self, found: Sequence[_Found]) -> None:
        self._found = found
        self._owners: dict[str, str] = {}
        self._alter: dict[str, str] = {}
        self._grant: dict[str, str] = {}

    def require_ownership(self, relation: _Found, reason: str) -> None:
        if not relation.owned:
            alter = f"ALTER {relation.altered_kind} {relation.altered} OWNER TO {relation.role};"
            reason = f"now owned by {relation.owner}; {reason}"
            self._alter.setdefault(relation.altered, f"{alter}  -- {reason}")
            self._owners[relation.owner] = relation.role

    def require(self, relation: _Found, privileges: Collection[str], reason: str = "") -> None:
        missing = [name for name in privileges if name not in (relation.held or ())]
        if missing:
            kind = "SEQUENCE " if relation.kind == "sequence" else ""
            target = f"{kind}{relation.written}"
            grant = f"GRANT {', '.join(missing)} ON {target} TO {relation.role};"
            self._grant[relation.written] = grant + (f"  -- {reason}" if reason else "")

    def refuse(self) -> None:
        """Raise PrivilegesError if anything is missing; owners need no further privileges."""
        schemas = dict.fromkeys(
            (relation.written_schema, relation.role)
            for relation in self._found
            if not relation.usable
        )
        statements = [f"GRANT USAGE ON SCHEMA {schema} TO {role};" for schema, role in schemas]
        statements += self._alter.values()
        statements += [grant for name, grant in self._grant.items() if name not in self._alter]
        if not statements:
            return
        instead = [f"GRANT {owner} TO {role};" for owner, role in self._owners.items()]
        if instead:
            statements.append(f"-- or, instead of each ALTER: {' '.join(instead)}")
        tables = sum(relation.kind != "sequence" for relation in self._found)
        others = len(self._found) - tables
        sequences = f" and {others:,} sequence{'s' if others > 1 else ''}" if others else ""
        raise PrivilegesError(
            f"refused, nothing was touched: role {self._found[0].role} lacks privileges on some of "
            f"{tables:,} tables{sequences}. Their owner or a superuser can grant them:",
            statements,
        )


def privileges_query(load: _Load) -> AnyQuery:
    """Make the query for the role's privileges on a load's tables, partitions and sequences."""
    oids = {table.oid for table in load.tables}
    sequences = [sequence for sequence in load.catalog.sequences if sequence.table in oids]
    return _PRIVILEGES, {
        "oids": [table.oid for table in load.touched],
        "every": bool(load.sequences),
        "schemas": [sequence.schema for sequence in sequences],
        "names": [sequence.name for sequence in sequences],
    }


def check_privileges(rows: Rows, load: _Load) -> None:
    """Raise PrivilegesError if the role lacks privileges for a load.

    ``rows`` are those of privileges_query. No lock is needed.
    """
    filled = {table.oid for table in load.tables}
    fed = {table_key(s.schema, s.name) for s in load.catalog.sequences if s.table in filled}
    moved = fed | load.sequences.keys()
    found = [
        relation
        for relation in map(_Found._make, rows)
        if relation.kind != "sequence" or relation.key in moved
    ]
    keys = [k for k in load.catalog.foreign_keys if k.child in filled or k.parent in filled]
    altered = {key.child for key in keys}
    altered |= {
        relation.root for relation in found if relation.triggers and relation.root in filled
    }
    referenced = {key.parent for key in keys}
    missing = _Missing(found)
    for relation in found:
        if relation.root in altered:
            missing.require_ownership(relation, "its keys and triggers are dropped and restored")
        elif relation.kind == "sequence":
            missing.require_ownership(relation, "its next value is set")
        if relation.kind == "table":
            _require_for_load(missing, relation, filled, referenced)
    missing.refuse()


def _require_for_load(
    missing: _Missing, table: _Found, filled: Collection[int], referenced: Collection[int]
) -> None:
    privileges, reason = ["SELECT"], ""
    if table.root in filled:
        privileges.append("INSERT")
    else:
        reason = "a foreign key connects it to a table that is loaded"
    if table.root in referenced:
        privileges.append("REFERENCES")
    if not _LOCKING & set(table.held or ()):
        # A table that is not filled is only locked, never emptied.
        harmless = "MAINTAIN" if table.maintain else "UPDATE"
        privileges.append("TRUNCATE" if table.root in filled else harmless)
    missing.require(table, privileges, reason)


def check_emptying(rows: Rows, emptied: Iterable[_Emptied]) -> None:
    """Raise PrivilegesError if the role may not empty the tables in the way that was chosen.

    ``rows`` are those of privileges_query.
    """
    found = {
        relation.root: relation for relation in map(_Found._make, rows) if relation.kind == "table"
    }
    missing = _Missing(list(found.values()))
    for emptying in emptied:
        privileges = ["TRUNCATE"] if emptying.truncate else ["DELETE"] if emptying.going else []
        missing.require(found[emptying.table.oid], privileges)
    missing.refuse()


def check_readable(link: Link, tables: Iterable[Table], *, sequences: bool = False) -> None:
    """Raise PrivilegesError if the role may not read the tables.

    With ``sequences``, it must be able to read all sequences of the database too.
    """
    oids = [table.oid for table in tables]
    params = {"oids": oids, "every": sequences, "schemas": [], "names": []}
    found = [_Found(*row) for row in link.rows(_PRIVILEGES, params)]
    missing = _Missing(found)
    for relation in found:
        if relation.kind != "partition":
            missing.require(relation, ["SELECT"])
    missing.refuse()

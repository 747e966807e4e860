"""Privileges: what a role must be allowed, asked of the catalog before the first change."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from perfdata.errors import PrivilegesError
from perfdata.postgres.catalog import table_key

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from perfdata.postgres.catalog import Catalog, Table
    from perfdata.postgres.link import AnyQuery, Link, Rows

# A partition's keys and triggers are taken off by way of its root, and only by who owns it too.
# What a column owns has its table's owner, and is given away with that. MAINTAIN came with 17.
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


class _Load(Protocol):
    """What a load does, as far as privileges go: it fills ``tables``, it locks all ``touched``."""

    @property
    def catalog(self) -> Catalog: ...
    @property
    def tables(self) -> Sequence[Table]: ...
    @property
    def touched(self) -> Sequence[Table]: ...
    @property
    def sequences(self) -> Mapping[str, object]: ...


class _Emptied(Protocol):
    """A table that is emptied, by TRUNCATE or, where rows are ``going``, by DELETE."""

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
    given: str  # what is to be altered: in the place of a column's sequence the column's table
    given_kind: str
    owner: str
    role: str
    owned: bool
    usable: bool  # its schema
    triggers: bool
    held: Sequence[str] | None
    maintain: bool  # whether the server knows that privilege

    @property
    def key(self) -> str:
        return table_key(self.schema, self.name)


class _Lacking:
    """What is lacking, as the statements that give it: each table in one of them."""

    def __init__(self, found: Sequence[_Found]) -> None:
        self._found = found
        self._owners: dict[str, str] = {}
        self._alter: dict[str, str] = {}
        self._grant: dict[str, str] = {}

    def own(self, one: _Found, why: str) -> None:
        """Have a relation be the role's own."""
        if not one.owned:
            alter = f"ALTER {one.given_kind} {one.given} OWNER TO {one.role};"
            self._alter.setdefault(one.given, f"{alter}  -- now {one.owner}'s, and {why}")
            self._owners[one.owner] = one.role

    def grant(self, one: _Found, wanted: Collection[str], why: str = "") -> None:
        """Have the role hold privileges, but where it is to own the table."""
        missing = [privilege for privilege in wanted if privilege not in (one.held or ())]
        if missing:
            kind = "SEQUENCE " if one.kind == "sequence" else ""
            grant = f"GRANT {', '.join(missing)} ON {kind}{one.written} TO {one.role};"
            self._grant[one.written] = grant + (f"  -- {why}" if why else "")

    def refuse(self) -> None:
        """Raise PrivilegesError where something is lacking."""
        statements = [
            f"GRANT USAGE ON SCHEMA {schema} TO {role};"
            for schema, role in dict.fromkeys(
                (one.written_schema, one.role) for one in self._found if not one.usable
            )
        ]
        statements += self._alter.values()
        statements += [said for name, said in self._grant.items() if name not in self._alter]
        if not statements:
            return
        instead = [f"GRANT {owner} TO {role};" for owner, role in self._owners.items()]
        if instead:
            statements.append(f"-- or, in the place of each ALTER: {' '.join(instead)}")
        tables = sum(one.kind != "sequence" for one in self._found)
        others = len(self._found) - tables
        sequences = f" and {others:,} sequence{'s' if others > 1 else ''}" if others else ""
        raise PrivilegesError(
            f"refused, nothing was touched: role {self._found[0].role} lacks some of what this "
            f"needs of {tables:,} tables{sequences}. Who owns them, or a superuser, may give it "
            "by:",
            statements,
        )


def privileges_query(load: _Load) -> AnyQuery:
    """Make the query for what the role may do with the tables, partitions and sequences."""
    oids = {table.oid for table in load.tables}
    sequences = [one for one in load.catalog.sequences if one.table in oids]
    return _PRIVILEGES, {
        "oids": [table.oid for table in load.touched],
        "every": bool(load.sequences),
        "schemas": [one.schema for one in sequences],
        "names": [one.name for one in sequences],
    }


def check_privileges(rows: Rows, load: _Load) -> None:
    """Raise PrivilegesError, with what gives each that is missing, before any lock."""
    filled = {table.oid for table in load.tables}
    fed = {table_key(s.schema, s.name) for s in load.catalog.sequences if s.table in filled}
    moved = fed | load.sequences.keys()
    found = [one for one in map(_Found._make, rows) if one.kind != "sequence" or one.key in moved]
    keys = [k for k in load.catalog.foreign_keys if k.child in filled or k.parent in filled]
    altered = {key.child for key in keys}
    altered |= {one.root for one in found if one.triggers and one.root in filled}
    referenced = {key.parent for key in keys}
    lacking = _Lacking(found)
    for one in found:
        if one.root in altered:
            lacking.own(one, "its keys and triggers are taken off and put back")
        elif one.kind == "sequence":
            lacking.own(one, "its next value is set")
        if one.kind == "table":
            _need(lacking, one, filled, referenced)
    lacking.refuse()


def _need(
    lacking: _Lacking, one: _Found, filled: Collection[int], referenced: Collection[int]
) -> None:
    needed, why = ["SELECT"], ""
    if one.root in filled:
        needed.append("INSERT")
    else:
        why = "a foreign key ties it to a table that is filled"
    if one.root in referenced:
        needed.append("REFERENCES")
    if not _LOCKING & set(one.held or ()):
        # To lock it; nothing of a table that is not filled is emptied.
        harmless = "MAINTAIN" if one.maintain else "UPDATE"
        needed.append("TRUNCATE" if one.root in filled else harmless)
    lacking.grant(one, needed, why)


def check_emptying(rows: Rows, emptied: Iterable[_Emptied]) -> None:
    """Raise PrivilegesError where the role may not empty the tables in the way that was chosen."""
    found = {one.root: one for one in map(_Found._make, rows) if one.kind == "table"}
    lacking = _Lacking(list(found.values()))
    for one in emptied:
        wanted = ["TRUNCATE"] if one.truncate else ["DELETE"] if one.going else []
        lacking.grant(found[one.table.oid], wanted)
    lacking.refuse()


def check_readable(link: Link, tables: Iterable[Table], *, sequences: bool = False) -> None:
    """Raise PrivilegesError where rows of tables, or where sequences stand, may not be read."""
    params = {"oids": [one.oid for one in tables], "every": sequences, "schemas": [], "names": []}
    found = [_Found(*row) for row in link.rows(_PRIVILEGES, params)]
    lacking = _Lacking(found)
    for one in found:
        if one.kind != "partition":
            lacking.grant(one, ["SELECT"])
    lacking.refuse()

"""User code: functions of other roles that would run with the privileges of this one.

Writing to a table calls the functions in its checks, generated columns, defaults, index expressions
and domains. Reading it calls, when the query is planned, those in index expressions, statistics and
partition keys that have constant arguments. SET ROLE is no protection, since such code can RESET
it. perfdata therefore refuses to read or write such a table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from perfdata.errors import UserCodeError
from perfdata.postgres.catalog import table_key
from perfdata.text import join_first

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from perfdata.postgres.catalog import Table
    from perfdata.postgres.link import Link, Rows

# The functions that a load or a query calls. Not included are triggers (users' are disabled), rules
# (refused), policies (row_security is off) and defaults of partitions (rows go through the root).
# Functions are taken from the expression trees, as pg_depend omits those created by initdb.
#
# A superuser's function is harmless if it only computes: it is not volatile, and none of those that
# turn a query into XML or parse text as a type given by name. It is also harmless if it takes no
# arguments, as a table's owner can't influence it then. JSON functions and foreign keys use a
# type's casts without naming them, so every cast of a type counts as called. What any other
# function does is up to its owner, and to the owner of the object that calls it. They gain nothing
# if they may act as the roles of this session anyway.
_CALLED = r"""
WITH RECURSIVE part (oid, written) AS (
  SELECT o, true FROM unnest(%(written)s::oid[]) o
  UNION SELECT c.oid, false FROM pg_class c
  WHERE c.relkind IN ('r', 'p', 'm') AND c.oid >= 16384 AND c.relpersistence <> 't'
    AND (%(read)s::oid[] IS NULL OR c.oid = ANY (%(read)s::oid[]))
  UNION SELECT i.inhrelid, p.written FROM part p JOIN pg_inherits i ON i.inhparent = p.oid
  JOIN pg_class c ON c.oid = i.inhrelid WHERE c.relispartition),
expression (rel, kind, name, classid, objid, tree) AS (
  SELECT k.conrelid, 'check', k.conname, 'pg_constraint'::regclass, k.oid, k.conbin::text
  FROM part JOIN pg_constraint k ON k.conrelid = part.oid AND k.contype = 'c' WHERE written
  UNION ALL SELECT d.adrelid, CASE a.attgenerated WHEN '' THEN 'default' ELSE 'column' END,
    a.attname, 'pg_attrdef'::regclass, d.oid, d.adbin::text
  FROM part JOIN pg_attrdef d ON d.adrelid = part.oid
  JOIN pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
  JOIN pg_class c ON c.oid = d.adrelid
  WHERE written AND (a.attgenerated <> '' OR NOT c.relispartition)
  UNION ALL SELECT i.indrelid, 'index', c.relname, 'pg_class'::regclass, c.oid,
    concat(i.indexprs, i.indpred)
  FROM part JOIN pg_index i ON i.indrelid = part.oid JOIN pg_class c ON c.oid = i.indexrelid
  UNION ALL SELECT s.stxrelid, 'statistics', s.stxname, 'pg_statistic_ext'::regclass, s.oid,
    to_jsonb(s) ->> 'stxexprs'
  FROM part JOIN pg_statistic_ext s ON s.stxrelid = part.oid
  UNION ALL SELECT p.partrelid, 'partition key', c.relname, 'pg_class'::regclass, c.oid,
    p.partexprs::text
  FROM part JOIN pg_partitioned_table p ON p.partrelid = part.oid
  JOIN pg_class c ON c.oid = p.partrelid),
made (rel, oid) AS (
  SELECT a.attrelid, a.atttypid FROM part JOIN pg_attribute a ON a.attrelid = part.oid
  WHERE written AND a.attnum > 0 AND a.atttypid >= 16384
  UNION SELECT a.attrelid, a.atttypid FROM part JOIN pg_constraint k ON k.contype = 'f'
    AND part.oid IN (k.conrelid, k.confrelid)
  JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = ANY (k.conkey)
    OR a.attrelid = k.confrelid AND a.attnum = ANY (k.confkey)
  WHERE written AND a.atttypid >= 16384
  UNION SELECT e.rel, d.refobjid FROM expression e
  JOIN pg_depend d ON d.classid = e.classid AND d.objid = e.objid
    AND d.refclassid = 'pg_type'::regclass
  UNION SELECT m.rel, u.oid FROM made m CROSS JOIN LATERAL (
    SELECT unnest(ARRAY[t.typbasetype, t.typelem]) FROM pg_type t WHERE t.oid = m.oid
    UNION ALL SELECT a.atttypid FROM pg_type t JOIN pg_attribute a ON a.attrelid = t.typrelid
    WHERE t.oid = m.oid AND a.attnum > 0 AND NOT a.attisdropped
    UNION ALL SELECT unnest(ARRAY[r.rngtypid, r.rngsubtype]) FROM pg_range r
    WHERE m.oid IN (r.rngtypid, (to_jsonb(r) ->> 'rngmultitypid')::oid)
    UNION ALL SELECT d.refobjid FROM pg_constraint k
    JOIN pg_depend d ON d.classid = 'pg_constraint'::regclass AND d.objid = k.oid
      AND d.refclassid = 'pg_type'::regclass
    WHERE k.contypid = m.oid) u (oid) WHERE u.oid >= 16384),
called (rel, kind, name, owner, function) AS (
  SELECT e.rel, e.kind, e.name, c.relowner, found[1]::oid
  FROM expression e JOIN pg_class c ON c.oid = e.rel
  CROSS JOIN LATERAL regexp_matches(e.tree, ':(?:funcid|opfuncid) (\d+)', 'g') found
  UNION SELECT m.rel, 'domain', t.typname, t.typowner, found[1]::oid
  FROM made m JOIN pg_type t ON t.oid = m.oid JOIN pg_constraint k ON k.contypid = t.oid
  CROSS JOIN LATERAL regexp_matches(k.conbin::text, ':(?:funcid|opfuncid) (\d+)', 'g') found
  UNION SELECT m.rel, 'cast of type', t.typname, t.typowner, k.castfunc
  FROM made m JOIN pg_type t ON t.oid = m.oid
  JOIN pg_cast k ON t.oid IN (k.castsource, k.casttarget) WHERE k.castfunc <> 0
  UNION SELECT m.rel, 'type', t.typname, t.typowner, u.oid
  FROM made m JOIN pg_type t ON t.oid = m.oid JOIN pg_range r ON r.rngtypid = t.oid
  CROSS JOIN LATERAL unnest(ARRAY[r.rngcanonical, r.rngsubdiff]::oid[]) u (oid))
SELECT DISTINCT n.nspname, c.relname, f.kind, f.name, p.oid::regprocedure::text,
  quote_ident(author.rolname), quote_ident(session_user)
FROM called f JOIN pg_class c ON c.oid = f.rel JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_proc p ON p.oid = f.function JOIN pg_roles own ON own.oid = p.proowner
JOIN pg_roles author ON author.oid IN (f.owner, p.proowner)
WHERE NOT (own.rolsuper AND (
    p.provolatile <> 'v' AND p.proname !~ '_to_xml|^pg_input_' OR p.pronargs = 0
    OR p.pronamespace = 'pg_catalog'::regnamespace AND p.proname IN ('nextval', 'random')))
  AND NOT (pg_has_role(author.oid, session_user, 'MEMBER')
           AND pg_has_role(author.oid, current_user, 'MEMBER'))
ORDER BY 1, 2, 3, 4, 5, 6"""


# Returns no row if every role may act as this one, as in most databases: then nothing is checked.
OTHER_ROLES = """
SELECT rolname FROM pg_roles r WHERE r.rolname !~ '^pg_'
  AND NOT (pg_has_role(r.oid, session_user, 'MEMBER')
           AND pg_has_role(r.oid, current_user, 'MEMBER'))
LIMIT 1"""


class _Called(NamedTuple):
    schema: str
    table: str
    kind: str
    name: str
    function: str
    author: str
    role: str

    @property
    def key(self) -> str:
        return table_key(self.schema, self.table)

    def describe(self) -> str:
        return f"{self.key}: {self.kind} {self.name} calls {self.function} (role {self.author})"


def refuse_user_code(
    link: Link,
    others: Rows,
    *,
    written: Iterable[Table] = (),
    read: Iterable[Table] | None = (),
    columns: Mapping[str, Collection[str]] | None = None,
) -> None:
    """Raise UserCodeError if code of roles that may not act as this one would run.

    ``others`` are the rows of OTHER_ROLES. ``written`` are the tables that are loaded, with these
    ``columns`` by table key (None if unknown). ``read`` are the tables that queries read
    (None for the whole database).
    """
    if not others:
        return
    params = {
        "written": [table.oid for table in written],
        "read": None if read is None else [table.oid for table in read],
    }
    found = [
        call
        for call in map(_Called._make, link.rows(_CALLED, params))
        # COPY evaluates the defaults only of columns that it does not contain.
        if call.kind != "default" or call.name not in (columns or {}).get(call.key, ())
    ]
    if found:
        authors = join_first(sorted({call.author for call in found}))
        calls = join_first([call.describe() for call in found])
        raise UserCodeError(
            f"refused, nothing was touched: role {found[0].role} would run code of other roles, "
            f"which may not act as it, with its privileges: {calls}. Use the "
            f"URL of the role that owns the tables ({authors}), or, if you trust that code, "
            "as_superuser=True"
        )

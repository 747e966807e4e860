"""Definitions of user-defined types: a type's name does not tell which values it accepts."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from perfdata.postgres.link import Rows

# A type's definition as text, in which the labels of each enum are a nested tuple.
TypeDetail = tuple["str | tuple[str, ...]", ...]

_PLAIN = re.compile(r"[a-z_][a-z0-9_]*")

# The columns' types and, recursively, those in their definitions: an enum's labels, a composite's
# attributes, a domain's base type, the elements of an array, the subtype of a range. User-defined
# types have oids from 16384. PostgreSQL before 14 has no multiranges, hence to_jsonb. Each step
# looks types up by oid: collecting all first took 40 ms with 500 tables, whose rows are types too.
TYPES = """
WITH RECURSIVE part (whole, kind, n, name, made_of, type, not_null) AS (
  SELECT DISTINCT 0::oid, 'column', 0::float8, '' COLLATE "C", a.atttypid, '', false
  FROM pg_attribute a
  WHERE a.attrelid = ANY (%s) AND a.attnum > 0 AND NOT a.attisdropped AND a.atttypid >= 16384
  UNION SELECT u.made_of, p.* FROM part u CROSS JOIN LATERAL (
    SELECT 'enum', e.enumsortorder::float8, e.enumlabel::text, 0::oid, '', false
    FROM pg_enum e WHERE e.enumtypid = u.made_of
    UNION ALL SELECT 'domain', 1, '', t.typbasetype, format_type(t.typbasetype, t.typtypmod),
      t.typnotnull FROM pg_type t WHERE t.oid = u.made_of AND t.typtype = 'd'
    UNION ALL SELECT 'array', 1, '', e.oid, '', false
    FROM pg_type t JOIN pg_type e ON e.oid = t.typelem
    WHERE t.oid = u.made_of AND e.typarray = t.oid
    UNION ALL SELECT 'range', 1, '', r.rngsubtype, format_type(r.rngsubtype, NULL), false
    FROM pg_range r
    WHERE u.made_of IN (r.rngtypid, (to_jsonb(r) ->> 'rngmultitypid')::oid)
    UNION ALL SELECT 'composite', a.attnum, a.attname::text, a.atttypid,
      format_type(a.atttypid, a.atttypmod), false
    FROM pg_type t JOIN pg_attribute a ON a.attrelid = t.typrelid
    WHERE t.oid = u.made_of AND t.typtype = 'c' AND a.attnum > 0 AND NOT a.attisdropped
  ) p WHERE u.made_of >= 16384)
SELECT whole::bigint, kind, name, made_of::bigint, type, not_null FROM part
WHERE whole <> 0 ORDER BY whole, n"""


class _Part(NamedTuple):
    kind: str
    name: str
    made_of: int
    type: str
    not_null: bool


class UserTypes:
    """User-defined types by oid, made from the rows of TYPES."""

    def __init__(self, rows: Rows) -> None:
        self._parts: dict[int, list[_Part]] = {}
        for oid, *fields in rows:
            self._parts.setdefault(oid, []).append(_Part(*fields))

    def detail(self, oid: int) -> TypeDetail:
        """Return a type's definition; empty for a built-in type."""
        parts = self._parts.get(oid, ())
        if not parts:
            return ()
        if parts[0].kind == "array":
            return self.detail(parts[0].made_of)
        if parts[0].kind == "enum":
            return (" (", tuple(part.name for part in parts), ")")
        inside: list[str | tuple[str, ...]] = []
        for part in parts:
            before = {"domain": "= ", "range": "of "}.get(part.kind, f"{_name(part.name)} ")
            inside += [", " if inside else " (", before, part.type, *self.detail(part.made_of)]
            inside += [" not null"] if part.not_null else []
        return (*inside, ")")


def render_type(detail: Iterable[str | tuple[str, ...]]) -> str:
    """Write a definition as text; labels are quoted, so that ('a', 'b') and ('a, b') differ."""
    return "".join(
        part if isinstance(part, str) else ", ".join(map(_quoted, part)) for part in detail
    )


def accepts(detail: Iterable[str | tuple[str, ...]], text: str) -> bool:
    """Tell whether ``text`` is the definition, possibly without some of the enums' labels."""
    for part in detail:
        if isinstance(part, str):
            if not text.startswith(part):
                return False
            text = text[len(part) :]
        else:
            for label in map(_quoted, part):
                if text.startswith(label):
                    text = text[len(label) :].removeprefix(", ")
    return not text


def _name(name: str) -> str:
    return name if _PLAIN.fullmatch(name) else '"' + name.replace('"', '""') + '"'


def _quoted(label: str) -> str:
    return "'" + label.replace("'", "''") + "'"

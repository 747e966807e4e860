"""What types that somebody made are made of: a name alone does not tell which values fit."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from perfdata.postgres.link import Rows

# A description in parts: as it is written, and an enum's labels where they stand.
TypeDetail = tuple["str | tuple[str, ...]", ...]

_PLAIN = re.compile(r"[a-z_][a-z0-9_]*")

# From the types that columns are of on to what these are made of: an enum's labels, a composite's
# attributes, what a domain stands on, what an array or a range is of. Oids of our own begin at
# 16384; before 14 there are no multiranges. Each step looks up by oid: gathering all first took
# 40 ms among 500 tables, whose rows are types too.
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
    """The types that were found, by oid."""

    def __init__(self, rows: Rows) -> None:
        """Take the rows of KINDS."""
        self._parts: dict[int, list[_Part]] = {}
        for oid, *fields in rows:
            self._parts.setdefault(oid, []).append(_Part(*fields))

    def detail(self, oid: int) -> TypeDetail:
        """Say what stands behind a type's name; nothing behind those of PostgreSQL's own."""
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
    """Write a description; labels are quoted, so that ('a', 'b') and ('a, b') differ."""
    return "".join(
        part if isinstance(part, str) else ", ".join(map(_quoted, part)) for part in detail
    )


def accepts(detail: Iterable[str | tuple[str, ...]], was: str) -> bool:
    """Tell whether what was described so had the same but fewer labels, in the same order."""
    for part in detail:
        if isinstance(part, str):
            if not was.startswith(part):
                return False
            was = was[len(part) :]
        else:
            for label in map(_quoted, part):
                if was.startswith(label):
                    was = was[len(label) :].removeprefix(", ")
    return not was


def _name(name: str) -> str:
    return name if _PLAIN.fullmatch(name) else '"' + name.replace('"', '""') + '"'


def _quoted(label: str) -> str:
    return "'" + label.replace("'", "''") + "'"

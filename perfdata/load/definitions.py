"""The definitions of tables, which a load may not change."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perfdata.errors import SchemaError
from perfdata.text import join_first

if TYPE_CHECKING:
    from collections.abc import Collection

    from perfdata.postgres.link import AnyQuery, Rows

# Everything about tables and their partitions except rows, one line per object. Internal triggers
# are named by their constraint and function, because their own names contain an oid.
_DEFINITIONS = """
WITH RECURSIVE part (oid) AS (
  SELECT unnest(%(oids)s::oid[])
  UNION SELECT i.inhrelid FROM part p JOIN pg_inherits i ON i.inhparent = p.oid
  JOIN pg_class c ON c.oid = i.inhrelid WHERE c.relispartition),
class AS NOT MATERIALIZED (
  SELECT c.oid, (to_jsonb(c) - ARRAY['oid', 'relfilenode', 'relpages', 'reltuples',
    'relallvisible', 'relallfrozen', 'relfrozenxid', 'relminmxid', 'reltoastrelid', 'relhasindex',
    'relhastriggers', 'relhasrules'])::text || coalesce(obj_description(c.oid, 'pg_class'), '')
    AS facts
  FROM pg_class c)
SELECT format('table %%s: %%s', c.oid::regclass, c.facts) FROM class c JOIN part USING (oid)
UNION ALL SELECT format('column %%s.%%I: %%s', a.attrelid::regclass, a.attname,
  to_jsonb(a) - 'attmissingval')
FROM pg_attribute a JOIN part ON part.oid = a.attrelid WHERE a.attnum > 0 AND NOT a.attisdropped
UNION ALL SELECT format('constraint %%s.%%I: %%s %%s', k.conrelid::regclass, k.conname,
  to_jsonb(k) - ARRAY['oid', 'conindid', 'conbin'],
  pg_get_constraintdef(k.oid) || coalesce(obj_description(k.oid, 'pg_constraint'), ''))
FROM pg_constraint k WHERE k.conparentid = 0
  AND (k.conrelid IN (SELECT oid FROM part) OR k.confrelid IN (SELECT oid FROM part))
UNION ALL SELECT format('index %%s: %%s', i.indexrelid::regclass, pg_get_indexdef(i.indexrelid)
  || (to_jsonb(i) - ARRAY['indexrelid', 'indcheckxmin', 'indexprs', 'indpred'])::text || c.facts
  || ARRAY(SELECT a.attstattarget FROM pg_attribute a
           WHERE a.attrelid = i.indexrelid ORDER BY a.attnum)::text)
FROM pg_index i JOIN part ON part.oid = i.indrelid JOIN class c ON c.oid = i.indexrelid
UNION ALL SELECT format('trigger %%s.%%s: %%s %%s', t.tgrelid::regclass,
  coalesce(k.conname || ' ' || t.tgfoid::regproc::text, t.tgname), t.tgenabled,
  CASE WHEN NOT t.tgisinternal THEN pg_get_triggerdef(t.oid) END)
FROM pg_trigger t JOIN part ON part.oid = t.tgrelid
LEFT JOIN pg_constraint k ON k.oid = t.tgconstraint
WHERE coalesce(k.conparentid, 0) = 0
UNION ALL SELECT format('trigger %%s.%%s of a partition: %%s, %%s times', t.tgrelid::regclass,
  t.tgfoid::regproc, t.tgenabled, count(*))
FROM pg_trigger t JOIN part ON part.oid = t.tgrelid JOIN pg_constraint k ON k.oid = t.tgconstraint
WHERE k.conparentid <> 0 GROUP BY t.tgrelid, t.tgfoid, t.tgenabled"""


def definitions_query(oids: Collection[int]) -> AnyQuery:
    """Make the query for the definitions of tables and all that belongs to them."""
    return _DEFINITIONS, {"oids": list(oids)}


def compare_definitions(before: Rows, after: Rows) -> None:
    """Raise SchemaError if the rows of definitions_query differ."""
    changed = {line for (line,) in before} ^ {line for (line,) in after}
    if changed:
        names = sorted({line.partition(":")[0] for line in changed})
        raise SchemaError(
            f"the load would have changed these definitions: {join_first(names)}; "
            "everything was rolled back"
        )

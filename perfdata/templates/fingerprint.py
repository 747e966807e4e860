"""A fingerprint of all that is in a database but the rows of the tables that a load fills.

Two databases with the same one can take each other's place in a load. What a load makes anew (keys,
indexes, their triggers) is written without oids; the rest may hold them: a fingerprint that changes
without need costs a template, one that does not change where it must would cost data.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, LiteralString

from psycopg import sql

from perfdata.load.views import unfed_views, views_query
from perfdata.postgres.catalog import table_key

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from perfdata.postgres.catalog import Catalog, Table
    from perfdata.postgres.link import Link

# Objects of initdb have lower numbers; of those only what may be granted is looked at.
_FIRST_OWN_OID = 16384

# Catalogs whose rows tell all there is to know of an object, and the column that names its owner.
_WHOLE = {
    "pg_aggregate": "aggfnoid", "pg_am": "oid", "pg_amop": "oid", "pg_amproc": "oid",
    "pg_cast": "oid", "pg_collation": "oid", "pg_conversion": "oid", "pg_default_acl": "oid",
    "pg_enum": "oid", "pg_event_trigger": "oid", "pg_extension": "oid",
    "pg_foreign_data_wrapper": "oid", "pg_foreign_server": "oid", "pg_foreign_table": "ftrelid",
    "pg_inherits": "inhrelid", "pg_language": "oid", "pg_namespace": "oid", "pg_opclass": "oid",
    "pg_operator": "oid", "pg_opfamily": "oid", "pg_partitioned_table": "partrelid",
    "pg_policy": "oid", "pg_proc": "oid", "pg_publication": "oid",
    "pg_publication_namespace": "oid", "pg_publication_rel": "oid", "pg_range": "rngtypid",
    "pg_sequence": "seqrelid",
    "pg_statistic_ext": "oid", "pg_transform": "oid", "pg_ts_config": "oid",
    "pg_ts_config_map": "mapcfg", "pg_ts_dict": "oid", "pg_ts_parser": "oid",
    "pg_ts_template": "oid", "pg_type": "oid",
}  # fmt: skip
_GRANTED = {"pg_namespace": "nspacl", "pg_proc": "proacl", "pg_type": "typacl"}

_RELATIONS = """
WITH own AS (
  SELECT c.oid, c.relkind FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE c.oid >= 16384 AND n.nspname !~ '^pg_(toast|temp)')
SELECT concat('relation ', c.oid::regclass, to_jsonb(c) - ARRAY['oid', 'relfilenode', 'relpages',
  'reltuples', 'relallvisible', 'relallfrozen', 'relfrozenxid', 'relminmxid', 'reltoastrelid',
  'relhasindex', 'relhastriggers', 'relhasrules', 'relispopulated'],
  obj_description(c.oid, 'pg_class'))
FROM pg_class c JOIN own USING (oid)
UNION ALL SELECT concat('column ', a.attrelid::regclass, to_jsonb(a) - ARRAY['attrelid',
  'attmissingval', 'atthasmissing'], pg_get_expr(d.adbin, d.adrelid),
  col_description(a.attrelid, a.attnum))
FROM pg_attribute a JOIN own ON own.oid = a.attrelid
LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum WHERE a.attnum > 0
UNION ALL SELECT concat('constraint ', k.conrelid::regclass, k.contypid::regtype, to_jsonb(k)
  - ARRAY['oid', 'conindid', 'conbin', 'conparentid'], pg_get_constraintdef(k.oid),
  obj_description(k.oid, 'pg_constraint'))
FROM pg_constraint k WHERE k.oid >= 16384
UNION ALL SELECT concat('index ', pg_get_indexdef(i.indexrelid), to_jsonb(i) - ARRAY['indexrelid',
  'indcheckxmin', 'indexprs', 'indpred'])
FROM pg_index i JOIN own ON own.oid = i.indexrelid
UNION ALL SELECT concat('trigger ', t.tgrelid::regclass, t.tgenabled, t.tgfoid::regproc,
  CASE WHEN NOT t.tgisinternal THEN pg_get_triggerdef(t.oid) END, k.conname,
  obj_description(t.oid, 'pg_trigger'))
FROM pg_trigger t LEFT JOIN pg_constraint k ON k.oid = t.tgconstraint
UNION ALL SELECT concat('rule ', r.ev_class::regclass, r.ev_enabled, pg_get_ruledef(r.oid))
FROM pg_rewrite r WHERE r.oid >= 16384
UNION ALL SELECT concat('comment ', d.classoid::regclass, d.objoid, d.objsubid, d.description)
FROM pg_description d WHERE d.objoid >= 16384
  AND d.classoid NOT IN ('pg_class'::regclass, 'pg_constraint'::regclass, 'pg_trigger'::regclass)
UNION ALL SELECT concat('schema ', n.nspname, obj_description(n.oid, 'pg_namespace'))
FROM pg_namespace n WHERE n.nspname !~ '^pg_(toast|temp)'
UNION ALL SELECT concat('large object ', to_jsonb(o), obj_description(o.oid, 'pg_largeobject'),
  md5(lo_get(o.oid))) FROM pg_largeobject_metadata o
UNION ALL SELECT concat('label ', to_jsonb(l)) FROM pg_seclabel l
UNION ALL SELECT concat('mapping ', to_jsonb(m)) FROM pg_user_mappings m
"""

# Tables of extensions whose rows are a user's (spatial_ref_sys is one) are in no catalog of ours.
_EXTENSION_TABLES = """
SELECT n.nspname, c.relname FROM pg_extension e, unnest(e.extconfig) x
JOIN pg_class c ON c.oid = x JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' ORDER BY 1, 2"""

_SEQUENCES = """
SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'S' AND c.relpersistence <> 't' ORDER BY 1, 2"""


def fingerprint_database(
    link: Link, catalog: Catalog, filled: Collection[Table], moved: Collection[str] = ()
) -> str:
    """Hash everything in a database but the rows of the tables that a load fills.

    That is: every definition, the rows of all other tables and of the materialised views that the
    filled ones do not feed, and where the sequences stand that feed none of the filled ones and
    are not ``moved`` by the load.
    """
    with link.transaction():
        others = (_EXTENSION_TABLES, _SEQUENCES, views_query(filled))
        *described, extension_tables, sequences, views = link.together(
            [_RELATIONS, *_whole(), *others]
        )
        left: list[sql.Composable] = [table.only for table in catalog.tables if table not in filled]
        kept = unfed_views(views)
        left += kept
        # A migration of data alone changes no more than where Alembic stands.
        left += [one.only for one in catalog.versions]
        left += [sql.SQL("ONLY {}").format(sql.Identifier(*row)) for row in extension_tables]
        oids = {table.oid for table in filled}
        fed = {(one.schema, one.name) for one in catalog.sequences if one.table in oids}
        stay = {names for names in sequences if table_key(*names) not in moved} - fed
        contents = link.together([*_rows_of(left), *_places_of(stay)])
    digest = hashlib.sha256()
    for rows in described:
        digest.update("\n".join(sorted(str(row[0]) for row in rows)).encode())
    digest.update(repr([contents, [one.as_string(None) for one in kept]]).encode())
    return digest.hexdigest()


def _whole() -> Iterable[sql.Composed]:
    for name, column in _WHOLE.items():
        granted: LiteralString = _GRANTED.get(name, "")
        yield sql.SQL(
            "SELECT concat({}, to_jsonb(t)) FROM pg_catalog.{} t WHERE (t.{}::oid >= {}{}){}"
        ).format(
            sql.Literal(name),
            sql.Identifier(name),
            sql.Identifier(column),
            sql.Literal(_FIRST_OWN_OID),
            sql.SQL(" OR t.{} IS NOT NULL").format(sql.Identifier(granted))
            if granted
            else sql.SQL(""),
            # Made by the first temporary table of a session, ours too, and never removed.
            sql.SQL(" AND t.nspname !~ '^pg_(toast_)?temp_'" if name == "pg_namespace" else ""),
        )


def _rows_of(tables: Iterable[sql.Composable]) -> Iterable[sql.Composed]:
    for table in tables:
        # t.* is the row; a bare t would be a column of that name.
        yield sql.SQL("SELECT count(*), sum(hashtextextended(ROW(t.*)::text, 0)) FROM {} t").format(
            table
        )


def _places_of(sequences: Iterable[tuple[str, ...]]) -> Iterable[sql.Composed]:
    for names in sorted(sequences):
        yield sql.SQL("SELECT last_value, is_called FROM {}").format(sql.Identifier(*names))

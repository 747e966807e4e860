"""The fingerprint of a database: of all its contents except the rows of tables that a load fills.

Before a load, databases with the same fingerprint are interchangeable. What a load recreates (keys,
indexes, their triggers) is hashed without oids; the rest may include them: a fingerprint that
changes needlessly costs a new template, one that fails to change would cost data.
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

# Objects made by initdb have lower oids; of these, only those with changed grants are hashed.
_FIRST_USER_OID = 16384

# Catalogs whose rows describe an object completely, with the column of its oid.
_CATALOGS = {
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
# Columns of the grants on objects made by initdb.
_GRANTS = {"pg_namespace": "nspacl", "pg_proc": "proacl", "pg_type": "typacl"}

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

# Extension tables with user data, such as spatial_ref_sys, which are not in ``catalog.tables``.
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
    """Hash everything in a database except the rows of the tables that a load fills.

    Hashed are all definitions, the rows of other tables and of materialised views that the filled
    tables do not feed, and the states of sequences that neither feed the filled tables nor are
    ``moved`` (by key). Returns a sha256 in hexadecimal.
    """
    with link.transaction():
        others = (_EXTENSION_TABLES, _SEQUENCES, views_query(filled))
        *definitions, extension_tables, sequences, views = link.together(
            [_RELATIONS, *_catalog_queries(), *others]
        )
        tables: list[sql.Composable] = [
            table.only for table in catalog.tables if table not in filled
        ]
        unfed = unfed_views(views)
        tables += unfed
        # A data migration may change only Alembic's version.
        tables += [table.only for table in catalog.versions]
        tables += [sql.SQL("ONLY {}").format(sql.Identifier(*row)) for row in extension_tables]
        oids = {table.oid for table in filled}
        fed = {(s.schema, s.name) for s in catalog.sequences if s.table in oids}
        unmoved = {name for name in sequences if table_key(*name) not in moved} - fed
        contents = link.together([*_row_hashes(tables), *_sequence_states(unmoved)])
    digest = hashlib.sha256()
    for rows in definitions:
        digest.update("\n".join(sorted(str(row[0]) for row in rows)).encode())
    digest.update(repr([contents, [view.as_string(None) for view in unfed]]).encode())
    return digest.hexdigest()


def _catalog_queries() -> Iterable[sql.Composed]:
    for name, column in _CATALOGS.items():
        granted: LiteralString = _GRANTS.get(name, "")
        yield sql.SQL(
            "SELECT concat({}, to_jsonb(t)) FROM pg_catalog.{} t WHERE (t.{}::oid >= {}{}){}"
        ).format(
            sql.Literal(name),
            sql.Identifier(name),
            sql.Identifier(column),
            sql.Literal(_FIRST_USER_OID),
            sql.SQL(" OR t.{} IS NOT NULL").format(sql.Identifier(granted))
            if granted
            else sql.SQL(""),
            # The schemas of temporary tables: any session may make them, and they stay.
            sql.SQL(" AND t.nspname !~ '^pg_(toast_)?temp_'" if name == "pg_namespace" else ""),
        )


def _row_hashes(tables: Iterable[sql.Composable]) -> Iterable[sql.Composed]:
    for table in tables:
        # t.* is the row; a bare t would be a column of that name.
        yield sql.SQL("SELECT count(*), sum(hashtextextended(ROW(t.*)::text, 0)) FROM {} t").format(
            table
        )


def _sequence_states(sequences: Iterable[tuple[str, ...]]) -> Iterable[sql.Composed]:
    for names in sorted(sequences):
        yield sql.SQL("SELECT last_value, is_called FROM {}").format(sql.Identifier(*names))

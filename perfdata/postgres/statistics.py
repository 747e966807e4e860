"""Planner statistics: read from one database and restored in another, so that plans are the same.

PostgreSQL 18 restores them with ``pg_restore_relation_stats`` and ``pg_restore_attribute_stats``,
which are transactional and require ownership of the table. Tables that these functions do not
cover are left to ANALYZE: those with extended statistics or partitions, and those whose definition,
indexes or collations differ between the databases.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from psycopg import sql

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from perfdata.postgres.catalog import Table
    from perfdata.postgres.link import Deferred, Link

# autovacuum's default thresholds: with more changed rows, statistics count as outdated.
_CHANGED_ROWS, _CHANGED_SHARE = 50, 0.1

# What decides page counts and sort order, and so must be equal in both databases. NULL if the
# server can't restore statistics.
_ENVIRONMENT = """
SELECT CASE WHEN current_setting('server_version_num')::int >= 180000 THEN
  concat_ws(' ', current_setting('block_size'), to_jsonb(d)->>'datlocprovider', d.datcollate,
    d.datctype, to_jsonb(d)->>'datlocale', to_jsonb(d)->>'datcollversion',
    pg_encoding_to_char(d.encoding)) END
FROM pg_database d WHERE d.datname = current_database()"""

# Tables and their indexes, each with the definition that its statistics depend on.
_RELATIONS = """
SELECT t.oid AS root, c.oid, n.nspname, c.relname, c.relpages, c.reltuples,
  pg_relation_size(c.oid) / current_setting('block_size')::int AS pages,
  CASE WHEN c.oid <> t.oid THEN pg_get_indexdef(c.oid) ELSE (
    SELECT string_agg(a.attname || ' ' || format_type(a.atttypid, a.atttypmod), ', '
                      ORDER BY a.attname)
    FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped)
  END AS definition
FROM pg_class t
CROSS JOIN LATERAL (
  SELECT t.oid UNION ALL SELECT indexrelid FROM pg_index WHERE indrelid = t.oid) AS u (oid)
JOIN pg_class c ON c.oid = u.oid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE t.oid = ANY ({oids}::oid[]) AND t.relkind = 'r' AND pg_has_role(t.relowner, 'USAGE')
  AND NOT t.relispartition AND NOT t.relhassubclass
  AND NOT EXISTS (SELECT FROM pg_statistic_ext e WHERE e.stxrelid = t.oid)"""

# An index column is identified by its number, because the server generates its name. json_agg can't
# be used, as it writes newlines.
_READ = """
WITH relation AS ({relations})
SELECT json_build_object('schema', r.nspname, 'name', r.relname, 'definition', r.definition,
  'pages', r.pages, 'relpages', r.relpages, 'reltuples', r.reltuples, 'columns',
  array_to_json(ARRAY(SELECT json_strip_nulls(json_build_object(
     'attname', CASE WHEN r.oid = r.root THEN s.attname END,
     'attnum', CASE WHEN r.oid <> r.root THEN a.attnum END,
     'inherited', s.inherited, 'null_frac', s.null_frac, 'avg_width', s.avg_width,
     'n_distinct', s.n_distinct, 'most_common_vals', s.most_common_vals::text,
     'most_common_freqs', s.most_common_freqs, 'histogram_bounds', s.histogram_bounds::text,
     'correlation', s.correlation, 'most_common_elems', s.most_common_elems::text,
     'most_common_elem_freqs', s.most_common_elem_freqs,
     'elem_count_histogram', s.elem_count_histogram,
     'range_length_histogram', s.range_length_histogram::text,
     'range_empty_frac', s.range_empty_frac,
     'range_bounds_histogram', s.range_bounds_histogram::text))
   FROM pg_stats s JOIN pg_attribute a ON a.attrelid = r.oid AND a.attname = s.attname
   WHERE s.schemaname = r.nspname AND s.tablename = r.relname ORDER BY a.attnum)))
FROM relation r
WHERE r.root IN (
  SELECT o.root FROM relation o JOIN unnest({oids}::oid[], {rows}::bigint[]) AS k (oid, rows)
  ON k.oid = o.oid
  WHERE o.reltuples >= 0 AND abs(o.reltuples * o.pages / greatest(o.relpages, 1) - k.rows)
    <= {fixed} + {scale} * k.rows
    AND (k.rows = 0 OR EXISTS (SELECT FROM pg_stats s
                               WHERE s.schemaname = o.nspname AND s.tablename = o.relname)))
ORDER BY r.root, r.oid <> r.root, r.relname"""

_GIVEN = """
given AS (
  SELECT * FROM json_to_recordset({lines}::json) AS g (schema text, name text, definition text,
    pages bigint, relpages int, reltuples real, columns json)),
relation AS ({relations}),
fitting AS (
  SELECT r.*, g.pages AS then_pages, g.relpages AS then_relpages, g.reltuples AS then_reltuples,
    g.columns
  FROM relation r JOIN given g ON g.schema = r.nspname AND g.name = r.relname
  WHERE r.root IN (
    SELECT o.root FROM relation o
    LEFT JOIN given h ON h.schema = o.nspname AND h.name = o.relname
    GROUP BY o.root HAVING bool_and(h.definition IS NOT DISTINCT FROM o.definition)))"""

# A relation with as many pages as before gets the same figures. Otherwise they are scaled, so that
# the planner, which scales rows by pages, arrives at the same number of rows.
_RESTORE_RELATIONS = """
WITH {given}
SELECT f.root::bigint, pg_catalog.pg_restore_relation_stats(
  'schemaname', f.nspname::text, 'relname', f.relname::text,
  'relpages', (CASE WHEN f.pages = f.then_pages THEN f.then_relpages ELSE f.pages END)::integer,
  'reltuples', (CASE WHEN f.pages = f.then_pages OR f.then_relpages = 0 THEN f.then_reltuples
                ELSE f.then_reltuples * f.then_pages / f.then_relpages END)::real)
FROM fitting f"""

_CLEAR_COLUMNS = """
WITH {given}
SELECT count(pg_catalog.pg_clear_attribute_stats(f.nspname, f.relname, a.attname, false))
FROM fitting f JOIN pg_attribute a ON a.attrelid = f.oid AND a.attnum > 0 AND NOT a.attisdropped"""

_RESTORE_COLUMNS = """
WITH {given}
SELECT f.root::bigint, pg_catalog.pg_restore_attribute_stats(
  'schemaname', f.nspname::text, 'relname', f.relname::text, 'attname', c.attname,
  'attnum', c.attnum, 'inherited', c.inherited, 'null_frac', c.null_frac,
  'avg_width', c.avg_width, 'n_distinct', c.n_distinct, 'most_common_vals', c.most_common_vals,
  'most_common_freqs', c.most_common_freqs, 'histogram_bounds', c.histogram_bounds,
  'correlation', c.correlation, 'most_common_elems', c.most_common_elems,
  'most_common_elem_freqs', c.most_common_elem_freqs,
  'elem_count_histogram', c.elem_count_histogram,
  'range_length_histogram', c.range_length_histogram, 'range_empty_frac', c.range_empty_frac,
  'range_bounds_histogram', c.range_bounds_histogram)
FROM fitting f CROSS JOIN LATERAL json_to_recordset(f.columns) AS c (attname text,
  attnum smallint, inherited boolean, null_frac real, avg_width integer, n_distinct real,
  most_common_vals text, most_common_freqs real[], histogram_bounds text, correlation real,
  most_common_elems text, most_common_elem_freqs real[], elem_count_histogram real[],
  range_length_histogram text, range_empty_frac real, range_bounds_histogram text)"""

# As json_build_object writes it. Inside a value the quotes would be escaped.
_COLUMNS = b', "columns" : '


@dataclass(frozen=True)
class Statistics:
    """Planner statistics: the environment they are valid in, and a JSON object per relation."""

    environment: str
    relations: Sequence[bytes]

    @property
    def sizes(self) -> list[bytes]:
        """The relations without their columns' statistics, which come last in each object."""
        return [
            head + b"}" if columns else line
            for line in self.relations
            for head, columns, _ in [line.partition(_COLUMNS)]
        ]


def read_statistics(link: Link, rows: Mapping[int, int]) -> Statistics | None:
    """Read the statistics of tables and their indexes; None from a server before 18.

    ``rows`` are the numbers of rows by table oid. Only for use in a transaction of the link, whose
    settings decide how values are written. Left out are tables that the server can't restore
    (see the module), and tables with many changed rows since their last ANALYZE.
    """
    environment = link.value(_ENVIRONMENT)
    if environment is None:
        return None
    lines: list[bytes] = []
    oids = sql.Literal(list(rows))
    query = sql.SQL(_READ).format(
        relations=sql.SQL(_RELATIONS).format(oids=oids),
        oids=oids,
        rows=sql.Literal(list(rows.values())),
        fixed=sql.Literal(_CHANGED_ROWS),
        scale=sql.Literal(_CHANGED_SHARE),
    )
    link.copy_out(query, lambda block: lines.extend(block.splitlines()))
    return Statistics(environment, lines)


def planner_environment(link: Link) -> Deferred:
    """Queue the query for the environment.

    Statistics are valid in a database with the environment in which they were computed.
    """
    return link.later(_ENVIRONMENT)


def restore_statistics(
    link: Link, statistics: Statistics, tables: Iterable[Table], environment: Deferred
) -> frozenset[int]:
    """Restore the statistics of tables.

    The tables must hold exactly the rows that the statistics were computed from. ``environment`` is
    the result of planner_environment. Runs in the open transaction. Returns the oids of the tables
    whose statistics are complete; the others have to be analysed.
    """
    oids = [table.oid for table in tables]
    if not oids or environment.rows[0][0] != statistics.environment:
        return frozenset()
    sizes, complete = _given(statistics.sizes, oids), _given(statistics.relations, oids)
    queries = [
        sql.SQL(_CLEAR_COLUMNS).format(given=sizes),
        sql.SQL(_RESTORE_RELATIONS).format(given=sizes),
        sql.SQL(_RESTORE_COLUMNS).format(given=complete),
    ]
    _, relations, columns = link.together(queries)
    failed = {oid for oid, restored in (*relations, *columns) if not restored}
    return frozenset(oid for oid, _ in relations) - failed


def restore_row_counts(link: Link, statistics: Statistics, oids: Collection[int]) -> None:
    """Restore the row counts of tables that were vacuumed after restore_statistics.

    VACUUM skips nearly all pages that COPY FREEZE wrote, and estimates that the table is empty.
    """
    if oids:
        given = _given(statistics.sizes, sorted(oids))
        with link.transaction():
            link.later(sql.SQL(_RESTORE_RELATIONS).format(given=given))


def _given(relations: Sequence[bytes], oids: Sequence[int]) -> sql.Composed:
    lines = b"[" + b",".join(relations) + b"]"
    return sql.SQL(_GIVEN).format(
        lines=sql.Literal(lines.decode()),
        relations=sql.SQL(_RELATIONS).format(oids=sql.Literal(list(oids))),
    )

"""Primary keys of loaded rows that existing rows, which stay, have too."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg import sql

from perfdata.load.plan import Existing
from perfdata.postgres.copy import BINARY
from perfdata.text import join_first

if TYPE_CHECKING:
    from collections.abc import Iterator

    from perfdata.load.plan import Plan, RowSource, TableLoad
    from perfdata.postgres.catalog import Table
    from perfdata.postgres.link import Link

_STAGED = sql.Identifier("pg_temp", "perfdata_keys")
_MAY_STAGE = "SELECT has_database_privilege(current_database(), 'TEMPORARY')"
_NUMBERS = {"smallint", "integer", "bigint"}
_SAMPLES = 3


def shared_keys(link: Link, plan: Plan, source: RowSource) -> list[str]:
    """Describe, by table, the keys that loaded rows share with rows that stay.

    The loaded rows of tables in which rows stay are copied into a temporary table. Columns of the
    key that the source leaves out get their defaults, so such tables are not looked at. Nothing is
    found by a role that may not create temporary tables.
    """
    if plan.existing is Existing.ALL:  # no row stays
        return []
    tables = [table for table in _replaced_partly(plan) if table.primary_key]
    queries = [
        sql.SQL("SELECT EXISTS (SELECT FROM {} p WHERE {})").format(table.only, _stays(plan, table))
        for table in tables
    ]
    answers = link.together(queries)
    keys = {table.key for table, ((rows,),) in zip(tables, answers, strict=True) if rows}
    found: list[str] = []
    if not keys or not link.value(_MAY_STAGE):
        return found
    for load in source.tables(plan.catalog, keys):
        if set(load.table.primary_key) <= set(load.columns):
            found += _shared(link, plan, load)
        else:
            for _ in load.blocks:
                pass
    return found


def rows_stay(plan: Plan) -> bool:
    """Tell whether rows may stay in the tables of a load."""
    if plan.existing in {Existing.ALL, Existing.NONE}:
        return bool(plan.staying)
    return plan.existing is Existing.KEEP or bool(_replaced_partly(plan))


def start_elsewhere(plan: Plan) -> str:
    """Return what the user can do about shared keys."""
    if plan.existing is Existing.KEEP:
        return "Leave out clean_existing=False to replace the flagged rows that exist"
    return (
        "Have the dataset start its keys elsewhere, or leave the column to the table's sequence "
        "and build the dataset in this database; or give the kept rows other keys, or flag them if "
        "they are test data"
    )


def _replaced_partly(plan: Plan) -> list[Table]:
    return [table for table in plan.tables if not plan.selection.takes_whole(table)]


def _stays(plan: Plan, table: Table) -> sql.Composable:
    if plan.existing is Existing.KEEP:
        return sql.SQL("true")
    return plan.selection.others(table, "p")


def _shared(link: Link, plan: Plan, load: TableLoad) -> Iterator[str]:
    """Describe the keys that a table's loaded rows share with those that stay."""
    table = load.table
    key = [table.column(name) for name in table.primary_key]
    with link.own_path():
        link.later(
            sql.SQL("CREATE TEMP TABLE {} ({}) ON COMMIT DROP").format(
                _STAGED, sql.SQL(", ").join(_staged(load, name) for name in load.columns)
            )
        )
        link.copy_in(_STAGED, load.columns, load.blocks, load.copy_format)
    equal = sql.SQL(" AND ").join(
        sql.SQL("{} = {}").format(
            sql.Identifier("s", column.name),
            column.text("p") if column.as_text else sql.Identifier("p", column.name),
        )
        for column in key
    )
    names = sql.SQL(", ").join(sql.Identifier("s", column.name) for column in key)
    rows = link.rows(
        sql.SQL(
            "SELECT concat_ws(', ', {names}), count(*) OVER () FROM {staged} s "
            "JOIN {table} p ON {equal} WHERE {stays} ORDER BY {names} LIMIT {limit}"
        ).format(
            names=names,
            staged=_STAGED,
            table=table.only,
            equal=equal,
            stays=_stays(plan, table),
            limit=sql.Literal(_SAMPLES),
        )
    )
    if rows:
        more = [None] * (rows[0][1] - len(rows))
        samples = join_first([row[0] for row in rows] + more, limit=len(rows))
        name = ", ".join(table.primary_key)
        yield f"{table.key} ({name}): {samples}{_range(link, table)}"
    with link.own_path():
        link.later(sql.SQL("DROP TABLE {}").format(_STAGED))


def _staged(load: TableLoad, name: str) -> sql.Composable:
    """Define a column that runs none of the table's code: keys have their base type, as needed.

    So have all columns of a binary COPY, in which only enums are written as text is.
    """
    column = load.table.column(name)
    typed = name in load.table.primary_key or load.copy_format is BINARY
    compared = typed and not column.as_text
    return sql.SQL("{} {}").format(
        sql.Identifier(name), sql.SQL(column.base if compared else "pg_catalog.text")
    )


def _range(link: Link, table: Table) -> str:
    """Return the range of the loaded rows' keys if these are numbers."""
    name = table.primary_key[0]
    if len(table.primary_key) > 1 or table.column(name).base not in _NUMBERS:
        return ""
    query = sql.SQL("SELECT min({0}), max({0}) FROM {1}").format(sql.Identifier(name), _STAGED)
    ((first, last),) = link.rows(query)
    return f"; the loaded rows have {first:,} to {last:,}"

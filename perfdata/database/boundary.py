"""The boundary check: no row that stays may reference a row that a load removes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg import sql

from perfdata.database.connection import first
from perfdata.errors import BoundaryError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from perfdata.database.catalog import Catalog, ForeignKey, Table
    from perfdata.database.emptying import Before
    from perfdata.database.link import Link, Rows

# Rows named in an error, for each foreign key.
_SAMPLE = 5


def check_boundary(
    link: Link,
    catalog: Catalog,
    flag_column: str,
    before: Iterable[Before],
    whole: Collection[int] = (),
) -> None:
    """Raise BoundaryError if an unflagged row references a flagged one that is to be removed.

    Such a row would be deleted by a cascade, set to null or left dangling. Of the tables ``whole``
    (by oid) only the flagged rows count: the snapshot has all others.
    """
    counted = {one.table.oid: one for one in before}
    emptied = {
        oid
        for oid, one in counted.items()
        if one.going and (oid not in whole or one.table.has_flag(flag_column))
    }
    flagged = {oid for oid, one in counted.items() if not one.staying}
    keys = [k for k in catalog.foreign_keys if k.parent in emptied and k.child not in flagged]
    queries = [_crossing_rows(catalog, flag_column, key) for key in keys]
    answers = zip(keys, link.together(queries), strict=True)
    crossing = [(key, rows) for key, rows in answers if rows]
    if crossing:
        found = [_describe(catalog, key, rows) for key, rows in crossing]
        children = [catalog.by_oid[key.child] for key, _ in crossing]
        raise BoundaryError(
            "refused, nothing was touched: rows that are not test data reference test data that "
            f"would be replaced: {'; '.join(found)}",
            remedy=f"{_remedy(children, flag_column)}; then run it again",
        )


def _remedy(children: Collection[Table], flag_column: str) -> str:
    """Say what can be done about the rows of these tables."""
    ways = ["Point those rows to rows that stay, or remove them"]
    if flagged := sorted({table.key for table in children if table.has_flag(flag_column)}):
        ways.append(f"set {flag_column} on those of {first(flagged)} if they are test data")
    if others := sorted({table.key for table in children if not table.has_flag(flag_column)}):
        has = "have" if len(others) > 1 else "has"
        ways.append(
            f"take {first(others)}, which {has} no column {flag_column}, whole ([tool.perfdata] "
            "whole_tables) and create the snapshot again"
        )
    return "; or ".join(ways)


def _crossing_rows(catalog: Catalog, flag_column: str, key: ForeignKey) -> sql.Composed:
    """Make the query for the rows that stay and reference one to be removed."""
    child = catalog.by_oid[key.child]
    stays: sql.Composable = sql.SQL("true")
    if child.has_flag(flag_column):
        stays = sql.SQL("c.{} IS NOT TRUE").format(sql.Identifier(flag_column))
    return sql.SQL(
        "SELECT {keys}, count(*) OVER () FROM {child} c JOIN {parent} p ON {join} "
        "WHERE {stays} AND p.{flag} LIMIT {limit}"
    ).format(
        keys=row_key(child, "c"),
        child=key.referencing.only,
        parent=key.referenced.only,
        join=key.join(catalog, "c", "p"),
        stays=stays,
        flag=sql.Identifier(flag_column),
        limit=sql.Literal(_SAMPLE),
    )


def _describe(catalog: Catalog, key: ForeignKey, rows: Rows) -> str:
    child, parent = catalog.by_oid[key.child], catalog.by_oid[key.parent]
    count = rows[0][1]
    keys = first([row[0] for row in rows] + [None] * (count - len(rows)), limit=len(rows))
    return f"{child.key} → {parent.key} ({key.name}): {count:,} of {child.key}, e.g. {keys}"


def row_key(table: Table, alias: str) -> sql.Composed:
    """Make an SQL expression that names a row for people: its key, or its first column, as text."""
    names = table.primary_key or [column.name for column in table.columns[:1]]
    return sql.SQL("concat_ws(', ', {})").format(
        sql.SQL(", ").join(sql.Identifier(alias, name) for name in names)
    )

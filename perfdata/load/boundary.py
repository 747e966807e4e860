"""The boundary check: rows that stay must not reference rows that a load removes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg import sql

from perfdata.errors import BoundaryError
from perfdata.text import first

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from perfdata.load.existing import Removal
    from perfdata.load.plan import Plan
    from perfdata.load.selection import Selection
    from perfdata.postgres.catalog import Catalog, ForeignKey, Table
    from perfdata.postgres.link import Link, Rows

_SAMPLES = 5


def check_boundary(link: Link, plan: Plan, removals: Iterable[Removal]) -> None:
    """Raise BoundaryError if an unflagged row references a flagged one that would be removed.

    A cascade would delete or change such a row, or its reference would be broken. In tables that
    are replaced whole, only flagged rows count: the snapshot may lack them, but not the others.
    """
    catalog, selection = plan.catalog, plan.selection
    by_oid = {removal.table.oid: removal for removal in removals}
    emptied = {
        oid
        for oid, removal in by_oid.items()
        if removal.going
        and (not selection.takes_whole(removal.table) or selection.has_flag(removal.table))
    }
    flagged = {oid for oid, removal in by_oid.items() if not removal.staying}
    keys = [k for k in catalog.foreign_keys if k.parent in emptied and k.child not in flagged]
    answers = link.together([_crossing_query(catalog, selection, key) for key in keys])
    crossing = [(key, rows) for key, rows in zip(keys, answers, strict=True) if rows]
    if crossing:
        found = [_describe(catalog, key, rows) for key, rows in crossing]
        children = [catalog.by_oid[key.child] for key, _ in crossing]
        raise BoundaryError(
            "refused, nothing was touched: rows that are not test data reference test data that "
            f"would be replaced: {'; '.join(found)}",
            remedy=f"{_remedy(children, selection)}; then run it again",
        )


def _remedy(children: Collection[Table], selection: Selection) -> str:
    """Return what the user can do about rows of these tables."""
    ways = ["Point those rows to rows that stay, or delete them"]
    if flagged := sorted({table.key for table in children if selection.has_flag(table)}):
        ways.append(
            f"set {selection.flag_column} on those of {first(flagged)} if they are test data"
        )
    if others := sorted({table.key for table in children if not selection.has_flag(table)}):
        has = "have" if len(others) > 1 else "has"
        ways.append(
            f"add {first(others)}, which {has} no column {selection.flag_column}, to "
            "[tool.perfdata] whole_tables and create the snapshot again"
        )
    return "; or ".join(ways)


def _crossing_query(catalog: Catalog, selection: Selection, key: ForeignKey) -> sql.Composed:
    """Make the query for unflagged rows that reference flagged ones by a key."""
    child, parent = catalog.by_oid[key.child], catalog.by_oid[key.parent]
    return sql.SQL(
        "SELECT {keys}, count(*) OVER () FROM {child} c JOIN {parent} p ON {join} "
        "WHERE {stays} AND {goes} LIMIT {limit}"
    ).format(
        keys=row_key(child, "c"),
        child=key.referencing.only,
        parent=key.referenced.only,
        join=key.join(catalog, "c", "p"),
        stays=selection.unflagged(child, "c"),
        goes=selection.flagged(parent, "p"),
        limit=sql.Literal(_SAMPLES),
    )


def _describe(catalog: Catalog, key: ForeignKey, rows: Rows) -> str:
    child, parent = catalog.by_oid[key.child], catalog.by_oid[key.parent]
    count = rows[0][1]
    keys = first([row[0] for row in rows] + [None] * (count - len(rows)), limit=len(rows))
    return f"{child.key} → {parent.key} ({key.name}): {count:,} of {child.key}, e.g. {keys}"


def row_key(table: Table, alias: str) -> sql.Composed:
    """Make an SQL expression that identifies a row: its primary key or first column, as text."""
    names = table.primary_key or [column.name for column in table.columns[:1]]
    return sql.SQL("concat_ws(', ', {})").format(
        sql.SQL(", ").join(sql.Identifier(alias, name) for name in names)
    )

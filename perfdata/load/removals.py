"""Existing rows: which stay in a load, how the others are removed, and the boundary check.

The boundary: rows that stay must not reference rows that a load removes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from psycopg import sql

from perfdata.errors import BoundaryError, LoadError, RefusedError
from perfdata.load.plan import Existing
from perfdata.text import join_first

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from perfdata.load.plan import Plan
    from perfdata.load.selection import Selection
    from perfdata.postgres.catalog import Catalog, ForeignKey, Table
    from perfdata.postgres.link import AnyQuery, Deferred, Link, Rows

_SAMPLES = 5  # rows named in an error


@dataclass(frozen=True)
class Removal:
    """How many of a table's rows stay, how many are removed, and how.

    Attributes:
        staying: number of unflagged rows, which stay.
        going: number of rows that are removed.
        truncate: whether TRUNCATE removes them instead of DELETE.
        rebuild: whether the table's indexes are dropped and built again.
        kept: number of flagged rows that stay (``Existing.KEEP``).
    """

    table: Table
    staying: int
    going: int
    truncate: bool
    rebuild: bool
    kept: int = 0


def count_queries(plan: Plan) -> list[AnyQuery]:
    """Make the queries that count each table's real rows, and all rows.

    Every row of a whole table counts as real unless its provenance is known.
    """
    if plan.existing is Existing.ALL:
        return []
    once = sql.SQL("SELECT count(*) FILTER (WHERE {0}), count(*) FROM {1}")
    # As a join: 0.26 s instead of 1.36 at 1,990,001 rows, and by keys compared as text 0.53 s
    # instead of hours.
    twice = sql.SQL("SELECT (SELECT count(*) FROM {1} WHERE {0}), count(*) FROM {1}")
    covered = plan.selection.covered
    return [
        (twice if table.key in covered else once).format(_real(plan, table), table.only)
        for table in plan.tables
    ]


def _real(plan: Plan, table: Table) -> sql.Composable:
    selection = plan.selection
    if selection.takes_whole(table) and selection.provenance is None:
        return sql.SQL("true")
    return selection.real(table)


def plan_removals(
    plan: Plan, counts: Sequence[Rows], published: Collection[int] = ()
) -> list[Removal]:
    """Decide for each table how its rows are removed, and whether its indexes are rebuilt.

    TRUNCATE and dropped indexes are fastest, but unsafe for tables that others read: a transaction
    with an older snapshot sees a truncated table as empty, and a dump that waited for the load
    misses the indexes. So rows are deleted, with all indexes in place, from tables with real rows;
    in a database that perfdata does not own, from all tables if any has real rows. ``published``
    tables (oids) are not truncated either, since subscribers would lose their own rows.

    Raises RefusedError if the plan requires empty tables and some have rows.
    """
    if plan.existing is Existing.ALL:
        return [_emptied(plan, table, plan.staying.get(table.key, 0)) for table in plan.tables]
    found = [(table, *rows[0]) for table, rows in zip(plan.tables, counts, strict=True)]
    if plan.existing is Existing.NONE and any(total for _, _, total in found):
        full = ", ".join(
            f"{table.key} has {total:,} {'row' if total == 1 else 'rows'}"
            for table, _, total in found
            if total
        )
        raise RefusedError(
            "refused, nothing was touched: a snapshot of all rows is restored into empty tables "
            f"only, and {full}",
            remedy="Empty them, or replace the whole database with fresh=True",
            fresh_helps=True,
        )
    filled = {table.oid for table, real, _ in found if real}
    read = filled if plan.owned else {table.oid for table, _, _ in found if filled}
    return [
        _removal(
            plan,
            table,
            0 if plan.selection.takes_whole(table) else real,
            total,
            read=table.oid in read,
            published=table.oid in published,
        )
        for table, real, total in found
    ]


def _emptied(plan: Plan, table: Table, staying: int) -> Removal:
    rebuild = _more_come(plan, table, staying)
    return Removal(table, staying, 0, truncate=not staying, rebuild=rebuild)


def _removal(
    plan: Plan, table: Table, staying: int, total: int, *, read: bool, published: bool
) -> Removal:
    keeps = plan.existing is Existing.KEEP and not plan.selection.takes_whole(table)
    # The primary key of a published table may be the replica identity that deletes need.
    may_rebuild = not published and (plan.rebuild_indexes or (plan.owned and not read))
    rebuild = may_rebuild and _more_come(plan, table, total if keeps else staying)
    if keeps:
        return Removal(table, staying, 0, truncate=False, rebuild=rebuild, kept=total - staying)
    truncate = not staying and not read and not published
    return Removal(table, staying, total - staying, truncate=truncate, rebuild=rebuild)


def _more_come(plan: Plan, table: Table, left: int) -> bool:
    """Tell whether more rows are loaded than left; if their number is unknown, whether none is."""
    return left < plan.counts.get(table.key, 0) if plan.counts is not None else not left


def remove_rows(link: Link, plan: Plan, removals: Iterable[Removal]) -> None:
    """Queue the removal of rows, by DELETE or TRUNCATE: sent with the next statement."""
    removals, selection = list(removals), plan.selection
    deleted = [removal.table for removal in removals if removal.going and not removal.truncate]
    delete = sql.SQL("DELETE FROM {} WHERE {}")
    for table in selection.children_first(deleted):  # before the rows that decide their flags
        link.later(delete.format(table.only, selection.where(table)))
    truncate(link, [removal.table for removal in removals if removal.truncate])


def truncate(link: Link, tables: Collection[Table]) -> None:
    """Queue one TRUNCATE for all tables, which foreign keys among them permit."""
    if tables:
        names = sql.SQL(", ").join(table.only for table in tables)
        link.later(sql.SQL("TRUNCATE {}").format(names))


def count_unflagged(
    link: Link, plan: Plan, removals: Iterable[Removal]
) -> list[tuple[Removal, Deferred]]:
    """Queue the counts of unflagged rows in the tables whose loaded rows must have the flag."""

    def count(table: Table) -> Deferred:
        query = sql.SQL("SELECT count(*) FROM {} WHERE {}")
        return link.later(query.format(table.only, plan.selection.unflagged(table)))

    return [
        (removal, count(removal.table))
        for removal in removals
        if not plan.selection.takes_whole(removal.table)
    ]


def check_flags(plan: Plan, counted: Iterable[tuple[Removal, Deferred]]) -> None:
    """Raise LoadError if loaded rows lack the flag, since no later load would remove such rows.

    Raised too if rows that stay count as flagged now, since the next load would remove them: they
    referenced rows that did not exist.
    """
    flag = plan.selection.flag_column
    for removal, count in counted:
        table, extra = removal.table, count.rows[0][0] - removal.staying
        covering = plan.selection.covered.get(table.key)
        if extra < 0 and covering:
            raise LoadError(
                f"{table.key}: {-extra:,} rows that are not test data referenced nothing by "
                f"{covering.entry}, and would reference loaded rows; everything was rolled back",
                remedy="Correct or delete those rows, or give the loaded rows other keys",
            )
        if extra:
            lack = f"have no true {flag}, which all must have"
            if covering:
                lack = f"reference no row with a true {flag} by {covering.entry} (flag_through)"
            raise LoadError(
                f"{table.key}: {extra:,} of the loaded rows {lack}; everything was rolled back",
                remedy="Correct the dataset, and build or create the snapshot again",
            )


def check_boundary(link: Link, plan: Plan, removals: Iterable[Removal]) -> None:
    """Raise BoundaryError if an unflagged row references a flagged one that would be removed.

    A cascade would delete or change such a row, or its reference would be broken. In tables that
    are replaced whole, only flagged rows count: the snapshot may lack them, but not the others. In
    tables that are only emptied, and by keys that the server does not check, all rows count.
    """
    catalog, selection = plan.catalog, plan.selection
    by_oid = {removal.table.oid: removal for removal in removals}
    emptied = {oid for oid, removal in by_oid.items() if removal.going}
    flagged = {oid for oid, removal in by_oid.items() if not removal.staying}
    keys = [
        (key, goes)
        for key in catalog.foreign_keys
        if key.parent in emptied and key.child not in flagged
        if (goes := _going(plan, key)) is not None
    ]
    queries = [_crossing_query(catalog, selection, key, goes) for key, goes in keys]
    answers = link.together(queries)
    crossing = [(key, rows) for (key, _), rows in zip(keys, answers, strict=True) if rows]
    if crossing:
        found = [_describe(catalog, key, rows) for key, rows in crossing]
        raise BoundaryError(
            "refused, nothing was touched: rows that are not test data reference test data that "
            f"would be replaced: {'; '.join(found)}",
            remedy=f"{_remedy(catalog, selection, [k for k, _ in crossing])}; then run it again",
        )


def _remedy(catalog: Catalog, selection: Selection, keys: Collection[ForeignKey]) -> str:
    """Return what the user can do about rows that reference others by these keys."""
    children = {catalog.by_oid[key.child].key: catalog.by_oid[key.child] for key in keys}
    own = [key for key, table in children.items() if not selection.has_flag(table)]
    ways = ["Point those rows to rows that stay, or delete them"]
    if flagged := sorted(children.keys() - {*own, *selection.covered}):
        ways.append(
            f"set {selection.flag_column} on those of {join_first(flagged)} if they are test data"
        )
    if others := sorted(own):
        has = "have" if len(others) > 1 else "has"
        ways.append(
            f"add {join_first(others)}, which {has} no column {selection.flag_column}, to "
            "[tool.perfdata] whole_tables and create the snapshot again"
        )
        if entries := selection.possible_entries(catalog, keys):
            ways.append(
                f"add {join_first(entries)} to [tool.perfdata] flag_through if all rows that "
                "reference test data by that are test data too"
            )
    return "; or ".join(ways)


def _going(plan: Plan, key: ForeignKey) -> sql.Composable | None:
    """Return the condition for referenced rows (alias p) that a load may remove for good.

    None if only the key itself, which is checked at the end, can tell.
    """
    selection, parent = plan.selection, plan.catalog.by_oid[key.parent]
    if selection.takes_whole(parent) and selection.provenance is not None:
        comes_back = plan.counts is None or parent.key in plan.counts
        if key.unchecked or not comes_back:
            return sql.SQL("true")
    covering = selection.covered.get(plan.catalog.by_oid[key.child].key)
    if not selection.has_flag(parent) or (covering and covering.key == key):
        return None  # by a covering key no row that stays references a flagged one
    return selection.flagged(parent, "p")


def _crossing_query(
    catalog: Catalog, selection: Selection, key: ForeignKey, goes: sql.Composable
) -> sql.Composed:
    """Make the query for unflagged rows that reference rows which go by a key."""
    child = catalog.by_oid[key.child]
    return sql.SQL(
        "SELECT {keys}, count(*) OVER () FROM {child} c JOIN {parent} p ON {join} "
        "WHERE {stays} AND {goes} LIMIT {limit}"
    ).format(
        keys=_row_key(child, "c"),
        child=key.referencing.only,
        parent=key.referenced.only,
        join=key.join(catalog, "c", "p"),
        stays=selection.unflagged(child, "c"),
        goes=goes,
        limit=sql.Literal(_SAMPLES),
    )


def _describe(catalog: Catalog, key: ForeignKey, rows: Rows) -> str:
    child, parent = catalog.by_oid[key.child], catalog.by_oid[key.parent]
    count = rows[0][1]
    keys = join_first([row[0] for row in rows] + [None] * (count - len(rows)), limit=len(rows))
    return f"{child.key} → {parent.key} ({key.name}): {count:,} of {child.key}, e.g. {keys}"


def _row_key(table: Table, alias: str) -> sql.Composed:
    """Make an SQL expression that identifies a row: its primary key or first column, as text."""
    names = table.primary_key or [column.name for column in table.columns[:1]]
    return sql.SQL("concat_ws(', ', {})").format(
        sql.SQL(", ").join(sql.Identifier(alias, name) for name in names)
    )

"""The rows that tables have before a load: which stay, and how the others are removed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from psycopg import sql

from perfdata.errors import LoadError, RefusedError
from perfdata.load.plan import Existing

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from perfdata.load.plan import Plan
    from perfdata.postgres.catalog import Table
    from perfdata.postgres.link import AnyQuery, Deferred, Link, Rows


@dataclass(frozen=True)
class Removal:
    """How many rows of a table stay, how many are removed, and how.

    ``staying`` counts those without the flag, ``kept`` those with it that stay too. ``rebuild``
    means that the table's indexes are dropped and built again.
    """

    table: Table
    staying: int
    going: int
    truncate: bool
    rebuild: bool
    kept: int = 0


def count_queries(plan: Plan) -> list[AnyQuery]:
    """Make the queries that count, table by table, the rows that stay, and all."""
    if plan.existing is Existing.ALL:
        return []
    count = sql.SQL("SELECT count(*) FILTER (WHERE {}), count(*) FROM {}")
    return [count.format(_staying(plan, table), table.only) for table in plan.tables]


def _staying(plan: Plan, table: Table) -> sql.Composable:
    selection = plan.selection
    if plan.existing is Existing.NONE or selection.all_rows:
        return sql.SQL("true")
    return sql.SQL("false") if selection.takes_whole(table) else selection.unflagged(table)


def plan_removals(
    plan: Plan, counts: Sequence[Rows], published: Collection[int] = ()
) -> list[Removal]:
    """Decide for each table how its rows are removed, and whether its indexes are rebuilt.

    TRUNCATE and dropped indexes are fastest, and neither is for tables that others read: a
    transaction with an older snapshot sees a truncated table as empty, and a dump that waited for
    the load misses the indexes. So tables with real rows are deleted from, with their indexes in
    place; in a database that perfdata does not own all of them, as soon as one has real rows.
    Subscribers of a ``published`` table (by oid) would lose their own rows to a TRUNCATE.

    Raises RefusedError where there may be no rows, and there are.
    """
    if plan.existing is Existing.ALL:
        return [
            Removal(table, 0, 0, truncate=True, rebuild=_more_come(plan, table, 0))
            for table in plan.tables
        ]
    found = [(table, *rows[0]) for table, rows in zip(plan.tables, counts, strict=True)]
    if plan.existing is Existing.NONE and any(total for _, _, total in found):
        full = ", ".join(f"{table.key} has {total:,} rows" for table, _, total in found if total)
        raise RefusedError(
            f"refused, nothing was touched: a snapshot of all rows is restored into empty tables "
            f"only, and {full}. Empty them, or replace the whole database with --fresh"
        )
    real = {
        table.oid
        for table, staying, total in found
        if staying or (_replaced_whole(plan, table) and total)
    }
    read = real if plan.owned else {table.oid for table, _, _ in found if real}
    return [
        _removal(
            plan,
            table,
            staying,
            total,
            read=table.oid in read,
            published=table.oid in published,
        )
        for table, staying, total in found
    ]


def _replaced_whole(plan: Plan, table: Table) -> bool:
    """Tell whether every row of a table is replaced, beside flagged rows of others."""
    return not plan.selection.all_rows and plan.selection.takes_whole(table)


def _removal(
    plan: Plan, table: Table, staying: int, total: int, *, read: bool, published: bool
) -> Removal:
    keeps = plan.existing is Existing.KEEP and not _replaced_whole(plan, table)
    # A published table's primary key may be the replica identity that deletes need.
    may_rebuild = not published and (plan.rebuild_indexes or (plan.owned and not read))
    rebuild = may_rebuild and _more_come(plan, table, total if keeps else staying)
    if keeps:
        return Removal(table, staying, 0, truncate=False, rebuild=rebuild, kept=total - staying)
    truncate = not staying and not read and not published
    return Removal(table, staying, total - staying, truncate=truncate, rebuild=rebuild)


def _more_come(plan: Plan, table: Table, left: int) -> bool:
    """Tell whether more rows come than are left; where the number is unknown, whether none is."""
    return left < plan.counts.get(table.key, 0) if plan.counts is not None else not left


def remove_rows(link: Link, plan: Plan, removals: Iterable[Removal]) -> None:
    """Remove the rows that go."""
    for removal in removals:
        if removal.going and not removal.truncate:
            where = plan.selection.where(removal.table)
            link.later(sql.SQL("DELETE FROM {} WHERE {}").format(removal.table.only, where))
    truncate(link, [removal.table for removal in removals if removal.truncate])


def truncate(link: Link, tables: Collection[Table]) -> None:
    """Empty tables in one statement, so that foreign keys among them are no hindrance."""
    if tables:
        names = sql.SQL(", ").join(table.only for table in tables)
        link.later(sql.SQL("TRUNCATE {}").format(names))


def count_unflagged(
    link: Link, plan: Plan, removals: Iterable[Removal]
) -> list[tuple[Removal, Deferred]]:
    """Ask how many rows have no flag, for each table whose rows must have it."""

    def ask(table: Table) -> Deferred:
        count = sql.SQL("SELECT count(*) FROM {} WHERE {}")
        return link.later(count.format(table.only, plan.selection.unflagged(table)))

    return [
        (removal, ask(removal.table))
        for removal in removals
        if not plan.selection.takes_whole(removal.table)
    ]


def check_flags(plan: Plan, counted: Iterable[tuple[Removal, Deferred]]) -> None:
    """Raise LoadError where rows were loaded without the flag: nothing would ever remove them."""
    for removal, count in counted:
        if extra := count.rows[0][0] - removal.staying:
            raise LoadError(
                f"{removal.table.key}: {extra:,} of the loaded rows have no true "
                f"{plan.selection.flag_column}; everything was rolled back. All rows that a load "
                "brings must carry the flag: correct the dataset, and build or create the "
                "snapshot again"
            )

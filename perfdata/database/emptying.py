"""What a load does with the rows that are there: which stay, and how the others are removed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from psycopg import sql

from perfdata.database.plan import Existing
from perfdata.errors import LoadError, RefusedError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from perfdata.database.plan import Plan
    from perfdata.postgres.catalog import Table
    from perfdata.postgres.link import AnyQuery, Deferred, Link, Rows


@dataclass(frozen=True)
class Before:
    """How many rows of a table stay, how many go, and how they are made to.

    ``staying`` are those without the flag, ``kept`` those with it that stay too. ``rebuild`` says
    that its indexes are dropped and built again.
    """

    table: Table
    staying: int
    going: int
    truncate: bool
    rebuild: bool
    kept: int = 0


def counting(plan: Plan) -> list[AnyQuery]:
    """Make the queries that count, table by table, the rows that stay, and all."""
    if plan.existing is Existing.ALL:
        return []
    stays: sql.Composable = sql.SQL("true")
    if plan.existing is Existing.REPLACE or (plan.existing is Existing.KEEP and plan.flagged):
        stays = _staying(plan.flag_column)
    none = sql.SQL("false")
    count = sql.SQL("SELECT count(*) FILTER (WHERE {}), count(*) FROM {}")
    return [
        count.format(none if table.oid in plan.whole else stays, table.only)
        for table in plan.tables
    ]


def look(plan: Plan, counts: Sequence[Rows], published: Collection[int] = ()) -> list[Before]:
    """Choose for each table how its rows are removed, and whether its indexes are built again.

    TRUNCATE and dropped indexes are the fastest, and neither is for tables that others read: a
    transaction with an older snapshot sees a truncated table as empty, and a dump that waited for
    the load misses the indexes. So tables with real rows are deleted from, with their indexes in
    place; in a database that perfdata does not own all of them, as soon as one has real rows.
    Subscribers of a ``published`` table (by oid) would lose their own rows to a TRUNCATE.

    Raises RefusedError where there may be no rows, and there are.
    """
    if plan.existing is Existing.ALL:
        return [
            Before(table, 0, 0, truncate=True, rebuild=_more_come(plan, table, 0))
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
        if staying or (table.oid in plan.whole and total)
    }
    read = real if plan.owned else {table.oid for table, _, _ in found if real}
    return [
        _choose(plan, *one, read=one[0].oid in read, published=one[0].oid in published)
        for one in found
    ]


def _choose(
    plan: Plan,
    table: Table,
    staying: int,
    total: int,
    *,
    read: bool,
    published: bool,
) -> Before:
    keeps = plan.existing is Existing.KEEP and table.oid not in plan.whole
    # Of a published table the primary key may be the replica identity that deletes need.
    may_rebuild = not published and (plan.rebuild_indexes or (plan.owned and not read))
    rebuild = may_rebuild and _more_come(plan, table, total if keeps else staying)
    if keeps:
        return Before(table, staying, 0, truncate=False, rebuild=rebuild, kept=total - staying)
    truncate = not staying and not read and not published
    return Before(table, staying, total - staying, truncate=truncate, rebuild=rebuild)


def _more_come(plan: Plan, table: Table, left: int) -> bool:
    """Tell whether more rows come than are left; where nobody knows, whether none is."""
    return left < plan.counts.get(table.key, 0) if plan.counts is not None else not left


def _staying(flag_column: str) -> sql.Composed:
    return sql.SQL("{} IS NOT TRUE").format(sql.Identifier(flag_column))


def clear(link: Link, plan: Plan, before: Iterable[Before]) -> None:
    """Remove the rows that go."""
    flagged = sql.Identifier(plan.flag_column)
    for one in before:
        if one.going and not one.truncate:
            goes = sql.SQL("true") if one.table.oid in plan.whole else flagged
            link.later(sql.SQL("DELETE FROM {} WHERE {}").format(one.table.only, goes))
    if emptied := [one.table.only for one in before if one.truncate]:
        link.later(sql.SQL("TRUNCATE {}").format(sql.SQL(", ").join(emptied)))


def count_unflagged(
    link: Link, plan: Plan, before: Iterable[Before]
) -> list[tuple[Before, Deferred]]:
    """Ask how many rows have no flag, of each table whose rows are told by it."""
    if not plan.flagged:
        return []
    count = sql.SQL("SELECT count(*) FROM {} WHERE {}")
    stays = _staying(plan.flag_column)
    told = [one for one in before if one.table.oid not in plan.whole]
    return [(one, link.later(count.format(one.table.only, stays))) for one in told]


def check_flags(plan: Plan, counted: Iterable[tuple[Before, Deferred]]) -> None:
    """Raise LoadError where rows came in without the flag: nothing would ever remove them."""
    for one, count in counted:
        if extra := count.rows[0][0] - one.staying:
            raise LoadError(
                f"{extra:,} rows came for {one.table.key} whose {plan.flag_column} is not true; "
                "everything was rolled back. All rows that a load brings carry the flag: mend what "
                "makes them, and build or create the snapshot again"
            )

"""What a load does with the rows that are there: counted, moved aside or deleted, put back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from psycopg import sql

from perfdata.database.plan import Existing
from perfdata.errors import LoadError, RefusedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from perfdata.database.catalog import Table
    from perfdata.database.link import Asked, Later, Link, Rows
    from perfdata.database.plan import Plan

MAY_MOVE = "SELECT has_database_privilege(current_database(), 'TEMP')"


@dataclass(frozen=True)
class Before:
    """How many rows of a table stay, how many go, and how they are made to.

    ``staying`` are those without the flag, ``kept`` those with it that stay too.
    """

    table: Table
    staying: int
    going: int
    truncate: bool
    kept: int = 0

    @property
    def aside(self) -> sql.Identifier | None:
        """The temporary table that keeps the staying rows while the table is emptied."""
        return sql.Identifier(f"perfdata_kept_{self.table.oid}") if self.staying else None


def counting(plan: Plan) -> list[Asked]:
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


def look(plan: Plan, counts: Sequence[Rows], *, may_move: bool) -> list[Before]:
    """Choose for each table how it is emptied: by TRUNCATE wherever that costs less.

    Raises RefusedError where there may be no rows, and there are.
    """
    if plan.existing is Existing.ALL:
        return [Before(table, 0, 0, truncate=True) for table in plan.tables]
    found = [(table, *rows[0]) for table, rows in zip(plan.tables, counts, strict=True)]
    if plan.existing is Existing.NONE and any(total for _, _, total in found):
        full = ", ".join(f"{table.key} has {total:,} rows" for table, _, total in found if total)
        raise RefusedError(
            f"refused, nothing was touched: a snapshot of all rows is restored into empty tables "
            f"only, and {full}. Empty them, or replace the whole database with --fresh"
        )
    return [_choose(plan, *one, may_move=may_move) for one in found]


def _choose(plan: Plan, table: Table, staying: int, total: int, *, may_move: bool) -> Before:
    if plan.existing is Existing.KEEP and table.oid not in plan.whole:
        return Before(table, staying, 0, truncate=False, kept=total - staying)
    coming = plan.counts.get(table.key, 0) if plan.counts is not None else total - staying
    # Rows that are deleted leave their room behind; fewer are quicker moved than deleted around.
    aside = staying < coming and may_move and _movable(table)
    return Before(table, staying, total - staying, truncate=staying == 0 or aside)


def _movable(table: Table) -> bool:
    """Tell whether rows that are taken out and put back are as they were."""
    return not table.unchecked and not any(column.generated for column in table.columns)


def _staying(flag_column: str) -> sql.Composed:
    return sql.SQL("{} IS NOT TRUE").format(sql.Identifier(flag_column))


def clear(link: Link, plan: Plan, before: Iterable[Before]) -> None:
    """Take out the rows that go; those that stay in an emptied table are kept aside."""
    emptied = []
    for one in before:
        if one.truncate:
            emptied.append(one.table)
            if one.aside:
                link.later(
                    sql.SQL("CREATE TEMP TABLE {} ON COMMIT DROP AS SELECT {} FROM {} WHERE {}")
                    .format(one.aside, _stored(one.table), one.table.only,
                            _staying(plan.flag_column))
                )  # fmt: skip
        elif one.going:
            link.later(
                sql.SQL("DELETE FROM {} WHERE {}").format(
                    one.table.only, sql.Identifier(plan.flag_column)
                )
            )
    if emptied:
        names = sql.SQL(", ").join(table.only for table in emptied)
        link.later(sql.SQL("TRUNCATE {}").format(names))


def _stored(table: Table) -> sql.Composed:
    return sql.SQL(", ").join(sql.Identifier(column.name) for column in table.stored)


def put_back(link: Link, before: Iterable[Before]) -> None:
    """Put the rows that were kept aside into their tables again."""
    for one in before:
        if one.truncate and one.aside:
            columns = _stored(one.table)
            link.later(
                sql.SQL("INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM {}").format(
                    one.table.identifier, columns, columns, one.aside
                )
            )
            link.later(sql.SQL("DROP TABLE pg_temp.{}").format(one.aside))


def count_unflagged(link: Link, plan: Plan, before: Iterable[Before]) -> list[tuple[Before, Later]]:
    """Ask how many rows have no flag, of each table whose rows are told by it."""
    if not plan.flagged:
        return []
    count = sql.SQL("SELECT count(*) FROM {} WHERE {}")
    stays = _staying(plan.flag_column)
    told = [one for one in before if one.table.oid not in plan.whole]
    return [(one, link.later(count.format(one.table.only, stays))) for one in told]


def check_flags(plan: Plan, counted: Iterable[tuple[Before, Later]]) -> None:
    """Raise LoadError where rows came in without the flag: nothing would ever remove them."""
    for one, count in counted:
        if extra := count.rows[0][0] - one.staying:
            raise LoadError(
                f"{extra:,} rows came for {one.table.key} whose {plan.flag_column} is not true; "
                "everything was rolled back. All rows that a load brings carry the flag: mend what "
                "makes them, and build or create the snapshot again"
            )


def bloat(before: Iterable[Before]) -> Iterator[str]:
    """Say where deleted rows leave their room behind."""
    for one in before:
        if one.going and not one.truncate:
            yield (
                f"{one.table.key}: {one.going:,} rows were deleted beside {one.staying:,} that "
                "stay; their room is used again by later rows, not given back"
            )

"""Rows outside a snapshot that its rows reference: they must be in the database already."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg import sql

from perfdata.errors import RefusedError, SchemaError
from perfdata.postgres.link import Check
from perfdata.snapshot.format.manifest import Requirement
from perfdata.text import first

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from perfdata.load.selection import Selection
    from perfdata.postgres.catalog import Catalog, Column, ForeignKey, Table
    from perfdata.postgres.link import Link, Rows


# Keys of referenced rows that a manifest lists for each constraint; the rest is found by the
# constraint itself when it is put back.
_REQUIRED_KEYS = 1000


def find_requirements(link: Link, catalog: Catalog, selection: Selection) -> Iterator[Requirement]:
    """Find the rows outside a snapshot that its rows reference."""
    taken = selection.tables(catalog)
    for key in catalog.foreign_keys:
        child, parent = catalog.by_oid[key.child], catalog.by_oid[key.parent]
        if child not in taken or selection.takes_whole(parent):
            continue
        keys = link.rows(_outside(catalog, key, selection))
        if keys:
            yield Requirement(
                key.name,
                parent.key,
                list(key.parent_columns),
                [list(row) for row in keys[:_REQUIRED_KEYS]],
                complete=len(keys) <= _REQUIRED_KEYS,
            )


def _outside(catalog: Catalog, key: ForeignKey, selection: Selection) -> sql.Composed:
    child, parent = catalog.by_oid[key.child], catalog.by_oid[key.parent]
    columns = sql.SQL(", ").join(parent.column(name).text("p") for name in key.parent_columns)
    return sql.SQL(
        "SELECT DISTINCT {} FROM {} c JOIN {} p ON {} WHERE {} AND ({}) IS NOT TRUE LIMIT {}"
    ).format(
        columns, key.referencing.only, key.referenced.only, key.join(catalog, "c", "p"),
        selection.where(child, "c"), selection.where(parent, "p"),
        sql.Literal(_REQUIRED_KEYS + 1),
    )  # fmt: skip


def describe_requirements(requires: Sequence[Requirement]) -> list[str]:
    """Name the table, the constraint and the first keys of each."""
    return [
        f"{one.table} ({one.constraint}): {first(['/'.join(key) for key in one.keys])}"
        f"{'' if one.complete else ', or more'}"
        for one in requires
    ]


def required_check(catalog: Catalog, requires: Sequence[Requirement], flag: str) -> Check:
    """Check that each row that is required is there and stays; RefusedError names those missing.

    Raises SchemaError where its table or columns are not there any more.
    """

    def judge(answers: Sequence[Rows]) -> None:
        missing = [
            f"{one.table} ({one.constraint}): {first(['/'.join(row) for row in rows])}"
            for one, rows in zip(requires, answers, strict=True)
            if rows
        ]
        if missing:
            raise RefusedError(
                "refused, nothing was touched: the snapshot's rows reference rows that are not "
                f"test data, and these are not in the database: {'; '.join(missing)}. Add them "
                "first"
            )

    return Check([_missing_keys(catalog.table(one.table), one, flag) for one in requires], judge)


def _missing_keys(table: Table, one: Requirement, flag: str) -> sql.Composed:
    """Make the query for the required keys that no staying row has."""
    columns = one.columns
    present = {column.name for column in table.columns}
    if gone := sorted(set(columns) - present):
        raise SchemaError(
            f"the snapshot's rows reference {table.key} by {', '.join(gone)}, which is not there "
            "any more; nothing was touched"
        )
    arrays = [sql.Literal([key[n] for key in one.keys]) for n in range(len(columns))]
    names = [sql.Identifier(f"k{n}") for n in range(len(columns))]
    join = sql.SQL(" AND ").join(
        _same(table.column(column), name) for column, name in zip(columns, names, strict=True)
    )
    stays: sql.Composable = sql.SQL("true")
    if table.has_flag(flag):
        stays = sql.SQL("p.{} IS NOT TRUE").format(sql.Identifier(flag))
    return sql.SQL(
        "SELECT {names} FROM unnest({arrays}) AS k ({names}) "
        "WHERE NOT EXISTS (SELECT FROM {table} p WHERE {join} AND {stays})"
    ).format(
        names=sql.SQL(", ").join(names),
        arrays=sql.SQL(", ").join(sql.SQL("{}::text[]").format(array) for array in arrays),
        table=table.only,
        join=join,
        stays=stays,
    )


def _same(column: Column, key: sql.Identifier) -> sql.Composed:
    """Compare a column with a key that is text.

    The cast is to what a domain is made of, so that no check of the domain's runs.
    """
    if column.as_text:
        return sql.SQL("{} = k.{}").format(column.text("p"), key)
    value = sql.Identifier("p", column.name)
    return sql.SQL("{} = k.{}::{}").format(value, key, sql.SQL(column.base))

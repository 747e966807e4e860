"""Rows outside a snapshot that its rows reference: they must be in the database already."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg import sql

from perfdata.database.checks import Check
from perfdata.database.connection import first
from perfdata.errors import RefusedError, SchemaError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perfdata.database.catalog import Catalog, Table
    from perfdata.database.link import Rows
    from perfdata.snapshot.format import Requirement


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
    types = {column.name: column.type for column in table.columns}
    if gone := sorted(set(columns) - types.keys()):
        raise SchemaError(
            f"the snapshot's rows reference {table.key} by {', '.join(gone)}, which is not there "
            "any more; nothing was touched"
        )
    arrays = [sql.Literal([key[n] for key in one.keys]) for n in range(len(columns))]
    names = [sql.Identifier(f"k{n}") for n in range(len(columns))]
    join = sql.SQL(" AND ").join(
        sql.SQL("p.{} = k.{}::{}").format(sql.Identifier(column), name, sql.SQL(types[column]))
        for column, name in zip(columns, names, strict=True)
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

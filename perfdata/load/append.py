"""Append rows to tables as they are: what factories use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perfdata.postgres.connection import open_link
from perfdata.postgres.copy import TEXT
from perfdata.postgres.reflection import read_catalog

if TYPE_CHECKING:
    from collections.abc import Iterable

    from perfdata.dataset import TableRows


def append_rows(database: object, tables: Iterable[TableRows]) -> dict[str, int]:
    """COPY rows behind those that are there, constraints in place; return the rows by table.

    All or nothing: one transaction, or a savepoint in the caller's (connection.open_link).
    Columns that are left out take their defaults. Raises SchemaError for a table that is not
    there, RowsRefusedError for rows that the server refuses.
    """
    rows: dict[str, int] = {}
    with open_link(database) as link, link.transaction():
        catalog = read_catalog(link)
        for one in tables:
            table = catalog.table(one.table)
            with link.own_path():
                count = link.copy_in(table.identifier, one.columns, one.blocks, TEXT)
            rows[one.table] = rows.get(one.table, 0) + count
    return rows

"""Append rows to tables as they are: what factories use."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg

from perfdata.database.catalog import read_catalog
from perfdata.database.connection import open_link, server_said
from perfdata.database.copy import TEXT, copy_in
from perfdata.errors import LoadError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from perfdata.dataset import TableRows


def append_rows(database: object, tables: Iterable[TableRows]) -> dict[str, int]:
    """COPY rows behind those that are there, constraints in place; return the rows by table.

    All or nothing: one transaction, or a savepoint in the caller's (connection.open_link).
    Columns that are left out take their defaults. Raises SchemaError for a table that is not
    there, LoadError for what the server refuses.
    """
    rows: dict[str, int] = {}
    with open_link(database) as link:
        try:
            with link.transaction():
                catalog = read_catalog(link)
                for one in tables:
                    table = catalog.table(one.table)
                    count = copy_in(link, table, one.columns, one.blocks, TEXT)
                    rows[one.table] = rows.get(one.table, 0) + count
        except psycopg.Error as error:
            raise LoadError(server_said(error)) from error
    return rows

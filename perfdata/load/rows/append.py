"""Rows added to tables as they are: a few for one test."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perfdata.load.loader import copy_table, explain_rollback
from perfdata.load.rows.fields import Origin
from perfdata.load.rows.parts import Parts
from perfdata.postgres.connection import open_link
from perfdata.postgres.reflection import read_catalog
from perfdata.progress import silent

if TYPE_CHECKING:
    from collections.abc import Iterable

    from perfdata.dataset import TableRows


def append_rows(database: object, tables: Iterable[TableRows]) -> dict[str, int]:
    """Add rows to tables with all constraints in place; return the number of rows by table.

    All in one transaction, or in a savepoint of the caller's. Columns that are left out get their
    defaults. Raises SchemaError for a table that does not exist, LoadError for rows that don't fit
    it, RowsRefusedError for rows that the server refuses.
    """
    counts: dict[str, int] = {}
    with open_link(database) as link, explain_rollback(), link.transaction():
        parts = Parts(tables, read_catalog(link), Origin("append_rows"))
        for rows in parts.loads(again=True):
            with link.own_path():
                count = copy_table(link, rows, None, silent, freeze=False)
            counts[rows.table.key] = counts.get(rows.table.key, 0) + count
    return counts

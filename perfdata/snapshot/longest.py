"""Rows that are too long: a server makes no value of over 1 GB, and a row's JSON is one."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from psycopg import sql

from perfdata.database.guard import row_key
from perfdata.errors import LoadError, ServerRefusedError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from perfdata.postgres.catalog import Table
    from perfdata.postgres.link import Link

# "program limit exceeded"; a size that is asked for at once is an "internal error" instead.
_LIMIT, _INTERNAL, _ALLOCATION = "54000", "XX000", "invalid memory alloc request size"
_TEXTS = {"text", "character varying", "bytea"}


class _LongRowError(LoadError):
    """A row of a table was too long."""

    def __init__(self, table: Table) -> None:
        super().__init__(f"a row of {table.key} is too long")
        self.table = table


@contextmanager
def reading(table: Table) -> Iterator[None]:
    """Tell a row that is too long from what else a server may refuse."""
    try:
        yield
    except ServerRefusedError as error:
        allocation = error.sqlstate == _INTERNAL and _ALLOCATION in str(error)
        if error.sqlstate == _LIMIT or allocation:
            raise _LongRowError(table) from error
        raise


@contextmanager
def long_rows_named(link: Link) -> Iterator[None]:
    """Name the row, which only another transaction can look for; raises LoadError."""
    try:
        yield
    except _LongRowError as error:
        key, size = link.rows(_longest(error.table))[0]
        raise LoadError(
            f"{error.table.key}: a row is too long, as its JSON would be over 1 GB, the most that "
            f"a PostgreSQL server makes: {key} ({size:,} bytes). No snapshot was made"
        ) from error


def _longest(table: Table) -> sql.Composed:
    """Make the query for the longest row, by what the server knows without unpacking it."""
    sizes = [
        sql.SQL("coalesce({}({}), 0)::bigint").format(
            sql.SQL("octet_length" if column.base in _TEXTS else "pg_column_size"),
            sql.Identifier("t", column.name),
        )
        for column in table.stored
    ]
    return sql.SQL("SELECT {}, {} AS size FROM {} t ORDER BY size DESC LIMIT 1").format(
        row_key(table, "t"), sql.SQL(" + ").join(sizes), table.only
    )

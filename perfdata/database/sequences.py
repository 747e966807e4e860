"""Sequences: the next value is free after a load."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg import sql

if TYPE_CHECKING:
    from collections.abc import Iterable

    from perfdata.database.catalog import Catalog, FedSequence, Table
    from perfdata.database.link import Link

_NUMBERS = {"smallint", "integer", "bigint", "numeric"}


def advance_sequences(link: Link, catalog: Catalog, tables: Iterable[Table]) -> None:
    """Put every sequence that feeds one of the tables ahead of its column's values; never back."""
    oids = {table.oid for table in tables}
    for sequence in catalog.sequences:
        if sequence.table in oids:
            _advance(link, catalog.by_oid[sequence.table], sequence)


def _advance(link: Link, table: Table, sequence: FedSequence) -> None:
    if table.column(sequence.column).base not in _NUMBERS:
        return  # the default makes something else of the number
    last = sql.SQL("max" if sequence.increment > 0 else "min")
    found, value, called = link.rows(
        sql.SQL("SELECT (SELECT {}({}) FROM {}), last_value, is_called FROM {}").format(
            last, sql.Identifier(sequence.column), table.only, sequence.identifier
        )
    )[0]
    if found is None:
        return
    upcoming = value + sequence.increment if called else value
    free = int(found) + sequence.increment
    behind = upcoming < free if sequence.increment > 0 else upcoming > free
    if behind and sequence.minimum <= free <= sequence.maximum:
        # Unlike setval, ALTER SEQUENCE is undone by a rollback.
        link.execute(
            sql.SQL("ALTER SEQUENCE {} RESTART WITH {}").format(
                sequence.identifier, sql.Literal(free)
            )
        )

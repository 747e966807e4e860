"""What a test does itself with a database, which is given by its URL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg

from perfdata.postgres.drivers import PsycopgLink
from perfdata.templates.databases import mark_made

if TYPE_CHECKING:
    from psycopg.sql import Composed


def run(url: str, *statements: str | Composed) -> list[tuple[Any, ...]]:
    """Run statements, each in a transaction of its own, and return the last one's rows."""
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


def mark_owned(url: str) -> None:
    """Mark a database as one that perfdata made."""
    with psycopg.connect(url, autocommit=True) as connection:
        mark_made(PsycopgLink(connection), connection.info.dbname)

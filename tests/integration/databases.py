"""Statements that a test runs itself, in databases given by their URL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg

if TYPE_CHECKING:
    from psycopg.sql import Composed


def run(url: str, *statements: str | Composed) -> list[tuple[Any, ...]]:
    """Run statements, each in a transaction of its own, and return the last one's rows."""
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []

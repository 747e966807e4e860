"""The table of done ranges, which is the truth about what is loaded.

A scheduler of tasks runs some of them twice: after a worker was lost, or although a task was
cancelled. So the transaction that loads a range inserts the range into this table first, whose
primary key lets only one of them commit. It loads the rows into a table of the range's own, from
which the client moves them, one range after another: so rows lie in the order in which one process
would load them, and get the same defaults from sequences. All these tables are in a schema in a
private database that is dropped when the database is sealed: from then on no task can load a range.
"""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import TYPE_CHECKING, Self

from psycopg import sql

from perfdata.errors import LoadError

if TYPE_CHECKING:
    from perfdata.load.plan import TableLoad
    from perfdata.load.ranges.blocks import BlockRange
    from perfdata.postgres.catalog import Table
    from perfdata.postgres.link import Link

_TABLE = "done"
_CREATE = """
CREATE TABLE {} (table_key text, part int, first_block bigint, row_count bigint NOT NULL,
  PRIMARY KEY (table_key, part, first_block))"""
# It waits for a transaction that is loading the same range, and does nothing if that commits.
_CLAIM = """
INSERT INTO {} (table_key, part, first_block, row_count) VALUES (%s, %s, %s, %s)
ON CONFLICT DO NOTHING"""
_DONE = """
SELECT EXISTS (SELECT FROM {} WHERE (table_key, part, first_block) = (%s, %s, %s))"""
_MOVE = """
INSERT INTO {table} ({columns}) OVERRIDING SYSTEM VALUE SELECT {columns} FROM {range}"""
_END_OTHERS = """
SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND usesysid IS NOT NULL"""


class DoneRanges:
    """The table of done ranges in a private database, over the link that created it."""

    def __init__(self, link: Link, schema: str) -> None:
        self._link = link
        self.schema = schema
        self._table = sql.Identifier(schema, _TABLE)

    @classmethod
    def create(cls, link: Link) -> Self:
        """Create the table in a new schema."""
        done = cls(link, f"perfdata_ranges_{secrets.token_hex(6)}")
        with link.transaction():
            link.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(done.schema)))
            link.execute(sql.SQL(_CREATE).format(done._table))
        return done

    def has(self, blocks: BlockRange) -> bool:
        """Tell whether a range is loaded."""
        key = (blocks.table, blocks.part, blocks.first)
        return bool(self._link.value(sql.SQL(_DONE).format(self._table), key))

    def move(self, load: TableLoad, blocks: BlockRange) -> None:
        """Move the rows of a range that is loaded into their table."""
        columns = sql.SQL(", ").join(map(sql.Identifier, load.columns))
        source = range_table(self.schema, load.table, blocks).identifier
        move = sql.SQL(_MOVE).format(table=load.table.identifier, columns=columns, range=source)
        with self._link.transaction(), self._link.own_path():
            rows = self._link.execute(move)
            self._link.execute(sql.SQL("DROP TABLE {}").format(source))
        if rows != blocks.rows:
            raise LoadError(f"{blocks}: expected {blocks.rows:,} rows, received {rows:,}")

    def drop(self) -> None:
        """End all other sessions in the database, and drop the table with its schema.

        The caller has made the database accept no connections.
        """
        self._link.rows(_END_OTHERS)
        drop = sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(self.schema))
        self._link.execute(drop)


def claim(link: Link, schema: str, blocks: BlockRange) -> bool:
    """Record in the open transaction that it loads a range; False if another one has done so."""
    values = (blocks.table, blocks.part, blocks.first, blocks.rows)
    return link.execute(sql.SQL(_CLAIM).format(sql.Identifier(schema, _TABLE)), values) == 1


def range_table(schema: str, table: Table, blocks: BlockRange) -> Table:
    """Return the table for the rows of a range, which has those of its columns that are loaded."""
    return replace(table, schema=schema, name=f"rows_{table.oid}_{blocks.part}_{blocks.first}")

"""The table of done ranges, which is the truth about what is loaded.

A scheduler of tasks runs some of them twice: after a worker was lost, or although a task was
cancelled. So the transaction that loads a range inserts the range into this table first, whose
primary key lets only one of them commit. The table is in a schema of its own in a private database,
and is dropped when that is sealed: from then on no task can load a range.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Self

from psycopg import sql

if TYPE_CHECKING:
    from perfdata.load.ranges.blocks import BlockRange
    from perfdata.postgres.link import Link

_CREATE = """
CREATE TABLE {} (table_key text, part int, first_block bigint, row_count bigint NOT NULL,
  PRIMARY KEY (table_key, part, first_block))"""
# It waits for a transaction that is loading the same range, and does nothing if that commits.
_CLAIM = """
INSERT INTO {} (table_key, part, first_block, row_count) VALUES (%s, %s, %s, %s)
ON CONFLICT DO NOTHING"""
_DONE = "SELECT part, first_block, row_count FROM {} WHERE table_key = %s"
_END_OTHERS = """
SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND usesysid IS NOT NULL"""


class DoneRanges:
    """The table of done ranges in a private database, over the link that created it."""

    def __init__(self, link: Link, schema: str) -> None:
        self._link = link
        self.schema = schema
        self._table = _table(schema)

    @classmethod
    def create(cls, link: Link) -> Self:
        """Create the table in a new schema."""
        done = cls(link, f"perfdata_ranges_{secrets.token_hex(6)}")
        with link.transaction():
            link.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(done.schema)))
            link.execute(sql.SQL(_CREATE).format(done._table))
        return done

    def loaded(self, table: str) -> dict[tuple[int, int], int]:
        """Return the number of rows of each range of a table that is loaded, by part and block."""
        rows = self._link.rows(sql.SQL(_DONE).format(self._table), (table,))
        return {(part, first): count for part, first, count in rows}

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
    return link.execute(sql.SQL(_CLAIM).format(_table(schema)), values) == 1


def _table(schema: str) -> sql.Identifier:
    return sql.Identifier(schema, "done")

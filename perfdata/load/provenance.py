"""Provenance: which rows of an owned database perfdata itself has written.

PostgreSQL keeps in every row the transaction that inserted or last updated it (``xmin``), also when
VACUUM freezes the row and in clones of the database. The transactions of perfdata's loads and
migrations are recorded in the database's mark, so a row with another ``xmin`` was inserted or
changed by somebody else since. Unlike write counters, which sessions report with a delay, this
misses nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from psycopg import sql

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from perfdata.postgres.catalog import Table
    from perfdata.postgres.link import Link

# How many loads and migrations a mark names. The rows of earlier ones count as somebody else's.
# A load usually replaces the rows of the one before; those of a migration stay.
LOADS_KEPT = 20
MIGRATIONS_KEPT = 200
# One above the last transaction that has ended.
UPCOMING = "SELECT pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())::text::bigint"
# A row's xmin is the transaction's number modulo 2^32.
_EPOCH = 1 << 32
# After this many transactions a number could be taken for that of a later transaction.
_LIFETIME = 1 << 31


@dataclass(frozen=True)
class Provenance:
    """The transactions that wrote perfdata's rows in a database.

    Transactions are given by first and last number, both with their epoch.

    Attributes:
        loads: the loading transactions.
        migrations: the transactions during a migration.
        filled: keys of the tables without the flag that the last load of a dataset filled.
    """

    loads: Sequence[Sequence[int]] = ()
    migrations: Sequence[Sequence[int]] = ()
    filled: Sequence[str] = ()

    def current(self, upcoming: int) -> Provenance:
        """Leave out transactions that a row's xmin no longer identifies, given the next number."""
        return Provenance(
            _identified(self.loads, upcoming), _identified(self.migrations, upcoming), self.filled
        )

    def loaded(self) -> sql.Composable:
        """Make the condition for rows that a load wrote and nobody has changed."""
        return _written(self.loads)

    def written(self) -> sql.Composable:
        """Make the condition for rows that a load or a migration wrote and nobody has changed."""
        return _written([*self.loads, *self.migrations])


def latest(spans: Sequence[Sequence[int]], kept: int = LOADS_KEPT) -> list[tuple[int, ...]]:
    """Return the last spans, each once, as many as a mark names."""
    return list(dict.fromkeys(map(tuple, reversed(spans))))[:kept][::-1]


def _identified(spans: Sequence[Sequence[int]], upcoming: int) -> list[Sequence[int]]:
    return [
        (first, last)
        for first, last in spans
        if first > upcoming - _LIFETIME and first // _EPOCH == last // _EPOCH
    ]


def _written(spans: Sequence[Sequence[int]]) -> sql.Composable:
    single = [str(first % _EPOCH) for first, last in spans if first == last]
    ranges = [f"[{first % _EPOCH},{last % _EPOCH}]" for first, last in spans if first != last]
    # One operator for all ranges: it reads a row's xmin once.
    return sql.SQL(
        "(xmin = ANY ({}::pg_catalog.xid[])"
        " OR xmin::pg_catalog.text::bigint <@ ANY ({}::pg_catalog.int8range[]))"
    ).format(sql.Literal(single), sql.Literal(ranges))


def loading_transactions(link: Link, rows: Collection[tuple[Table, sql.Composable]]) -> list[int]:
    """Return the transactions that loaded rows, given by table and condition, each by one COPY.

    Nobody else may be able to change the tables at that moment.
    """
    if not rows:
        return []
    query = sql.SQL("SELECT xmin::text::bigint FROM {} WHERE {} LIMIT 1")
    queries = [query.format(table.only, condition) for table, condition in rows]
    (((upcoming,),), *answers) = link.together([UPCOMING, *queries])
    return sorted({_with_epoch(xmin, upcoming) for rows in answers for (xmin,) in rows})


def _with_epoch(xmin: int, upcoming: int) -> int:
    """Return the number of a recent transaction; its own is above ``upcoming`` while it runs."""
    return upcoming + (xmin - upcoming + _LIFETIME) % _EPOCH - _LIFETIME

"""The planner's statistics of a database, without a single value of a row.

Of pg_stats only fractions, counts and frequencies are read. The most common values themselves, and
the bounds of histograms, are values of rows: no query here names them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from perfdata.postgres.catalog import ForeignKey
    from perfdata.postgres.link import Link

_TABLES = """
SELECT n.nspname, c.relname, c.reltuples::bigint
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.reltuples > 0
  AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'"""
_COLUMNS = """
SELECT schemaname, tablename, attname, null_frac, n_distinct, most_common_freqs::float8[]
FROM pg_stats
WHERE inherited = EXISTS (
  SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relname = tablename AND n.nspname = schemaname AND c.relkind = 'p')"""
# Two digits are enough for a draft.
_DIGITS = 2
# From this share of the rows on, a draft has a different value in each.
_ALMOST_ALL = 0.9
# A column with up to this many values, all of them common, gets their frequencies as weights.
_MOST_WEIGHTS = 20
_PERMILLE = 1000
# Exponents that perfdata.generate takes; below the first one the skew does not show.
_EXPONENTS = tuple(tenth / 10 for tenth in range(2, 21))


@dataclass(frozen=True)
class ColumnStatistics:
    """What is known of a column: ``null_share`` is None, ``distinct`` 0 where nothing is.

    ``weights`` are those of all its values, the most common one first, or empty.
    """

    null_share: float | None = None
    distinct: int = 0
    weights: tuple[int, ...] = ()
    zipf: float | None = None


NOTHING_KNOWN = ColumnStatistics()


@dataclass(frozen=True)
class TableStatistics:
    """What is known of a table: the number of its rows, 0 if that is unknown, and its columns."""

    rows: int = 0
    columns: Mapping[str, ColumnStatistics] = field(default_factory=dict)

    def column(self, name: str) -> ColumnStatistics:
        """Return what is known of a column."""
        return self.columns.get(name, NOTHING_KNOWN)

    def children(self, key: ForeignKey, parent: TableStatistics) -> tuple[int, int, float | None]:
        """Return the fewest and the most rows for each row of a parent, and their skew.

        0 if most parents have none.
        """
        average = self.rows / parent.rows if parent.rows else 0.0
        zipf = self.column(key.child_columns[0]).zipf
        if zipf is not None or round(average) <= 1:
            return round(average), round(average), zipf
        return 1, 2 * round(average) - 1, None


NO_STATISTICS = TableStatistics()


def read_statistics(link: Link) -> dict[str, TableStatistics]:
    """Read the statistics of all tables that have some, by the tables' keys."""
    from perfdata.postgres.catalog import table_key

    link.execute("SET default_transaction_read_only = on")
    tables, columns = link.together([_TABLES, _COLUMNS])
    rows = {table_key(schema, name): _rounded(count) for schema, name, count in tables}
    found: dict[str, dict[str, ColumnStatistics]] = {key: {} for key in rows}
    for schema, name, column, null_share, distinct, frequencies in columns:
        key = table_key(schema, name)
        if key in found:
            found[key][column] = _column(rows[key], null_share, distinct, frequencies or ())
    return {key: TableStatistics(count, found[key]) for key, count in rows.items()}


def _column(
    rows: int, null_share: float, distinct: float, frequencies: Sequence[float]
) -> ColumnStatistics:
    # A negative n_distinct is a share of the rows.
    count = max(1, round(-distinct * rows if distinct < 0 else distinct))
    complete = len(frequencies) >= count > 0 and count <= _MOST_WEIGHTS
    different = count >= _ALMOST_ALL * rows * (1 - null_share)
    return ColumnStatistics(
        null_share=round(null_share, _DIGITS),
        distinct=0 if different else _rounded(count),
        weights=tuple(max(1, round(share * _PERMILLE)) for share in frequencies)
        if complete
        else (),
        zipf=_exponent(count, frequencies[0] / (1 - null_share)) if frequencies else None,
    )


def _exponent(count: int, first: float) -> float | None:
    """Return the exponent of Zipf's law at which the first of ``count`` values has this share."""
    shares = {
        exponent: 1 / sum(rank**-exponent for rank in range(1, min(count, 100_000) + 1))
        for exponent in _EXPONENTS
    }
    closest = min(shares, key=lambda exponent: abs(shares[exponent] - first))
    return closest if first > 2 / count and count > 1 else None


def _rounded(number: int) -> int:
    """Round a number to two digits."""
    return round(number, _DIGITS - len(str(number))) if number >= 10**_DIGITS else number

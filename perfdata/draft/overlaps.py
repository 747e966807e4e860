"""Foreign keys that share columns, such as the tenant of all tables.

Two parents of one row must then agree. Where one key contains the other they do; where they only
overlap, the shared columns get one value everywhere, as no reference can be made to match another.
"""

from __future__ import annotations

from decimal import Decimal
from itertools import combinations
from typing import TYPE_CHECKING, Any

from perfdata.draft.order import foreign_keys

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from perfdata.draft.rules import TableRules
    from perfdata.postgres.catalog import Catalog, ForeignKey, Table

_ONE_VALUE = {
    "smallint": Decimal(1), "integer": Decimal(1), "bigint": Decimal(1), "text": "1",
    "character varying": "1", "uuid": "00000000-0000-4000-8000-000000000001",
}  # fmt: skip


def widest_first(catalog: Catalog, table: Table) -> list[ForeignKey]:
    """Return a table's foreign keys, those of most columns first."""
    return sorted(foreign_keys(catalog, table.oid), key=lambda key: -len(key.child_columns))


def is_within(key: ForeignKey, keys: Sequence[ForeignKey]) -> bool:
    """Tell whether another key has all columns of a key, and more: its parent decides them."""
    return any(set(key.child_columns) < set(other.child_columns) for other in keys)


def settle_overlaps(
    catalog: Catalog, tables: Sequence[Table], rules: Mapping[int, TableRules]
) -> dict[int, str]:
    """Give columns that overlapping keys share one value; return tables that get a single row.

    These are the tables whose key it is, by oid, with the table that makes it necessary.
    """
    single: dict[int, str] = {}
    for table in tables:
        for oid, name in _roots(catalog, table):
            if (name,) in rules[oid].keys:
                single[oid] = table.key
            elif (value := _one_value(catalog.by_oid[oid], name)) is not None:
                rules[oid].column(name).choices = [value]
    return single


def _roots(catalog: Catalog, table: Table) -> Iterator[tuple[int, str]]:
    """Yield where the values of shared columns come from, as a table's oid and a column."""
    keys = [key for key in widest_first(catalog, table) if key.parent != key.child]
    keys = [key for key in keys if not is_within(key, keys)]
    for one, other in combinations(keys, 2):
        for name in set(one.child_columns) & set(other.child_columns):
            yield _root(catalog, one, name)
            yield _root(catalog, other, name)


def _root(catalog: Catalog, key: ForeignKey, name: str) -> tuple[int, str]:
    """Follow a column from parent to parent."""
    seen = set()
    while key.oid not in seen:
        seen.add(key.oid)
        oid, name = key.parent, key.parent_columns[list(key.child_columns).index(name)]
        further = [each for each in foreign_keys(catalog, oid) if name in each.child_columns]
        if not further:
            break
        key = further[0]
    return oid, name


def _one_value(table: Table, name: str) -> Any:
    return _ONE_VALUE.get(table.column(name).base)

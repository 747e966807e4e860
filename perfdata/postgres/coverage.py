"""Coverage: tables without the flag whose rows count as flagged by the row that they reference."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from psycopg import sql

from perfdata.errors import SchemaError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perfdata.postgres.catalog import Catalog, ForeignKey, Table

_SETTING = "[tool.perfdata] flag_through names"


@dataclass(frozen=True)
class CoveringKey:
    """The foreign key that leads from a row of a covered table to the row that decides its flag.

    ``entry`` names it as the setting ``flag_through`` does; ``parent`` is the referenced table.
    """

    entry: str
    key: ForeignKey
    parent: Table
    catalog: Catalog = field(repr=False, compare=False)

    def leads_to(self, flagged: sql.Composable, child: str | None, parent: str) -> sql.Composed:
        """Make the condition that row ``child`` references a row that is flagged; never null.

        ``flagged`` is the condition for the referenced row, alias ``parent``. Without an alias the
        row is that of the covered table itself.
        """
        return sql.SQL("EXISTS (SELECT FROM {} {} WHERE {} AND {})").format(
            self.key.referenced.only,
            sql.Identifier(parent),
            self.key.join(self.catalog, child, parent),
            flagged,
        )


def covering_keys(
    catalog: Catalog, flag: str, entries: Sequence[str], named_by: str = _SETTING
) -> dict[str, CoveringKey]:
    """Return the foreign keys that the setting ``flag_through`` names, by the tables' keys.

    An entry is a table's key and one of the columns of its foreign key, as in ``lines.order_id``.
    Raises SchemaError, which begins with ``named_by``, for an entry that names no foreign key, or
    one that does not lead to a table with the column ``flag``.
    """
    covered: dict[str, CoveringKey] = {}
    for entry in entries:
        key = _named_key(catalog, entry, f"{named_by} {entry!r}, but")
        table, parent = catalog.by_oid[key.child], catalog.by_oid[key.parent]
        if table.has_flag(flag):
            raise SchemaError(
                f"{named_by} {entry!r}, but {table.key} has the column {flag} itself",
                remedy="Remove that entry",
            )
        if table.key in covered:
            raise SchemaError(
                f"{named_by} two foreign keys of {table.key}: {covered[table.key].entry}, {entry}",
                remedy="Choose one of them",
            )
        covered[table.key] = CoveringKey(entry, key, parent, catalog)
    for covering in covered.values():
        _check_chain(covering, covered, flag, named_by)
    return covered


def entry_for(catalog: Catalog, key: ForeignKey) -> str | None:
    """Return the entry that names a foreign key, None if no entry can."""
    table = catalog.by_oid[key.child]
    for column in key.child_columns if key.child != key.parent else ():
        entry = table.column_key(column)
        try:
            if _named_key(catalog, entry, "").parent == key.parent:
                return entry
        except SchemaError:
            continue
    return None


def _check_chain(
    covering: CoveringKey, covered: dict[str, CoveringKey], flag: str, named_by: str
) -> None:
    """Raise SchemaError unless a key leads, maybe by covered tables, to one with the flag."""
    passed, last = [covering], covering
    while not last.parent.has_flag(flag):
        said = f"{named_by} {last.entry!r}, but {last.parent.key}, which that references,"
        following = covered.get(last.parent.key)
        if following is None:
            raise SchemaError(
                f"{said} has no column {flag} and no entry of its own",
                remedy=f"Add the column to {last.parent.key}, or name a foreign key of "
                f"{last.parent.key} that leads to a table with the column",
            )
        if following in passed:
            raise SchemaError(
                f"{said} leads back to it", remedy="Name a foreign key that leads to the column"
            )
        passed.append(following)
        last = following


def _named_key(catalog: Catalog, entry: str, said: str) -> ForeignKey:
    """Return the foreign key that an entry names; errors begin with ``said``."""
    keys = [key for key in catalog.foreign_keys if entry in _entries(catalog, key)]
    if not keys:
        raise _unknown(catalog, entry, said)
    # A key of this column alone is preferred: a longer one can be named by another column.
    keys = [key for key in keys if len(key.child_columns) == 1] or keys
    usable = [key for key in keys if not _unusable(catalog, key)]
    if not usable:
        key = keys[0]
        raise SchemaError(
            f"{said} its foreign key {key.name} {_unusable(catalog, key)}",
            remedy="Name another, or change the key",
        )
    if len({(key.parent, *key.child_columns, *key.parent_columns) for key in usable}) > 1:
        names = ", ".join(key.name for key in usable)
        raise SchemaError(
            f"{said} that is a column of several foreign keys: {names}",
            remedy="Name a column that only one of them has",
        )
    return usable[0]


def _entries(catalog: Catalog, key: ForeignKey) -> list[str]:
    table = catalog.by_oid[key.child]
    return [table.column_key(column) for column in key.child_columns]


def _unusable(catalog: Catalog, key: ForeignKey) -> str:
    """Say why a foreign key does not decide which row of which table a row references."""
    table = catalog.by_oid[key.child]
    if key.unchecked:
        return "is not checked by the server (NOT VALID, NOT ENFORCED)"
    if (key.referencing.schema, key.referencing.name) != (table.schema, table.name):
        return f"is one of partition {key.referencing.name} only"
    if key.period:
        return "is temporal: a row may reference several"
    return ""


def _unknown(catalog: Catalog, entry: str, said: str) -> SchemaError:
    columns = {
        table.column_key(column.name): table for table in catalog.tables for column in table.columns
    }
    named = [name for key in catalog.foreign_keys for name in _entries(catalog, key)]
    close = difflib.get_close_matches(entry, named, n=1)
    hint = f"Did you mean {close[0]}? " if close else ""
    reason = "no table of the database has such a column"
    if entry in columns:
        reason = f"no foreign key of {columns[entry].key} has that column"
    return SchemaError(
        f"{said} {reason}",
        remedy=f"{hint}An entry is a table and a column of its foreign key, as in "
        "order_lines.order_id; a table outside schema public is written schema.table",
    )

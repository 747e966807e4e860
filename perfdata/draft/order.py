"""The tables of a draft: those asked for and those that they need, parents first."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from perfdata.postgres.catalog import Catalog, ForeignKey, Table


# Where tools record the migrations that have run; Alembic's table is no table of the catalog.
_VERSIONS = {
    "_prisma_migrations", "atlas_schema_revisions", "databasechangelog", "databasechangeloglock",
    "django_migrations", "flyway_schema_history", "goose_db_version", "knex_migrations",
    "knex_migrations_lock", "schema_migrations",
}  # fmt: skip


def tables_to_draft(catalog: Catalog, keys: Sequence[str]) -> list[Table]:
    """Return the tables of these keys, by default all, with those that they must reference.

    By default without those in which tools record migrations. Parents come before their children. A
    cycle is cut where a reference may be null, if it can.
    Raises SchemaError for a table that does not exist.
    """
    chosen = {catalog.table(key).oid for key in keys} or {
        table.oid for table in catalog.tables if table.name not in _VERSIONS
    }
    waiting = list(chosen)
    while waiting:
        oid = waiting.pop()
        needed = {key.parent for key in foreign_keys(catalog, oid) if must_exist(catalog, key)}
        waiting += needed - chosen
        chosen |= needed
    tables = [table for table in catalog.tables if table.oid in chosen]
    ordered: list[Table] = []
    while tables:
        placed = {table.oid for table in ordered}
        after = next(
            (table for table in tables if _is_free(catalog, table, placed, required=False)),
            None,
        ) or next(
            (table for table in tables if _is_free(catalog, table, placed, required=True)),
            tables[0],
        )
        ordered.append(after)
        tables.remove(after)
    return ordered


def foreign_keys(catalog: Catalog, oid: int) -> list[ForeignKey]:
    """Return the foreign keys of a table, to tables of the catalog."""
    return [
        key for key in catalog.foreign_keys if key.child == oid and key.parent in catalog.by_oid
    ]


def must_exist(catalog: Catalog, key: ForeignKey) -> bool:
    """Tell whether each row of the child must reference a row."""
    child = catalog.by_oid[key.child]
    return all(child.column(name).not_null for name in key.child_columns)


def _is_free(catalog: Catalog, table: Table, placed: Collection[int], *, required: bool) -> bool:
    """Tell whether the tables that a table references are placed; with ``required``, must."""
    return all(
        key.parent in placed or key.parent == table.oid
        for key in foreign_keys(catalog, table.oid)
        if must_exist(catalog, key) or not required
    )

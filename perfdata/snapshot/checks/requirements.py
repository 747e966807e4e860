"""Rows outside a snapshot that its rows reference: a restore needs them in the database."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg import sql

from perfdata.errors import RefusedError, SchemaError
from perfdata.postgres.link import Check
from perfdata.snapshot.format.manifest import Requirement
from perfdata.text import join_first

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from perfdata.load.plan import Plan
    from perfdata.load.selection import Selection
    from perfdata.postgres.catalog import Catalog, Column, Table
    from perfdata.postgres.link import Link, Rows
    from perfdata.snapshot.format.manifest import Manifest

# How many keys of referenced rows a manifest lists for a constraint. The constraint itself checks
# the others when the load restores it.
_LISTED_KEYS = 1000


def find_requirements(link: Link, catalog: Catalog, selection: Selection) -> Iterator[Requirement]:
    """Find the rows outside a selection that its rows reference, one foreign key at a time."""
    selected = selection.tables(catalog)
    for key in catalog.foreign_keys:
        child, parent = catalog.by_oid[key.child], catalog.by_oid[key.parent]
        if child not in selected or selection.takes_whole(parent):
            continue
        query = sql.SQL(
            "SELECT DISTINCT {} FROM {} c JOIN {} p ON {} WHERE {} AND {} LIMIT {}"
        ).format(
            sql.SQL(", ").join(parent.column(name).text("p") for name in key.parent_columns),
            key.referencing.only, key.referenced.only, key.join(catalog, "c", "p"),
            selection.where(child, "c"), selection.others(parent, "p"),
            sql.Literal(_LISTED_KEYS + 1),
        )  # fmt: skip
        if rows := link.rows(query):
            yield Requirement(
                key.name,
                parent.key,
                list(key.parent_columns),
                [list(row) for row in rows[:_LISTED_KEYS]],
                complete=len(rows) <= _LISTED_KEYS,
            )


def describe_requirements(requires: Sequence[Requirement]) -> list[str]:
    """Name the table, the constraint and the first keys of each requirement."""
    return [
        f"{_described(requirement, requirement.keys)}{'' if requirement.complete else ', or more'}"
        for requirement in requires
    ]


def _described(requirement: Requirement, keys: Iterable[Sequence[str]]) -> str:
    shown = join_first(["/".join(key) for key in keys])
    return f"{requirement.table} ({requirement.constraint}): {shown}"


def required_check(
    catalog: Catalog, requires: Sequence[Requirement], selection: Selection
) -> Check:
    """Return the check that the database holds the required rows, and that the load keeps them.

    Its judge raises RefusedError naming the missing rows. Raises SchemaError if their table or
    columns no longer exist.
    """

    def judge(answers: Sequence[Rows]) -> None:
        missing = [
            _described(requirement, rows)
            for requirement, rows in zip(requires, answers, strict=True)
            if rows
        ]
        if missing:
            raise RefusedError(
                "refused, nothing was touched: the snapshot's rows reference rows that are not "
                f"test data, and these are not in the database: {'; '.join(missing)}",
                remedy="Add them first",
            )

    queries = [
        _missing_keys(catalog.table(required.table), required, selection) for required in requires
    ]
    return Check(queries, judge)


def refuse_dangling_references(plan: Plan, manifest: Manifest) -> None:
    """Raise RefusedError if a snapshot's rows reference rows that a fresh database would lack."""
    filled = {table.key for table in plan.tables}
    missing = [
        f"{required.table} ({required.constraint})"
        for required in manifest.requires
        if required.table in filled
    ]
    if missing:
        raise RefusedError(
            f"refused, nothing was touched: rows of snapshot {manifest.name} reference rows that "
            f"are not test data, which a fresh database would not have: {join_first(missing)}",
            remedy="Restore without fresh=True",
        )


def _missing_keys(table: Table, requirement: Requirement, selection: Selection) -> sql.Composed:
    """Return the query for the required keys that no unflagged row has."""
    columns = requirement.columns
    if missing := sorted(set(columns) - {column.name for column in table.columns}):
        raise SchemaError(
            f"the snapshot's rows reference {table.key} by {', '.join(missing)}, which no longer "
            "exists",
            remedy="Nothing was touched. Migrate the database to the snapshot's revision, or "
            "create the snapshot again",
        )
    arrays = [sql.Literal([key[n] for key in requirement.keys]) for n in range(len(columns))]
    names = [sql.Identifier(f"k{n}") for n in range(len(columns))]
    join = sql.SQL(" AND ").join(
        _equals(table.column(column), name) for column, name in zip(columns, names, strict=True)
    )
    return sql.SQL(
        "SELECT {names} FROM unnest({arrays}) AS k ({names}) "
        "WHERE NOT EXISTS (SELECT FROM {table} p WHERE {join} AND {unflagged})"
    ).format(
        names=sql.SQL(", ").join(names),
        arrays=sql.SQL(", ").join(sql.SQL("{}::text[]").format(array) for array in arrays),
        table=table.only,
        join=join,
        unflagged=selection.unflagged(table, "p"),
    )


def _equals(column: Column, key: sql.Identifier) -> sql.Composed:
    """Compare a column with a key that is text.

    The key is cast to a domain's base type, so that none of the domain's checks run.
    """
    if column.as_text:
        return sql.SQL("{} = k.{}").format(column.text("p"), key)
    value = sql.Identifier("p", column.name)
    return sql.SQL("{} = k.{}::{}").format(value, key, sql.SQL(column.base))

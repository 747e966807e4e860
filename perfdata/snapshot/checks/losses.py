"""Rows that a restore would lose, or that would lose the rows that they reference."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, NoReturn

from psycopg import sql

from perfdata.errors import BoundaryError, RefusedError
from perfdata.postgres.catalog import json_rows
from perfdata.postgres.copy import JSON_LINES
from perfdata.target.guard import locate
from perfdata.text import join_first

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from perfdata.load.plan import Plan
    from perfdata.load.selection import Selection
    from perfdata.postgres.catalog import ForeignKey, Table
    from perfdata.postgres.link import Link
    from perfdata.snapshot.format.manifest import Manifest
    from perfdata.snapshot.format.reader import SnapshotFile, TableBody

_STAGED = sql.Identifier("pg_temp", "perfdata_staged")
_SAMPLES, _SAMPLE_CHARACTERS = 3, 80


def lost_words(manifest: Manifest) -> str:
    """Name the rows that would be lost; for a snapshot of all rows they may be test data too."""
    return "rows" if manifest.all_rows else "rows that are not test data"


def rows_lost_by_fresh(link: Link, plan: Plan, file: SnapshotFile) -> list[str]:
    """List the rows (see lost_words) that a fresh database would lack, by table."""
    selection = plan.selection
    whole = [table for table in plan.tables if selection.takes_whole(table)]
    others = [table for table in plan.tables if not selection.takes_whole(table)]
    query = sql.SQL("SELECT count(*) FROM {} WHERE {}")
    counts = link.together(query.format(table.only, selection.unflagged(table)) for table in others)
    unflagged = [
        f"{table.key}: {rows:,}" for table, ((rows,),) in zip(others, counts, strict=True) if rows
    ]
    return unflagged + rows_missing_from_file(link, whole, file, selection)


def rows_missing_from_file(
    link: Link, tables: Iterable[Table], file: SnapshotFile, selection: Selection
) -> list[str]:
    """List the rows of tables that a snapshot which has them whole lacks: counts and samples.

    Flagged rows are test data and may be lost, as may perfdata's own rows; every other row must be
    in the snapshot with the same values. The file is read once, and only if a table has other rows.
    A table that the file lacks has lost all of its rows, whatever the manifest says.
    """
    query = sql.SQL("SELECT EXISTS (SELECT FROM {} WHERE {})")
    unread = {
        table.key: table
        for table in tables
        if link.value(query.format(table.only, selection.real(table)))
    }
    lost: list[str] = []
    for body in file.tables() if unread else ():
        if table := unread.pop(body.key, None):
            lost += _lost(link, table, selection.real(table), body)
        else:
            body.skip()
    for key, table in unread.items():
        count = sql.SQL("SELECT count(*) FROM {} WHERE {}")
        rows = link.value(count.format(table.only, selection.real(table)))
        lost.append(f"{key}: {rows:,}, all there are")
    return lost


def _lost(link: Link, table: Table, real: sql.Composable, body: TableBody) -> Iterator[str]:
    """Compare a table's rows with those of the file as text, which both write alike.

    A load goes by column names, so the columns are compared in the file's order. A column that the
    file lacks comes last and makes every row differ.
    """
    columns = [*body.columns, *(c.name for c in table.stored if c.name not in body.columns)]
    staged = sql.SQL("CREATE TEMP TABLE {} (line pg_catalog.text) ON COMMIT DROP")
    with link.own_path():
        link.later(staged.format(_STAGED))
    link.copy_in(_STAGED, ["line"], _lines(body), JSON_LINES)
    rows = link.rows(
        sql.SQL(
            "SELECT line, count(*) OVER () FROM (SELECT r::text FROM ({}) AS t (r) "
            "EXCEPT ALL SELECT line FROM {}) AS l (line) LIMIT {}"
        ).format(json_rows(table, real, columns), _STAGED, sql.Literal(_SAMPLES))
    )
    with link.own_path():
        link.later(sql.SQL("DROP TABLE {}").format(_STAGED))
    if rows:
        samples = ", ".join(line[:_SAMPLE_CHARACTERS] for line, _ in rows)
        yield f"{table.key}: {rows[0][1]:,}, e.g. {samples}"


def _lines(body: TableBody) -> Iterator[bytes]:
    for block in body.blocks:
        yield block.rstrip(b",\n").replace(b"],\n", b"]\n") + b"\n"


def refuse_losses(link: Link, lost: list[str], manifest: Manifest) -> NoReturn:
    """Raise RefusedError for rows that would be lost."""
    location = locate(link)
    name, entry = location.database, shlex.quote(location.entry)
    raise RefusedError(
        f"refused, nothing was touched: {name} has {lost_words(manifest)}, and they "
        f"would not be in a fresh database, or not as they are here ({join_first(lost)}), and "
        "it was not made by perfdata",
        remedy="Restore without fresh=True, which keeps them; or allow the database by its full "
        f"name, PERFDATA_ALLOW={entry} with no wildcard: the replaced one is then kept as "
        f"{name}_before_… until db.gc --lost-rows",
    )


def refuse_crossing(link: Link, plan: Plan) -> None:
    """Raise BoundaryError if tables that stay have rows that reference rows which are removed.

    Counted are references to rows that are not test data, and references of any row by a key that
    the server does not check.
    """
    filled = {table.oid for table in plan.tables}
    keys = [
        (key, removed)
        for key in plan.catalog.foreign_keys
        if key.parent in filled and key.child not in filled
        if (removed := _removed(plan, key)) is not None
    ]
    query = sql.SQL("SELECT count(*) FROM {} c JOIN {} p ON {} WHERE {}")
    counts = link.together(
        query.format(
            key.referencing.only, key.referenced.only, key.join(plan.catalog, "c", "p"), removed
        )
        for key, removed in keys
    )
    tables = plan.catalog.by_oid
    found = [
        f"{tables[key.child].key} → {tables[key.parent].key} ({key.name}): {count:,} rows"
        for (key, _), ((count,),) in zip(keys, counts, strict=True)
        if count
    ]
    if found:
        raise BoundaryError(
            "refused, nothing was touched: rows of tables that the snapshot leaves out reference "
            f"rows that a fresh database would not have, or might not have: {join_first(found)}",
            remedy="Make them reference others, or restore without fresh=True; if a key is NOT "
            "VALID or NOT ENFORCED, have the server check it (ALTER TABLE … VALIDATE CONSTRAINT …)",
        )


def _removed(plan: Plan, key: ForeignKey) -> sql.Composable | None:
    """Return the condition for referenced rows (alias p) whose loss the key would not detect."""
    if key.unchecked:
        return sql.SQL("true")
    parent = plan.catalog.by_oid[key.parent]
    if plan.selection.takes_whole(parent):
        if plan.counts is not None and parent.key not in plan.counts:
            return sql.SQL("true")
        return None  # the snapshot has them, or else the key reports them missing
    return plan.selection.unflagged(parent, "p")

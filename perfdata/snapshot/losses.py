"""Rows that a restore would lose, or leave without the rows that they reference."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, NoReturn

from psycopg import sql

from perfdata.errors import BoundaryError, RefusedError
from perfdata.postgres.catalog import json_rows
from perfdata.postgres.copy import JSON_LINES
from perfdata.target.guard import locate
from perfdata.text import first

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from perfdata.load.plan import Plan
    from perfdata.postgres.catalog import ForeignKey, Table
    from perfdata.postgres.link import Link
    from perfdata.snapshot.format.manifest import Manifest
    from perfdata.snapshot.format.reader import SnapshotFile, TableBody

_STAGED = sql.Identifier("pg_temp", "perfdata_staged")
_SAMPLES, _SAMPLE_CHARACTERS = 3, 80


def lost_words(manifest: Manifest) -> str:
    """Name the rows that would be lost: of a snapshot of all rows test data is among them."""
    return "rows" if manifest.all_rows else "rows that are not test data"


def losses(link: Link, plan: Plan, file: SnapshotFile) -> list[str]:
    """Say which rows (see lost_words) would not be in a fresh database, by table."""
    selection = plan.selection
    whole = [table for table in plan.tables if selection.takes_whole(table)]
    return _unflagged(link, plan) + lost_rows(link, whole, file)


def _unflagged(link: Link, plan: Plan) -> list[str]:
    """Count the rows that are not test data, by table."""
    # Tables that are taken whole are compared with the snapshot's, row by row.
    tables = [table for table in plan.tables if not plan.selection.takes_whole(table)]
    count = sql.SQL("SELECT count(*) FROM {} WHERE {}")
    counts = link.together(
        count.format(table.only, plan.selection.unflagged(table)) for table in tables
    )
    return [
        f"{table.key}: {count:,}"
        for table, ((count,),) in zip(tables, counts, strict=True)
        if count
    ]


def lost_rows(link: Link, tables: Iterable[Table], file: SnapshotFile) -> list[str]:
    """Say which rows of tables a snapshot that has them whole lacks: count, samples.

    Flagged rows are test data and may go; every other must be in the snapshot, with the same
    values. Reads the file once, and only where one of the tables has such rows. A table that the
    file does not hold has lost them all, whatever the manifest says.
    """
    flag = file.manifest.flag_column or ""
    by_key = {table.key: table for table in tables}
    held = {
        table.key: _others(table, flag)
        for table in by_key.values()
        if link.value(
            sql.SQL("SELECT EXISTS (SELECT FROM {} WHERE {})").format(
                table.only, _others(table, flag)
            )
        )
    }
    lost: list[str] = []
    met: set[str] = set()
    for body in file.tables() if held else ():
        if body.key in held:
            met.add(body.key)
            lost += _lost(link, by_key[body.key], held[body.key], body)
        else:
            body.skip()
    lost += [_all_lost(link, by_key[key], held[key]) for key in held if key not in met]
    return lost


def _others(table: Table, flag: str) -> sql.Composable:
    """Make the condition for the rows that are not test data."""
    if table.has_flag(flag):
        return sql.SQL("{} IS NOT TRUE").format(sql.Identifier(flag))
    return sql.SQL("true")


def _lost(link: Link, table: Table, others: sql.Composable, body: TableBody) -> Iterator[str]:
    """Compare a table's rows with those of a body, as the text that both are written in.

    Columns are loaded by name, so they are compared in the order of the body; one that it lacks
    stands behind, and tells every row apart.
    """
    columns = [*body.columns, *(c.name for c in table.stored if c.name not in body.columns)]
    staged = sql.SQL("CREATE TEMP TABLE {} (line pg_catalog.text) ON COMMIT DROP")
    with link.own_path():
        link.later(staged.format(_STAGED))
    link.copy_in(_STAGED, ["line"], _lines(body), JSON_LINES)
    found = link.rows(
        sql.SQL(
            "SELECT line, count(*) OVER () FROM (SELECT r::text FROM ({}) AS t (r) "
            "EXCEPT ALL SELECT line FROM {}) AS l (line) LIMIT {}"
        ).format(json_rows(table, others, columns), _STAGED, sql.Literal(_SAMPLES))
    )
    with link.own_path():
        link.later(sql.SQL("DROP TABLE {}").format(_STAGED))
    if found:
        samples = ", ".join(line[:_SAMPLE_CHARACTERS] for line, _ in found)
        yield f"{table.key}: {found[0][1]:,}, e.g. {samples}"


def _all_lost(link: Link, table: Table, others: sql.Composable) -> str:
    """Tell of a table that the body does not hold."""
    count = sql.SQL("SELECT count(*) FROM {} WHERE {}").format(table.only, others)
    return f"{table.key}: {link.value(count):,}, all there are"


def _lines(body: TableBody) -> Iterator[bytes]:
    for block in body.blocks:
        yield block.rstrip(b",\n").replace(b"],\n", b"]\n") + b"\n"


def refuse_losses(link: Link, lost: list[str], manifest: Manifest) -> NoReturn:
    """Refuse, as rows would not come back."""
    location = locate(link)
    name, entry = location.database, shlex.quote(location.entry)
    raise RefusedError(
        f"refused, nothing was touched: {name} has {lost_words(manifest)}, and they "
        f"would not be in a fresh database, or not as they are here ({first(lost)}), and it was "
        "not made by perfdata. Restore without --fresh, which keeps them; or allow it by its full "
        f"name, PERFDATA_ALLOW={entry} with no wildcard: what is replaced is then kept "
        f"as {name}_before_… until db.gc --lost-rows"
    )


def refuse_requirements(plan: Plan, manifest: Manifest) -> None:
    """Refuse a snapshot whose rows reference such as are emptied out of a fresh database."""
    filled = {table.key for table in plan.tables}
    if outside := [one for one in manifest.requires if one.table in filled]:
        named = first([f"{one.table} ({one.constraint})" for one in outside])
        raise RefusedError(
            f"refused, nothing was touched: rows of snapshot {manifest.name} reference rows that "
            f"are not test data, which a fresh database would not have: {named}. Restore without "
            "--fresh"
        )


def refuse_crossing(link: Link, plan: Plan) -> None:
    """Refuse where rows of tables that stay reference such as go for good.

    Those that are not test data go; and by keys that the server does not check any may.
    """
    filled = {table.oid for table in plan.tables}
    keys = [
        (key, goes)
        for key in plan.catalog.foreign_keys
        if key.parent in filled and key.child not in filled
        if (goes := _going(plan, key)) is not None
    ]
    query = sql.SQL("SELECT count(*) FROM {} c JOIN {} p ON {} WHERE {}")
    counts = link.together(
        query.format(
            key.referencing.only, key.referenced.only, key.join(plan.catalog, "c", "p"), goes
        )
        for key, goes in keys
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
            f"rows that a fresh database would not have, or not surely: {first(found)}. Point them "
            "elsewhere; or restore without --fresh; or, where a key is NOT VALID or NOT ENFORCED, "
            "have the server check it (ALTER TABLE … VALIDATE CONSTRAINT …)"
        )


def _going(plan: Plan, key: ForeignKey) -> sql.Composable | None:
    """Make the condition for rows (alias p) that no key would find missing, or that surely go."""
    if key.unchecked:
        return sql.SQL("true")
    parent = plan.catalog.by_oid[key.parent]
    if plan.selection.takes_whole(parent):
        return None  # they come with the snapshot, or the key finds them missing
    return plan.selection.unflagged(parent, "p")

"""Tables that a snapshot of flagged rows takes whole: replaced only where no row is lost by it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg import sql

from perfdata.errors import RefusedError
from perfdata.postgres.catalog import json_rows
from perfdata.postgres.copy import JSON_LINES
from perfdata.snapshot.format import read_tables
from perfdata.snapshot.shape import check_columns

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from perfdata.postgres.catalog import Catalog, Table
    from perfdata.postgres.link import Link
    from perfdata.snapshot.format import Manifest, TableBody

_STAGED = sql.Identifier("pg_temp", "perfdata_staged")
_SAMPLE, _SAMPLE_CHARACTERS = 3, 80


def check_whole(link: Link, catalog: Catalog, manifest: Manifest, path: Path, offset: int) -> None:
    """Raise RefusedError where a whole table has a row that is not just so in the snapshot."""
    tables = [catalog.table(key) for key in manifest.whole_tables]
    if lost := lost_rows(link, tables, manifest, path, offset):
        raise RefusedError(
            f"refused, nothing was touched: snapshot {manifest.name} has these tables whole, and "
            "rows of theirs that differ from the snapshot's, or are not in it, would be lost: "
            f"{'; '.join(lost)}. Remove them or undo what was changed, create the snapshot again "
            "with them, or take the tables out of [tool.perfdata] whole_tables and create it again"
        )


def lost_rows(
    link: Link, tables: Iterable[Table], manifest: Manifest, path: Path, offset: int
) -> list[str]:
    """Say which rows are not just so in a snapshot that has the tables whole: count, samples.

    Flagged rows are test data and may go; every other must be in the snapshot, just as it is. Reads
    the body once, and only where one of the tables has such rows. A table that the body does not
    hold has lost them all, whatever the manifest says.
    """
    flag = manifest.flag_column or ""
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
    for body in read_tables(path, offset, manifest.body) if held else ():
        if body.key in held:
            check_columns(path, manifest, body)
            met.add(body.key)
            lost += _lost(link, by_key[body.key], held[body.key], body)
        else:
            for _ in body.blocks:
                pass
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
        ).format(json_rows(table, others, columns), _STAGED, sql.Literal(_SAMPLE))
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

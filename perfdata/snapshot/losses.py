"""What a fresh database would lose, or leave dangling: found out before anything is done."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, NoReturn

from psycopg import sql

from perfdata.database.guard import locate
from perfdata.errors import BoundaryError, RefusedError
from perfdata.snapshot.format import read_manifest
from perfdata.snapshot.whole import lost_rows
from perfdata.text import first

if TYPE_CHECKING:
    from perfdata.database.loading import Plan
    from perfdata.postgres.catalog import ForeignKey
    from perfdata.postgres.link import Link
    from perfdata.snapshot.format import Manifest
    from perfdata.snapshot.store import Snapshot


def lost_words(manifest: Manifest) -> str:
    """Name the rows that would be lost: of a snapshot of all rows test data is among them."""
    return "rows" if manifest.all_rows else "rows that are not test data"


def losses(link: Link, plan: Plan, snapshot: Snapshot) -> list[str]:
    """Say which rows (see lost_words) would not be in the new database, by table."""
    manifest = snapshot.manifest
    _, offset = read_manifest(snapshot.path)
    whole = [table for table in plan.tables if manifest.all_rows or table.oid in plan.whole]
    lost = [] if manifest.all_rows else _unflagged(link, plan)
    return lost + lost_rows(link, whole, manifest, snapshot.path, offset)


def _unflagged(link: Link, plan: Plan) -> list[str]:
    """Count the rows that are not test data, by table."""
    # Tables that are taken whole are compared with the snapshot's, row by row.
    tables = [table for table in plan.tables if table.oid not in plan.whole]
    stays = sql.SQL("{} IS NOT TRUE").format(sql.Identifier(plan.flag_column))
    queries = [
        sql.SQL("SELECT count(*) FROM {} WHERE {}").format(
            table.only, stays if table.has_flag(plan.flag_column) else sql.SQL("true")
        )
        for table in tables
    ]
    counts = [rows[0][0] for rows in link.together(queries)]
    return [f"{table.key}: {count:,}" for table, count in zip(tables, counts, strict=True) if count]


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
    if not plan.flagged or key.parent in plan.whole or not parent.has_flag(plan.flag_column):
        return None  # they come with the snapshot, or the key finds them missing
    return sql.SQL("p.{} IS NOT TRUE").format(sql.Identifier(plan.flag_column))

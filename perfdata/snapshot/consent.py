"""Consent: what a snapshot file brings beside flagged rows takes effect only where that is allowed.

A file can be made by anybody, and its checksums with it. Unflagged rows can't be told from real
ones once they are in, so they are agreed to here: by settings, by an option, or because nothing but
perfdata's own is in the database.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg import sql

from perfdata.errors import RefusedError
from perfdata.postgres.catalog import table_key
from perfdata.postgres.user_code import refuse_user_code
from perfdata.snapshot.selection import named_tables
from perfdata.text import first

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perfdata.config import Settings
    from perfdata.database.plan import Plan
    from perfdata.postgres.catalog import Catalog, Table
    from perfdata.postgres.link import Link, Rows
    from perfdata.snapshot.format import Manifest
    from perfdata.snapshot.restore import Options


def check_consent(
    link: Link,
    roles: Rows,
    plan: Plan,
    manifest: Manifest,
    settings: Settings,
    options: Options,
) -> None:
    """Raise RefusedError where a file brings more than flagged rows, and nothing here allows it.

    ``whole_tables`` are allowed by the setting of that name. Every row is allowed in a fresh
    database, in one that perfdata made, and where no table holds a row. The option
    ``unflagged_rows`` allows both. Sequences of other tables than the file's are never moved.
    ``roles`` are the rows of user_code.OTHER_ROLES: tables that the plan does not have are read.
    """
    _refuse_sequences(plan.catalog, manifest)
    if options.unflagged_rows:
        return
    allowed = named_tables(manifest.whole_tables, settings.whole_tables)
    if whole := [key for key in manifest.whole_tables if key not in allowed]:
        raise RefusedError(
            f"refused, nothing was touched: snapshot {manifest.name} has every row of "
            f"{first(whole)}, not only flagged ones, and [tool.perfdata] whole_tables does not "
            "name that here. Name it there, or restore with --unflagged-rows"
        )
    if manifest.all_rows and not (options.fresh or plan.owned):
        others = [table for table in plan.catalog.tables if table.key not in manifest.stats]
        if not plan.as_superuser:
            refuse_user_code(link, roles, read=others)
        _refuse_beside(link, others, manifest)


def _refuse_sequences(catalog: Catalog, manifest: Manifest) -> None:
    """Refuse a file that says where a sequence of another table stands; a free one feeds none."""
    feeding: dict[str, set[str]] = {}
    for one in catalog.sequences:
        tables = feeding.setdefault(table_key(one.schema, one.name), set())
        tables.add(catalog.by_oid[one.table].key)
    others = [
        f"{key} of {first(sorted(feeding[key]))}"
        for key in manifest.sequences
        if key in feeding and not feeding[key] & manifest.stats.keys()
    ]
    if others:
        raise RefusedError(
            f"refused, nothing was touched: snapshot {manifest.name} moves sequences of tables "
            f"that it does not have: {first(others)}. Create it again"
        )


def _refuse_beside(link: Link, others: Sequence[Table], manifest: Manifest) -> None:
    """Refuse every row of some tables where others, which the file does not have, hold rows."""
    query = sql.SQL("SELECT EXISTS (SELECT FROM {})")
    answers = link.together(query.format(table.only) for table in others)
    filled = [table.key for table, ((rows,),) in zip(others, answers, strict=True) if rows]
    if filled:
        raise RefusedError(
            f"refused, nothing was touched: {manifest.name} is a snapshot of all rows, and can "
            f"only be restored into a database without rows, and these tables have some: "
            f"{first(filled)}. Use --fresh, or load it beside them with --unflagged-rows"
        )

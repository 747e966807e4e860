"""Tables without the flag in a database that perfdata owns: which are replaced, and when not."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from psycopg import sql

from perfdata.errors import RefusedError, SchemaError
from perfdata.load.selection import Selection, flagged_selection, whole_tables
from perfdata.postgres.user_code import OTHER_ROLES, refuse_user_code
from perfdata.templates.provenance import find_owned, record_load
from perfdata.text import join_first

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from perfdata.config import Settings
    from perfdata.load.plan import Loaded, Plan
    from perfdata.load.provenance import Provenance
    from perfdata.postgres.catalog import Catalog, Table
    from perfdata.postgres.link import Link
    from perfdata.snapshot.format.manifest import Manifest


def saved_selection(link: Link, catalog: Catalog, flag: str, settings: Settings) -> Selection:
    """Return the rows that a snapshot takes: flagged ones, and whole tables.

    Whole tables are those that the settings name and, in a database that perfdata owns, those that
    a dataset filled. Where there is neither a flag nor such a name, all rows of a database that
    perfdata owns are taken; SchemaError elsewhere, as its rows may be anybody's.
    """
    owned = find_owned(link)
    if catalog.tables and not (catalog.flagged(flag) or settings.whole_tables):
        if owned:
            return Selection(None)
        raise SchemaError(
            f"the database has no table with a column {flag}, and perfdata does not own it, so "
            "test data can't be distinguished from other rows",
            remedy="Set flag_column in [tool.perfdata] if the flag has another name, or save every "
            "row with all_rows=True",
        )
    filled = owned.provenance.filled if owned else ()
    selection = flagged_selection(catalog, flag, settings)
    selection = replace(selection, whole=whole_tables(catalog, settings.whole_tables))
    return selection.with_unflagged(catalog, [key for key in filled if key in catalog.by_key])


def upgraded_selection(
    older: Manifest, catalog: Catalog, flag: str, settings: Settings
) -> Selection:
    """Return the rows that an upgraded snapshot takes: those that the older one took.

    Raises SchemaError for tables whose rows were flagged by a reference, and no longer are.
    """
    present = frozenset(catalog.by_key)
    selection = flagged_selection(catalog, flag, settings)
    selection = replace(selection, whole=present.intersection(older.whole_tables))
    selected = {table.key for table in selection.tables(catalog)}
    missing = [
        entry
        for key in older.stats
        if key in present - selected
        for entry in older.flag_through
        if entry.startswith(f"{key}.")
    ]
    if missing:
        raise SchemaError(
            f"snapshot {older.name} has rows that are flagged through {join_first(missing)}, which "
            "[tool.perfdata] flag_through does not name here",
            remedy="Name it there",
        )
    return selection


def own_selection(
    link: Link,
    catalog: Catalog,
    selection: Selection,
    provenance: Provenance,
    *,
    required: Collection[str] = (),
    as_superuser: bool = False,
) -> Selection:
    """Add to a selection the tables whose rows came with an earlier load, and have to go with it.

    These are the tables that the last dataset filled, and tables with nothing but loaded rows which
    reference tables of the selection. Tables whose keys are in ``required`` stay. Raises
    UserCodeError if reading these tables would run code of other roles, unless ``as_superuser``.
    """
    selection = replace(selection, provenance=provenance)
    if selection.all_rows:
        return selection
    unflagged = {
        table.oid: table
        for table in catalog.tables
        if not selection.has_flag(table) and table.key not in required
    }
    filled = {oid for oid, table in unflagged.items() if table.key in provenance.filled}
    oids = {table.oid for table in selection.tables(catalog)} | filled
    tied: list[Table] = []
    if provenance.loads:
        tied = [unflagged[oid] for oid in _referencing(catalog, oids) if oid in unflagged]
    if tied and not as_superuser:
        refuse_user_code(link, link.rows(OTHER_ROLES), read=tied)
    query = sql.SQL("SELECT count(*) > 0 AND bool_and({}) FROM {}")
    answers = link.together(query.format(provenance.loaded(), table.only) for table in tied)
    loaded = {table.key for table, ((own,),) in zip(tied, answers, strict=True) if own}
    whole = {*selection.whole, *(unflagged[oid].key for oid in filled), *loaded}
    return replace(selection, whole=frozenset(whole))


def _referencing(catalog: Catalog, oids: Collection[int]) -> list[int]:
    """Return the other tables that reference tables, directly or through others."""
    found = set(oids)
    while more := {
        key.child for key in catalog.foreign_keys if key.parent in found and key.child not in found
    }:
        found |= more
    return sorted(found - set(oids))


def refuse_real_rows(link: Link, tables: Iterable[Table], selection: Selection) -> None:
    """Raise RefusedError if tables that are replaced whole hold rows that perfdata did not load."""
    tables = list(tables)
    query = sql.SQL("SELECT count(*) FROM {} WHERE {}")
    counts = link.together(query.format(table.only, selection.real(table)) for table in tables)
    refuse_others(
        [f"{table.key}: {rows:,}" for table, ((rows,),) in zip(tables, counts, strict=True) if rows]
    )


def refuse_others(found: Sequence[str]) -> None:
    """Raise RefusedError for rows, by table, that perfdata did not load or that changed since."""
    if found:
        raise RefusedError(
            "refused, nothing was touched: these tables are replaced whole, and rows that perfdata "
            f"did not load, or that were changed since, would be lost: {'; '.join(found)}",
            remedy="Restore with fresh=True, which keeps them in the replaced database, or remove "
            "them",
            fresh_helps=True,
        )


def record_loaded(link: Link, plan: Plan, loaded: Loaded, *, added: bool = False) -> None:
    """Record which rows without the flag are perfdata's own, in the transaction of their load.

    So they are not taken for somebody else's if the load is interrupted once it is committed.
    """
    if not plan.owned or not plan.rows_without_flag:
        return
    filled = [] if plan.selection.all_rows else filled_tables(plan, loaded.rows)
    record_load(link, loaded.transactions, filled, added=added)


def filled_tables(plan: Plan, rows: Collection[str]) -> list[str]:
    """Return the keys of the tables without the flag among those that were filled."""
    selection = plan.selection
    return [t.key for t in plan.whole_tables if t.key in rows and not selection.has_flag(t)]

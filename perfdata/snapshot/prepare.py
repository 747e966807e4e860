"""Before the first change of a restore: what is checked, and how the rows are to be loaded."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from psycopg import sql

from perfdata.errors import RefusedError, SchemaError
from perfdata.load.disk_space import rows_space_check
from perfdata.load.loader import refuse_code_of_load
from perfdata.load.plan import Existing, Plan
from perfdata.load.selection import Selection, matching_keys
from perfdata.load.sequences import SequenceState, sequences_check
from perfdata.postgres.catalog import table_key
from perfdata.postgres.link import run_checks
from perfdata.postgres.reflection import read_catalog
from perfdata.postgres.user_code import OTHER_ROLES, refuse_user_code
from perfdata.project import flag_of
from perfdata.snapshot.drift import Drift
from perfdata.snapshot.requirements import required_check
from perfdata.target.guard import check_guard
from perfdata.target.migrations import read_history
from perfdata.target.target import project_of
from perfdata.templates.databases import is_owned
from perfdata.text import first

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perfdata.config import Settings
    from perfdata.postgres.catalog import Catalog, Table
    from perfdata.postgres.link import Link, Rows
    from perfdata.snapshot.format.manifest import Manifest
    from perfdata.snapshot.options import RestoreOptions


def application_name(name: str) -> str:
    """Return the application name of sessions that restore a snapshot.

    The server cuts it to 63 bytes.
    """
    return f"perfdata restore {name}"


def prepare(link: Link, manifest: Manifest, settings: Settings, options: RestoreOptions) -> Plan:
    """Check that a snapshot may go into a database and fits it; return how it is to be loaded."""
    check_guard(link, settings)
    project = project_of(link, settings)
    drift = Drift(manifest, allowed=options.allow_drift)
    with link.transaction(reading=True):
        others = link.later(OTHER_ROLES)
        catalog = read_catalog(link)
        present = drift.migrations_check(read_history(project), catalog)
        room = rows_space_check(link, manifest.body.bytes, manifest.rows)
        run_checks(link, [present, sequences_check(manifest.sequences), room])
    drift.check_schema(catalog)
    flag = flag_of(project, settings)
    if manifest.flag_column not in (None, flag):
        raise SchemaError(
            f"snapshot {manifest.name} holds the rows with {manifest.flag_column}, and here the "
            f"flag is {flag}; nothing was touched"
        )
    plan = replace(
        _plan(manifest, catalog, flag, clean_existing=options.clean_existing),
        checks=(present, required_check(catalog, manifest.requires, flag)),
        lock_timeout_s=options.lock_timeout_s,
        owned=is_owned(link),
        rebuild_indexes=options.rebuild_indexes,
        notes=drift.notes(),
        columns=manifest.schema,
        as_superuser=options.as_superuser,
        application_name=application_name(manifest.name),
    )
    refuse_code_of_load(link, others.rows, plan)
    check_consent(link, others.rows, plan, manifest, settings, options)
    return plan


def selection_of(manifest: Manifest) -> Selection:
    """Return the rows that a snapshot was made of."""
    return Selection(manifest.flag_column, frozenset(manifest.whole_tables))


def _plan(manifest: Manifest, catalog: Catalog, flag: str, *, clean_existing: bool) -> Plan:
    selection = selection_of(manifest)
    taken = {table.key: table for table in selection.tables(catalog)}
    if other := [key for key in manifest.stats if key not in taken]:
        raise SchemaError(
            f"snapshot {manifest.name} has rows of {first(other)}, which has no column {flag} and "
            "is not among its whole tables: they may not be filled; nothing was touched. Build or "
            "create it again"
        )
    existing, tables = Existing.KEEP, [taken[key] for key in manifest.stats]
    if manifest.all_rows:
        if not clean_existing:
            raise RefusedError(
                f"refused, nothing was touched: {manifest.name} is a snapshot of all rows, and is "
                "restored into empty tables only, where there is nothing to keep: leave out "
                "--keep-existing"
            )
        existing = Existing.NONE
    elif clean_existing:
        existing = Existing.REPLACE
        tables = list(taken.values())
    return Plan(
        catalog,
        tables,
        existing,
        selection,
        manifest.stats,
        sequences={key: SequenceState(*state) for key, state in manifest.sequences.items()},
        populated=manifest.populated_views,
    )


def check_consent(
    link: Link,
    roles: Rows,
    plan: Plan,
    manifest: Manifest,
    settings: Settings,
    options: RestoreOptions,
) -> None:
    """Raise RefusedError where a file brings more than flagged rows, and nothing here allows it.

    ``whole_tables`` are allowed by the setting of that name. Every row is allowed in a fresh
    database, in one that perfdata made, and where no table holds a row. The option
    ``unflagged_rows`` allows both. Sequences of other tables than the file's are never moved.
    ``roles`` are the rows of user_code.OTHERS: tables that the plan does not have are read.
    """
    _refuse_sequences(plan.catalog, manifest)
    if options.unflagged_rows:
        return
    allowed = matching_keys(manifest.whole_tables, settings.whole_tables)
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
    for sequence in catalog.sequences:
        tables = feeding.setdefault(table_key(sequence.schema, sequence.name), set())
        tables.add(catalog.by_oid[sequence.table].key)
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

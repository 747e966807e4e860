"""The checks of a restore before its first change, and the plan of how its rows are loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg import sql

from perfdata.errors import MigrationError, RefusedError, SchemaError
from perfdata.load.disk_space import rows_space_check
from perfdata.load.loader import refuse_code_of_load
from perfdata.load.plan import Existing, Plan
from perfdata.load.selection import Selection, matching_keys
from perfdata.load.sequences import SequenceState, sequences_check
from perfdata.migrations.history import database_heads, read_history
from perfdata.postgres.catalog import table_key
from perfdata.postgres.coverage import covering_keys
from perfdata.postgres.link import run_checks
from perfdata.postgres.reflection import read_catalog
from perfdata.postgres.user_code import OTHER_ROLES, refuse_user_code
from perfdata.project import find_project, flag_of
from perfdata.snapshot.checks.drift import Drift
from perfdata.snapshot.checks.ownership import own_selection
from perfdata.snapshot.checks.requirements import required_check
from perfdata.target.guard import check_guard
from perfdata.templates.provenance import find_owned
from perfdata.text import join_first

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from perfdata.config import Settings
    from perfdata.migrations.history import History
    from perfdata.postgres.catalog import Catalog, Table
    from perfdata.postgres.coverage import CoveringKey
    from perfdata.postgres.link import Link, Rows
    from perfdata.snapshot.format.manifest import Manifest
    from perfdata.snapshot.options import RestoreOptions


def application_name(name: str) -> str:
    """Return the application name of sessions that restore a snapshot."""
    return f"perfdata restore {name}"


def prepare(link: Link, manifest: Manifest, settings: Settings, options: RestoreOptions) -> Plan:
    """Check that a snapshot may be restored into a database and fits it; return the load's plan.

    Raises what restore_snapshot raises before its first change, but for checks under locks, which
    the plan contains.
    """
    check_guard(link, settings)
    return plan_restore(link, manifest, settings, options)


def plan_restore(
    link: Link,
    manifest: Manifest,
    settings: Settings,
    options: RestoreOptions,
    *,
    private: bool = False,
) -> Plan:
    """Check that a snapshot fits a database, and return the plan of its load (see prepare).

    The caller has asked the guard, or the database is ``private``: nobody else uses it yet.
    """
    project = find_project(settings)
    drift = Drift(manifest, allowed=options.allow_drift)
    history = read_history(project)
    _check_query(link, history, settings)
    with link.transaction(reading=True):
        roles = link.later(OTHER_ROLES)
        catalog = read_catalog(link)
        migrations = drift.migrations_check(history, catalog)
        disk_space = rows_space_check(link, manifest.body.bytes, manifest.rows)
        run_checks(link, [migrations, sequences_check(manifest.sequences), disk_space])
    drift.check_schema(catalog)
    flag = flag_of(project, settings)
    if manifest.flag_column not in (None, flag):
        raise SchemaError(
            f"snapshot {manifest.name} holds the rows flagged by {manifest.flag_column}, but the "
            f"flag here is {flag}",
            remedy=f"Nothing was touched. Create it again with {flag}, or set flag_column",
        )
    owned = find_owned(link)
    if private or manifest.all_rows:
        covered = covered_by(manifest, catalog)
    else:  # never a file, but the settings decide which rows may be removed
        covered = covering_keys(catalog, flag, settings.flag_through)
    selection = selection_of(manifest, covered)
    if owned is not None and options.clean_existing:
        selection = own_selection(
            link,
            catalog,
            selection,
            owned.provenance,
            required=[requirement.table for requirement in manifest.requires],
            as_superuser=options.as_superuser,
        )
    required = required_check(catalog, manifest.requires, Selection(flag, covered=covered))
    plan = Plan(
        catalog,
        _tables(manifest, catalog, selection, flag, clean_existing=options.clean_existing),
        _existing(manifest, selection, clean_existing=options.clean_existing),
        selection,
        manifest.stats,
        checks=(migrations, required),
        sequences={key: SequenceState(*state) for key, state in manifest.sequences.items()},
        populated=manifest.populated_views,
        lock_timeout_s=options.lock_timeout_s,
        notes=drift.notes(),
        owned=private or owned is not None,
        rebuild_indexes=options.rebuild_indexes,
        application_name=application_name(manifest.name),
        columns=manifest.schema,
        as_superuser=options.as_superuser,
    )
    refuse_code_of_load(link, roles.rows, plan)
    _refuse_sequences(catalog, manifest)
    if not options.unflagged_rows:
        _refuse_unflagged(link, roles.rows, plan, manifest, settings, options)
    return plan


def _check_query(link: Link, history: History, settings: Settings) -> None:
    """Raise MigrationError if another tool than Alembic has applied nothing.

    Its table may be missing then, which would end the transaction of the other checks.
    """
    if history.query is not None and not database_heads(link, history):
        raise MigrationError(
            "refused, nothing was touched: by the query of Migrations(applied=…), no migration "
            "has run in the database",
            remedy=f"Run: {settings.command('db.migrate')}",
        )


def selection_of(manifest: Manifest, covered: Mapping[str, CoveringKey]) -> Selection:
    """Return the rows that a snapshot was made of, where these tables are covered.

    A dataset's snapshot has tables whole only where nothing flagged their rows.
    """
    whole = frozenset(manifest.whole_tables)
    if manifest.dataset_fingerprint is not None:
        whole -= covered.keys()
    return Selection(manifest.flag_column, whole, covered=covered)


def covered_by(manifest: Manifest, catalog: Catalog) -> dict[str, CoveringKey]:
    """Return the tables that were covered where a snapshot was made.

    Raises SchemaError if a database lacks their foreign keys.
    """
    named_by = f"snapshot {manifest.name} has rows that are flagged through"
    return covering_keys(catalog, manifest.flag_column or "", manifest.flag_through, named_by)


def _tables(
    manifest: Manifest, catalog: Catalog, selection: Selection, flag: str, *, clean_existing: bool
) -> list[Table]:
    """Return the tables to fill, and with ``clean_existing`` those to empty too."""
    selected = {table.key: table for table in selection.tables(catalog)}
    if unflagged := [key for key in manifest.stats if key not in selected]:
        raise SchemaError(
            f"snapshot {manifest.name} has rows of {join_first(unflagged)}, which has no column "
            f"{flag} and is not among its whole tables: they may not be filled",
            remedy=f"Nothing was touched. {_way_on(manifest, unflagged)}",
        )
    if clean_existing and not manifest.all_rows:
        return list(selected.values())
    return [selected[key] for key in manifest.stats]


def _way_on(manifest: Manifest, keys: Sequence[str]) -> str:
    """Return what the user can do about a snapshot's rows of tables without the flag."""
    again = "uild or create it again"
    entries = [
        entry for entry in manifest.flag_through if any(entry.startswith(f"{key}.") for key in keys)
    ]
    if not entries:
        return f"B{again}"
    return (
        f"The snapshot has them flagged through {', '.join(entries)}: name that in "
        f"[tool.perfdata] flag_through here too, or b{again}"
    )


def _existing(manifest: Manifest, selection: Selection, *, clean_existing: bool) -> Existing:
    if not manifest.all_rows or selection.provenance is not None:
        return Existing.REPLACE if clean_existing else Existing.KEEP
    if not clean_existing:
        raise RefusedError(
            f"refused, nothing was touched: {manifest.name} is a snapshot of all rows, which is "
            "restored into empty tables only: there are no rows to keep",
            remedy="Leave out clean_existing=False",
        )
    return Existing.NONE


def _refuse_unflagged(
    link: Link,
    roles: Rows,
    plan: Plan,
    manifest: Manifest,
    settings: Settings,
    options: RestoreOptions,
) -> None:
    """Raise RefusedError if a file has unflagged rows that nothing here allows.

    The setting ``whole_tables`` allows whole tables. Tables without the flag may come whole into a
    database that perfdata owns, and into a fresh one from the snapshot of a dataset. A snapshot of
    all rows is allowed in both, and if no other table holds a row. ``roles`` are the rows of
    OTHER_ROLES, as tables outside the plan are read.
    """
    allowed = matching_keys(manifest.whole_tables, settings.whole_tables)
    generated = manifest.dataset_fingerprint is not None
    taken = plan.selection.whole
    whole = [key for key in manifest.whole_tables if key in taken and key not in allowed]
    if plan.owned or (options.fresh and generated):
        covered, table = plan.selection.covered, plan.catalog.table
        whole = [k for k in whole if plan.selection.has_flag(table(k)) and k not in covered]
    if whole:
        raise RefusedError(
            f"refused, nothing was touched: snapshot {manifest.name} has every row of "
            f"{join_first(whole)}, not only flagged ones, and [tool.perfdata] whole_tables does "
            "not name that here",
            remedy="Name it there, or restore with unflagged_rows=True"
            f"{' or fresh=True' if generated else ''}, or mark the database as perfdata's "
            f"({settings.command('db.adopt')})",
        )
    if not manifest.all_rows or options.fresh or plan.owned:
        return
    others = [table for table in plan.catalog.tables if table.key not in manifest.stats]
    if not plan.as_superuser:
        refuse_user_code(link, roles, read=others)
    query = sql.SQL("SELECT EXISTS (SELECT FROM {})")
    answers = link.together(query.format(table.only) for table in others)
    filled = [table.key for table, ((rows,),) in zip(others, answers, strict=True) if rows]
    if filled:
        raise RefusedError(
            f"refused, nothing was touched: {manifest.name} is a snapshot of all rows, which can "
            "only be restored into a database without rows, and these tables have some: "
            f"{join_first(filled)}",
            remedy="Use fresh=True, or keep their rows and restore with unflagged_rows=True",
            fresh_helps=True,
        )


def _refuse_sequences(catalog: Catalog, manifest: Manifest) -> None:
    """Refuse a file that sets sequences used only by tables that it does not have.

    A sequence that no table uses may be set.
    """
    users: dict[str, set[str]] = {}
    for sequence in catalog.sequences:
        tables = users.setdefault(table_key(sequence.schema, sequence.name), set())
        tables.add(catalog.by_oid[sequence.table].key)
    others = [
        f"{key} of {join_first(sorted(users[key]))}"
        for key in manifest.sequences
        if key in users and not users[key] & manifest.stats.keys()
    ]
    if others:
        raise RefusedError(
            f"refused, nothing was touched: snapshot {manifest.name} sets sequences of tables "
            f"that it does not have: {join_first(others)}",
            remedy="Create it again",
        )

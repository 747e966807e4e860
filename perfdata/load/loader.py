"""The loader: rows into tables, with every constraint checked.

One set of steps, and two ways to run them: ``load`` in the target, over one connection and in one
transaction; ``load_private`` in a database that nobody uses yet, over several connections, which is
thrown away after an error (see private).
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from perfdata.errors import BoundaryError, LoadError, RefusedError, SchemaError, ServerRefusedError
from perfdata.load.boundary import check_boundary
from perfdata.load.constraints import survey_check, taken_off
from perfdata.load.existing import (
    check_flags,
    count_queries,
    count_unflagged,
    plan_removals,
    remove_rows,
)
from perfdata.load.maintenance import vacuum_and_analyze
from perfdata.load.plan import Existing, Loaded, Strategy
from perfdata.load.privileges import check_emptying, check_privileges, privileges_query
from perfdata.load.readers import Publications, deletion_of, publications_of, refuse_dumps
from perfdata.load.sequences import advance_sequences
from perfdata.load.unsaved import refuse_hidden
from perfdata.load.views import refresh_views, views_of
from perfdata.postgres.link import run_checks
from perfdata.postgres.locks import explain_lock_timeout, lock_tables, lock_timeout, take_load_lock
from perfdata.postgres.reflection import read_catalog
from perfdata.postgres.statistics import planner_environment, restore_statistics
from perfdata.postgres.user_code import OTHER_ROLES, refuse_user_code
from perfdata.progress import Event
from perfdata.text import first

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from perfdata.load.existing import Removal
    from perfdata.load.plan import Plan, RowSource, TableLoad
    from perfdata.postgres.link import Link, Rows
    from perfdata.progress import Report

_KEY_TAKEN = {"23505", "23P01"}  # by a unique or an exclusion constraint


def load(link: Link, plan: Plan, source: RowSource, report: Report) -> Loaded:
    """Load a source's rows in one transaction, or in a savepoint of the one that was joined.

    Each unflagged row is afterwards as it was, and only the rows of the tables differ.
    Raises BoundaryError, RefusedError, LoadError or SchemaError with everything as it was before.
    """
    _refuse_old_snapshot(link)
    link.changed = True
    timeout_s = plan.lock_timeout_s
    with (
        _key_conflicts(plan),
        explain_lock_timeout(link, timeout_s, plan.touched),
        link.transaction({**lock_timeout(timeout_s), "application_name": plan.application_name}),
    ):
        (privileges,) = take_load_lock(link, report, privileges_query(plan))
        check_privileges(privileges, plan)
        lock_tables(link, plan.touched)
        others = link.later(OTHER_ROLES)
        catalog = read_catalog(link)
        if catalog != plan.catalog:
            raise SchemaError("the tables changed while the load waited for them; run it again")
        plan = replace(plan, catalog=catalog)  # the oids of its keys are those of now
        removals, reader_notes = check_load(link, plan, source, privileges, others.rows)
        with taken_off(link, plan, removals) as off:
            remove_rows(link, plan, removals)
            with link.own_path():
                rows = _copy_tables(link, plan, removals, source, report)
            check_complete(plan, rows)
            unflagged = count_unflagged(link, plan, removals)
            views, environment = views_of(link, plan.tables), planner_environment(link)
            off.put_back(link)
            advance_sequences(link, plan.catalog, plan.tables, plan.sequences, anew=False)
            check_flags(plan, unflagged)
            stale = refresh_views(link, views, plan.populated)
        restored = frozenset[int]()
        if source.statistics is not None:
            whole = [removal.table for removal in removals if removal.truncate]
            restored = restore_statistics(link, source.statistics, whole, environment)
        deletion = deletion_of(link, removals)
        if off.indexes and plan.rebuild_indexes:
            refuse_dumps(link)  # one that came while the load worked
    notes = [*plan.notes, *reader_notes, *off.notes, *stale]
    if not link.joined:
        notes += vacuum_and_analyze(link, plan, rows, source.statistics, restored, deletion)
    return Loaded(rows, _strategy(plan, removals), tuple(notes))


def preview_load(link: Link, plan: Plan, source: RowSource) -> tuple[list[Removal], list[str]]:
    """Make the checks that a load makes before its first change.

    Returns what it would do with each table, and notes. Nothing is locked or changed. Raises what a
    load would raise.
    """
    _refuse_old_snapshot(link)
    timeout_s = plan.lock_timeout_s
    with explain_lock_timeout(link, timeout_s), link.transaction(lock_timeout(timeout_s)):
        survey = survey_check(plan.catalog, plan.tables)
        privileges, others = run_checks(link, [], privileges_query(plan), OTHER_ROLES)
        check_privileges(privileges, plan)
        checked = check_load(link, plan, source, privileges, others)
        run_checks(link, [survey])
    return checked


def check_load(
    link: Link, plan: Plan, source: RowSource, privileges: Rows, roles: Rows
) -> tuple[list[Removal], list[str]]:
    """Make every check before the first change; return what becomes of the rows, and notes.

    ``privileges`` and ``roles`` are the rows of privileges_query(plan) and user_code.OTHERS.
    """
    refuse_code_of_load(link, roles, plan)
    refuse_hidden(plan.tables)
    published, *counts = run_checks(
        link, plan.checks, publications_of(plan.tables), *count_queries(plan)
    )
    if plan.existing is not Existing.ALL:
        source.check(link, plan)
    publications = Publications.of(published)
    removals = plan_removals(plan, counts, published=publications.tables)
    check_emptying(privileges, removals)
    publications.refuse_unidentified(removals)
    if plan.rebuild_indexes and any(removal.rebuild for removal in removals):
        refuse_dumps(link)
    if plan.existing is Existing.REPLACE:
        check_boundary(link, plan, removals)
    return removals, list(publications.notes(removals))


def refuse_code_of_load(link: Link, roles: Rows, plan: Plan) -> None:
    """Raise UserCodeError where a load would run code of roles that may not act as this one."""
    if not plan.as_superuser:
        refuse_user_code(link, roles, written=plan.tables, read=plan.read, columns=plan.columns)


def copy_table(
    link: Link, table: TableLoad, expected: int | None, report: Report, *, freeze: bool
) -> int:
    """Send one table's rows; return their number, which must be the expected one."""
    key = table.table.key
    report(Event(key, 0, expected))
    rows = link.copy_in(
        table.table.identifier, table.columns, table.blocks, table.form, freeze=freeze
    )
    if expected is not None and rows != expected:
        raise LoadError(f"{key}: expected {expected:,} rows, received {rows:,}")
    report(Event(key, rows, rows))
    return rows


def check_complete(plan: Plan, rows: Mapping[str, int]) -> None:
    """Raise LoadError where a table that was to have rows received none."""
    expected = {key for key, count in (plan.counts or {}).items() if count}
    if missing := sorted(expected - rows.keys()):
        raise LoadError(f"no rows were received for {first(missing)}")


def _copy_tables(
    link: Link, plan: Plan, removals: Collection[Removal], source: RowSource, report: Report
) -> dict[str, int]:
    # FREEZE needs a table emptied in this very transaction, and no older snapshot in it.
    freeze = {
        removal.table.oid
        for removal in removals
        if removal.truncate and not link.joined and not removal.table.partitioned
    }
    allowed = {table.oid for table in plan.tables}
    rows: dict[str, int] = {}
    for table in source.tables(plan.catalog):
        key, oid = table.table.key, table.table.oid
        if oid not in allowed or key in rows:
            again = " a second time" if key in rows else ""
            raise SchemaError(f"rows came for table {key}{again}, which this load may not fill")
        expected = plan.counts.get(key, 0) if plan.counts is not None else None
        rows[key] = copy_table(link, table, expected, report, freeze=oid in freeze)
    return rows


def _strategy(plan: Plan, removals: Iterable[Removal]) -> Strategy:
    if plan.existing is Existing.KEEP:
        return Strategy.ADDED
    return Strategy.BESIDE if any(one.staying for one in removals) else Strategy.WHOLE_TABLES


def _refuse_old_snapshot(link: Link) -> None:
    """Refuse a caller's transaction that does not see what others commit: it would remove it."""
    if link.joined and (level := link.value("SHOW transaction_isolation")) != "read committed":
        raise RefusedError(
            f"refused, nothing was touched: the transaction is {level}, so that rows which others "
            "commit meanwhile would be removed unseen. Use one that is read committed"
        )


@contextmanager
def _key_conflicts(plan: Plan) -> Iterator[None]:
    """Say what to do where a row that is loaded has the key of one that stays."""
    try:
        yield
    except ServerRefusedError as error:
        if error.sqlstate not in _KEY_TAKEN:
            raise
        remedy = "Give the staying row another key, or flag it if it is test data"
        if plan.existing is Existing.KEEP:
            remedy = "Without --keep-existing the flagged rows that are there are replaced"
        raise BoundaryError(
            f"refused, everything was rolled back: a loaded row has the key of a row that stays "
            f"(constraint {error.constraint}: {error.detail}). {remedy}"
        ) from error

"""The loader: streams of COPY blocks into tables, atomically, with every constraint checked."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from perfdata.database.catalog import read_catalog
from perfdata.database.checks import run_checks
from perfdata.database.connection import first
from perfdata.database.emptying import check_flags, clear, count_unflagged, counting, look
from perfdata.database.guard import check_boundary
from perfdata.database.locks import hold_off, lock_tables, lock_timeout, waits_told
from perfdata.database.plan import Existing, Loaded, Plan, Strategy, TableLoad
from perfdata.database.privileges import check_emptying, check_privileges, privileges_of
from perfdata.database.readers import (
    Publications,
    deletion_of,
    publications_of,
    refuse_dumps,
)
from perfdata.database.sequences import advance_sequences
from perfdata.database.statistics import environment_of, restore_statistics
from perfdata.database.structure import survey_check, taken_off
from perfdata.database.unsaved import refuse_hidden
from perfdata.database.upkeep import tend
from perfdata.database.user_code import OTHERS, refuse_code_of_load
from perfdata.database.views import refresh_views, views_of
from perfdata.errors import BoundaryError, LoadError, RefusedError, SchemaError, ServerRefusedError
from perfdata.progress import Event

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from perfdata.database.emptying import Before
    from perfdata.database.link import Link, Rows
    from perfdata.progress import Report

__all__ = ["Existing", "Loaded", "Plan", "Strategy", "TableLoad", "foresee", "load"]

_KEY_TAKEN = {"23505", "23P01"}  # by a unique or an exclusion constraint


def load(link: Link, plan: Plan, loads: Iterable[TableLoad], report: Report) -> Loaded:
    """Bring in the rows of ``loads`` in one transaction, in a savepoint where one was joined.

    Each unflagged row is afterwards as it was, and nothing about a table but its rows differs.
    Raises BoundaryError, RefusedError, LoadError or SchemaError with everything as it was before.
    """
    _refuse_old_views(link)
    link.changed = True
    timeout_s = plan.lock_timeout_s
    with (
        _taken_keys_told(plan),
        waits_told(link, timeout_s, plan.touched),
        link.transaction({**lock_timeout(timeout_s), "application_name": plan.application_name}),
    ):
        (privileges,) = hold_off(link, report, privileges_of(plan))
        check_privileges(privileges, plan)
        lock_tables(link, plan.touched)
        others = link.later(OTHERS)
        catalog = read_catalog(link)
        if catalog != plan.catalog:
            raise SchemaError("the tables changed while the load waited for them; run it again")
        plan = replace(plan, catalog=catalog)  # the oids of its keys are those of now
        refuse_code_of_load(link, others.rows, plan)
        before, read_notes = _look(link, plan, privileges)
        with taken_off(link, plan, before) as off:
            clear(link, plan, before)
            with link.own_path():
                rows = _copy_all(link, plan, before, loads, report)
            unflagged = count_unflagged(link, plan, before)
            views, environment = views_of(link, plan.tables), environment_of(link)
            off.put_back(link)
            advance_sequences(link, plan.catalog, plan.tables, plan.sequences, anew=False)
            check_flags(plan, unflagged)
            stale = refresh_views(link, views, plan.populated)
        statistics, known = plan.statistics(), frozenset[int]()
        if statistics is not None:
            whole = [one.table for one in before if one.truncate]
            known = restore_statistics(link, statistics, whole, environment)
        deletion = deletion_of(link, before)
        if off.indexes and plan.rebuild_indexes:
            refuse_dumps(link)  # one that came while the load worked
    notes = [*plan.notes, *read_notes, *off.notes, *stale]
    if not link.joined:
        notes += tend(link, plan, rows, statistics, known, deletion)
    return Loaded(rows, _strategy(plan, before), tuple(notes))


def foresee(link: Link, plan: Plan) -> tuple[list[Before], list[str]]:
    """Make the checks that a load makes before its first change.

    Returns what it would do with each table, and notes. Nothing is locked or changed. Raises what a
    load would raise.
    """
    _refuse_old_views(link)
    timeout_s = plan.lock_timeout_s
    with waits_told(link, timeout_s), link.transaction(lock_timeout(timeout_s)):
        survey = survey_check(plan.catalog, plan.tables)
        privileges, others = run_checks(link, [], privileges_of(plan), OTHERS)
        check_privileges(privileges, plan)
        refuse_code_of_load(link, others, plan)
        seen = _look(link, plan, privileges)
        run_checks(link, [survey])
    return seen


def _look(link: Link, plan: Plan, privileges: Rows) -> tuple[list[Before], list[str]]:
    """Make every check, choose for each table what becomes of its rows, and note who reads it."""
    refuse_hidden(plan.tables)
    published, *counts = run_checks(
        link, plan.checks, publications_of(plan.tables), *counting(plan)
    )
    if plan.last_check is not None:
        plan.last_check(link)
    publications = Publications.of(published)
    before = look(plan, counts, published=publications.tables)
    check_emptying(privileges, before)
    publications.refuse_unidentified(before)
    if plan.rebuild_indexes and any(one.rebuild for one in before):
        refuse_dumps(link)
    if plan.existing is Existing.REPLACE:
        check_boundary(link, plan.catalog, plan.flag_column, before, plan.whole)
    return before, list(publications.notes(before))


def _strategy(plan: Plan, before: Iterable[Before]) -> Strategy:
    if plan.existing is Existing.KEEP:
        return Strategy.ADDED
    return Strategy.BESIDE if any(one.staying for one in before) else Strategy.WHOLE_TABLES


def _refuse_old_views(link: Link) -> None:
    """Refuse a caller's transaction that does not see what others commit: it would remove it."""
    if link.joined and (level := link.value("SHOW transaction_isolation")) != "read committed":
        raise RefusedError(
            f"refused, nothing was touched: the transaction is {level}, so that rows which others "
            "commit meanwhile would be removed unseen. Use one that is read committed"
        )


def _copy_all(
    link: Link, plan: Plan, before: Iterable[Before], loads: Iterable[TableLoad], report: Report
) -> dict[str, int]:
    # FREEZE needs a table emptied in this very transaction, and no older snapshot in it.
    freeze = {
        one.table.oid
        for one in before
        if one.truncate and not link.joined and not one.table.partitioned
    }
    allowed = {table.oid for table in plan.tables}
    rows: dict[str, int] = {}
    for one in loads:
        key = one.table.key
        if one.table.oid not in allowed or key in rows:
            again = " a second time" if key in rows else ""
            raise SchemaError(f"rows came for table {key}{again}, which this load may not fill")
        expected = plan.counts.get(key, 0) if plan.counts is not None else None
        report(Event(key, 0, expected))
        rows[key] = link.copy_in(
            one.table.identifier,
            one.columns,
            one.blocks,
            one.form,
            freeze=one.table.oid in freeze,
        )
        if expected is not None and rows[key] != expected:
            raise LoadError(f"{key}: {rows[key]:,} rows came where {expected:,} are promised")
        report(Event(key, rows[key], rows[key]))
    if missing := {key for key, count in (plan.counts or {}).items() if count} - rows.keys():
        raise LoadError(f"no rows came for {first(sorted(missing))}")
    return rows


@contextmanager
def _taken_keys_told(plan: Plan) -> Iterator[None]:
    """Say what to do where a row that comes in has the key of one that stays."""
    try:
        yield
    except ServerRefusedError as error:
        if error.sqlstate not in _KEY_TAKEN:
            raise
        remedy = "Give the staying row another key, or flag it if it is test data"
        if plan.existing is Existing.KEEP:
            remedy = "Without --keep-existing the flagged rows that are there are replaced"
        raise BoundaryError(
            f"refused, everything was rolled back: a row that comes in has the key of one "
            f"that stays (constraint {error.constraint}: {error.detail}). {remedy}"
        ) from error

"""The loader: rows into tables, with every constraint checked.

The same steps run in two ways: ``load`` in the target, over one connection in one transaction;
``load_private`` (in private) in a database that nobody uses yet, over several connections.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from perfdata.errors import (
    BoundaryError,
    LoadError,
    PerfdataError,
    RefusedError,
    RowsRefusedError,
    SchemaError,
    ServerRefusedError,
)
from perfdata.load.constraints import without_constraints
from perfdata.load.indexes import refuse_dumps
from perfdata.load.keys import rows_stay, shared_keys, start_elsewhere
from perfdata.load.maintenance import deletion_of, vacuum_and_analyze
from perfdata.load.plan import Existing, Loaded, Strategy
from perfdata.load.privileges import check_emptying, check_privileges, privileges_query
from perfdata.load.provenance import loading_transactions
from perfdata.load.publications import Publications, publications_query
from perfdata.load.removals import (
    check_boundary,
    check_flags,
    count_queries,
    count_unflagged,
    plan_removals,
    remove_rows,
)
from perfdata.load.selection import refuse_hidden_rows
from perfdata.load.sequences import advance_sequences
from perfdata.load.unsupported import refuse_unsupported, unsupported_query
from perfdata.load.views import refresh_views, views_query
from perfdata.postgres.copy import row_place
from perfdata.postgres.link import run_checks
from perfdata.postgres.locks import explain_lock_timeout, lock_tables, lock_timeout, take_load_lock
from perfdata.postgres.reflection import read_catalog
from perfdata.postgres.statistics import planner_environment, restore_statistics
from perfdata.postgres.user_code import OTHER_ROLES, refuse_user_code
from perfdata.progress import Event
from perfdata.text import join_first

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

    from perfdata.load.plan import Plan, RowSource, TableLoad
    from perfdata.load.removals import Removal
    from perfdata.postgres.link import Link, Rows
    from perfdata.progress import Report

_DUPLICATE_KEY = {"23505", "23P01"}  # SQLSTATEs of unique and exclusion constraints


def load(
    link: Link,
    plan: Plan,
    source: RowSource,
    report: Report,
    record: Callable[[Loaded], None] | None = None,
) -> Loaded:
    """Load a source's rows in one transaction, or in a savepoint of the caller's.

    ``record`` is called in that transaction, so what it writes is committed with the rows.
    Unflagged rows, and everything but the rows of the tables, are afterwards as before. Raises
    BoundaryError, RefusedError, LoadError or SchemaError; then nothing is changed.
    """
    _check_isolation(link)
    link.changed = True
    timeout_s = plan.lock_timeout_s
    with (
        explain_rollback(),
        explain_duplicate_key(link, plan, source),
        explain_lock_timeout(link, timeout_s, plan.touched),
        link.transaction({**lock_timeout(timeout_s), "application_name": plan.application_name}),
    ):
        (privileges,) = take_load_lock(link, report, privileges_query(plan))
        check_privileges(privileges, plan)
        lock_tables(link, plan.touched)
        roles = link.later(OTHER_ROLES)
        catalog = read_catalog(link)
        if catalog != plan.catalog:
            raise SchemaError(
                "the tables changed while the load waited for them", remedy="Run it again"
            )
        plan = replace(plan, catalog=catalog)  # has the present oids of foreign keys
        removals, reader_notes = check_load(link, plan, source, privileges, roles.rows)
        with without_constraints(link, plan, removals) as dropped:
            remove_rows(link, plan, removals)
            with link.own_path():
                rows = _copy_tables(link, plan, removals, source, report)
            check_complete(plan, rows)
            unflagged = count_unflagged(link, plan, removals)
            views, environment = link.later(*views_query(plan.tables)), planner_environment(link)
            dropped.recreate(link)
            advance_sequences(link, plan.catalog, plan.tables, plan.sequences, anew=False)
            check_flags(plan, unflagged)
            view_notes = refresh_views(link, views, plan.populated)
        numbers = loading_transactions(link, plan.rows_without_flag) if plan.owned else ()
        restored = frozenset[int]()
        if source.statistics is not None:
            truncated = [removal.table for removal in removals if removal.truncate]
            restored = restore_statistics(link, source.statistics, truncated, environment)
        deletion = deletion_of(link, removals)
        if dropped.indexes and plan.rebuild_indexes:
            refuse_dumps(link)  # that started during the load
        notes = (*plan.notes, *reader_notes, *dropped.notes, *view_notes)
        loaded = Loaded(rows, _strategy(plan, removals), notes, [(n, n) for n in numbers])
        if record is not None:
            record(loaded)
    if link.joined:
        return loaded
    more = vacuum_and_analyze(link, plan, rows, source.statistics, restored, deletion)
    return replace(loaded, notes=(*notes, *more))


def preview_load(link: Link, plan: Plan, source: RowSource) -> tuple[list[Removal], list[str]]:
    """Make the checks of a load; return what the load would do with each table, and notes.

    Nothing is locked or changed. Raises what ``load`` would raise before its first change, and for
    keys that loaded rows share with rows that stay.
    """
    timeout_s = plan.lock_timeout_s
    with explain_lock_timeout(link, timeout_s), link.transaction(lock_timeout(timeout_s)):
        checked = check_unlocked(link, plan, source)
        if shared := shared_keys(link, plan, source):
            raise BoundaryError(
                "refused, nothing was touched: rows to be loaded have the same key as existing "
                f"rows that are kept: {'; '.join(shared)}",
                remedy=start_elsewhere(plan),
            )
    return checked


def check_unlocked(link: Link, plan: Plan, source: RowSource) -> tuple[list[Removal], list[str]]:
    """Make the checks of a load without its locks, in a transaction (see check_load)."""
    _check_isolation(link)
    privileges, roles = run_checks(link, [], privileges_query(plan), OTHER_ROLES)
    check_privileges(privileges, plan)
    checked = check_load(link, plan, source, privileges, roles)
    refuse_unsupported(link.together([unsupported_query(plan)])[0])
    return checked


def check_load(
    link: Link, plan: Plan, source: RowSource, privileges: Rows, roles: Rows
) -> tuple[list[Removal], list[str]]:
    """Make the checks before the first change; return what becomes of existing rows, and notes.

    ``privileges`` and ``roles`` are the rows of privileges_query(plan) and OTHER_ROLES.
    """
    refuse_code_of_load(link, roles, plan)
    refuse_hidden_rows(plan.tables)
    published, *counts = run_checks(
        link, plan.checks, publications_query(plan.tables), *count_queries(plan)
    )
    if plan.existing is not Existing.ALL:
        source.check(link, plan)
    publications = Publications(published)
    removals = plan_removals(plan, counts, published=publications.tables)
    check_emptying(privileges, removals)
    publications.check_identities(removals)
    if plan.rebuild_indexes and any(removal.rebuild for removal in removals):
        refuse_dumps(link)
    if plan.existing is Existing.REPLACE:
        check_boundary(link, plan, removals)
    return removals, list(publications.notes(removals))


def refuse_code_of_load(link: Link, roles: Rows, plan: Plan) -> None:
    """Raise UserCodeError if a load would run code of roles that may not act as this one."""
    if not plan.as_superuser:
        refuse_user_code(
            link, roles, written=plan.tables, read=plan.tables_read, columns=plan.columns
        )


def expected_rows(plan: Plan, table: TableLoad, rows: Mapping[str, int]) -> int | None:
    """Return the number of rows that a table should receive, None if that is unknown.

    ``rows`` are those received so far. Raises SchemaError for a table that the load may not fill.
    """
    key = table.table.key
    if key in rows or table.table not in plan.tables:
        again = " a second time" if key in rows else ""
        raise SchemaError(f"rows came for table {key}{again}, which this load may not fill")
    return plan.counts.get(key, 0) if plan.counts is not None else None


def copy_table(
    link: Link, table: TableLoad, expected: int | None, report: Report, *, freeze: bool
) -> int:
    """COPY one table's rows and return their number; LoadError if another was expected."""
    key = table.table.key
    report(Event(key, 0, expected))
    with named_row(table):
        rows = link.copy_in(
            table.table.identifier, table.columns, table.blocks, table.copy_format, freeze=freeze
        )
    if expected is not None and rows != expected:
        raise LoadError(f"{key}: expected {expected:,} rows, received {rows:,}")
    report(Event(key, rows, rows))
    return rows


@contextmanager
def named_row(table: TableLoad) -> Iterator[None]:
    """Name dataset, table, row and column first in the error of a row that the server refuses.

    Not for a snapshot's rows: their errors have the server's own words for the place.
    """
    try:
        yield
    except ServerRefusedError as error:
        place = row_place(error.context or "")
        if not place or not table.origin:
            raise
        where = f"{table.origin}: {table.table.key}, {place}"
        raise ServerRefusedError(
            f"{where}: {error.server_message}",
            sqlstate=error.sqlstate,
            detail=error.detail,
            constraint=error.constraint,
        ) from error.__cause__


def check_complete(plan: Plan, rows: Mapping[str, int]) -> None:
    """Raise LoadError if a table that should have rows received none."""
    expected = {key for key, count in (plan.counts or {}).items() if count}
    if missing := sorted(expected - rows.keys()):
        raise LoadError(f"no rows were received for {join_first(missing)}")


def _copy_tables(
    link: Link, plan: Plan, removals: Collection[Removal], source: RowSource, report: Report
) -> dict[str, int]:
    # FREEZE requires that this transaction truncated the table and has no older snapshot.
    freeze = {
        removal.table.oid
        for removal in removals
        if removal.truncate and not link.joined and not removal.table.partitioned
    }
    rows: dict[str, int] = {}
    for table in source.tables(plan.catalog):
        expected = expected_rows(plan, table, rows)
        rows[table.table.key] = copy_table(
            link, table, expected, report, freeze=table.table.oid in freeze
        )
    return rows


def _strategy(plan: Plan, removals: Iterable[Removal]) -> Strategy:
    if plan.existing is Existing.KEEP:
        return Strategy.ADDED
    beside = any(removal.staying for removal in removals)
    return Strategy.BESIDE if beside else Strategy.WHOLE_TABLES


def _check_isolation(link: Link) -> None:
    """Raise RefusedError in a caller's transaction that does not see what others commit."""
    if link.joined and (level := link.value("SHOW transaction_isolation")) != "read committed":
        raise RefusedError(
            f"refused, nothing was touched: the transaction is {level}, so rows that others "
            "commit meanwhile would be removed unseen",
            remedy="Use a transaction that is read committed",
        )


@contextmanager
def explain_rollback() -> Iterator[None]:
    """Raise RowsRefusedError, which says that all was rolled back, for any ServerRefusedError."""
    try:
        yield
    except ServerRefusedError as error:
        raise RowsRefusedError(
            error.server_message,
            sqlstate=error.sqlstate,
            detail=error.detail,
            constraint=error.constraint,
            context=error.context,
        ) from error.__cause__


@contextmanager
def explain_duplicate_key(link: Link, plan: Plan, source: RowSource) -> Iterator[None]:
    """Raise BoundaryError if a loaded row has the key of a row that is kept.

    Where no row is kept, raise LoadError, since two loaded rows have it.
    """
    try:
        yield
    except ServerRefusedError as error:
        if error.sqlstate not in _DUPLICATE_KEY:
            raise
        if not rows_stay(plan):
            raise LoadError(
                f"two of the rows to be loaded have the same key (constraint {error.constraint}: "
                f"{error.detail}); everything was rolled back",
            ) from error
        shared: list[str] = []
        with suppress(PerfdataError), link.transaction():
            shared = shared_keys(link, plan, source)
        raise BoundaryError(
            "refused, everything was rolled back: a loaded row has the same key as an existing "
            f"row that is kept (constraint {error.constraint}: {error.detail})"
            f"{': ' if shared else ''}{'; '.join(shared)}",
            remedy=start_elsewhere(plan),
        ) from error

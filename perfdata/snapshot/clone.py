"""Clones of the target to build in: a scratch database, and one that replaces the target."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from perfdata.errors import (
    BoundaryError,
    NoClonesError,
    PrivilegesError,
    RefusedError,
    ServerRefusedError,
)
from perfdata.load.loader import check_unlocked
from perfdata.load.plan import Existing
from perfdata.load.private import load_private
from perfdata.load.privileges import check_emptying, privileges_query
from perfdata.load.removals import plan_removals
from perfdata.postgres.connection import open_link
from perfdata.postgres.locks import explain_lock_timeout, lock_timeout
from perfdata.snapshot.checks.losses import refuse_crossing
from perfdata.snapshot.checks.ownership import filled_tables
from perfdata.snapshot.create import create
from perfdata.snapshot.options import RestoreOptions
from perfdata.snapshot.prepare import plan_restore
from perfdata.snapshot.template import (
    INSUFFICIENT_PRIVILEGE,
    VERSION,
    check_clone_space,
    connect_target,
    fingerprint_for,
    open_clone,
    refuse_obstacle,
    refuse_pooler,
    request_template,
    working_clone,
)
from perfdata.target.guard import check_guard
from perfdata.templates.databases import (
    drop_database,
    list_databases,
    lock_number,
    refuse_connections,
    unfinished_databases,
)
from perfdata.templates.swap import (
    close_work,
    refuse_changes,
    refuse_users,
    remove_superfluous,
    rows_written,
    swap,
    swap_clone,
)
from perfdata.templates.template import find_template, seal_template
from perfdata.text import join_first

if TYPE_CHECKING:
    from collections.abc import Iterator

    from perfdata.config import Settings
    from perfdata.load.plan import Loaded, Plan, RowSource
    from perfdata.load.ranges.distribution import Workers
    from perfdata.postgres.link import Link
    from perfdata.progress import Report
    from perfdata.snapshot.options import CreateOptions
    from perfdata.snapshot.store import Snapshot
    from perfdata.templates.databases import TargetDatabase


@contextmanager
def scratch_clone(
    conninfo: str, settings: Settings, report: Report, *, terminate: bool
) -> Iterator[Link]:
    """Clone a database and connect to the clone, which is dropped at the end.

    Raises GuardError, NoClonesError if the role can't make clones, and RefusedError, which names
    them, if sessions are open in the database and ``terminate`` does not end them.
    """
    with connect_target(conninfo, settings, report, terminate=terminate) as target:
        refuse_obstacle(target)
        with open_link(conninfo) as link:
            check_guard(link, settings)
            refuse_pooler(link, target)
            search_path = link.session_path()
        _make_room(target)
        with working_clone(target) as work:
            with open_clone(target, work, conninfo, search_path) as private:
                yield private.link
            drop_database(target.link, work, force=True)


def _make_room(target: TargetDatabase) -> None:
    """Drop what killed processes left, and check that the disk has space for a clone."""
    for database in unfinished_databases(target.link, lock_number(target.name)):
        drop_database(target.link, database, force=True)
    source = next(one for one in list_databases(target.link) if one.oid == target.oid)
    check_clone_space(target, source)


@contextmanager
def replaceable_target(
    conninfo: str, settings: Settings, report: Report
) -> Iterator[TargetDatabase]:
    """Connect to the server of a target that nobody uses, and that a clone may replace.

    Raises NoClonesError if somebody is connected to the target, if this role can't replace it, or
    if the disk lacks space for its clone.
    """
    with connect_target(conninfo, settings, report) as target:
        refuse_obstacle(target)
        refuse_users(target)
        with _explain_refusal():
            _make_room(target)
        yield target


def count_written(target: TargetDatabase) -> int:
    """Return the rows ever written in a target; raise NoClonesError if that is not certain."""
    seen = rows_written(target.link, target.oid)
    if seen is None:
        raise NoClonesError(
            f"what others write in {target.name} meanwhile would not be noticed: that takes "
            "PostgreSQL 15, and track_counts"
        )
    return seen


@contextmanager
def _explain_refusal() -> Iterator[None]:
    """Turn a RefusedError, for open sessions or a full disk, into a NoClonesError."""
    try:
        yield
    except RefusedError as error:
        raise NoClonesError(error.reason.removeprefix("refused, nothing was touched: ")) from error


@dataclass(frozen=True)
class CloneRequest:
    """The clone that is to replace a target, determined before anything is changed.

    Attributes:
        plan: how it is filled.
        search_path: the search path of the target's sessions.
        seen: rows ever written in the target before it was examined (see swap.rows_written).
    """

    plan: Plan
    search_path: str
    seen: int


def plan_clone(
    link: Link, target: TargetDatabase, plan: Plan, source: RowSource, seen: int
) -> CloneRequest:
    """Check that a clone which ``plan`` fills may replace the target.

    Nothing may be in the target that would not be in the clone. Raises NoClonesError, and what the
    load in the target would raise before its first change.
    """
    refuse_pooler(link, target)
    timeout_s = plan.lock_timeout_s
    with explain_lock_timeout(link, timeout_s), link.transaction(lock_timeout(timeout_s)):
        removals, _ = check_unlocked(link, plan, source)
        staying = [f"{one.table.key}: {one.staying:,}" for one in removals if one.staying]
        if staying:
            raise NoClonesError(
                f"{target.name} has rows that are not test data ({join_first(staying)})"
            )
        plan = replace(plan, existing=Existing.ALL)
        try:
            refuse_crossing(link, plan)
            (privileges,) = link.together([privileges_query(plan)])
            check_emptying(privileges, plan_removals(plan, ()))
        except (BoundaryError, PrivilegesError) as error:
            raise NoClonesError(error.reason) from error
    return CloneRequest(plan, link.session_path(), seen)


def load_clone(
    target: TargetDatabase,
    conninfo: str,
    request: CloneRequest,
    source: RowSource,
    save: CreateOptions | None,
    settings: Settings,
    report: Report,
    workers: Workers | None = None,
) -> tuple[Loaded, Snapshot | None, str]:
    """Load rows into a clone of the target, save them if asked to, and have it replace the target.

    ``workers`` load what of the rows is divided. A clone that was saved becomes the template of its
    snapshot, and a clone of that replaces the target. Returns also what replaced it. Raises
    NoClonesError if somebody uses the target or has written to it.
    """
    saved, key, plan = None, None, request.plan
    # After an error the clone is dropped first, which ends the executor's work in it.
    with ThreadPoolExecutor(1) as executor, ExitStack() as stack:
        with _explain_refusal():
            work = stack.enter_context(working_clone(target))
        with open_clone(target, work, conninfo, request.search_path) as private:
            refuse_changes(target, request.seen)
            distribution = workers.open(private) if workers else None
            loaded = load_private(private, plan, source, executor, report, distribution)
            if distribution is not None:
                refuse_connections(target.link, work)
                distribution.done.drop()
            if save is not None:
                saved = create(private.link, replace(save, expected=loaded.rows), settings, report)
                key = _template_key(private.link, target, saved, save, settings)
        loads, filled = loaded.transactions, filled_tables(plan, loaded.rows)
        found = find_template(target.link, key) if key else None
        coming = 1 if key and found is None else 0
        notes = list(remove_superfluous(target, found, coming=coming))
        with _explain_refusal():
            if saved is None or key is None:
                work = close_work(target, work, loads, filled)
                replaced = swap(target, work, work, request.seen, changes=False)
            else:
                if found is not None:  # of an earlier build of the same rows
                    drop_database(target.link, work, force=True)
                digest = saved.manifest.body.sha256
                template = found or seal_template(
                    target, work, key, digest, loads=loads, filled=filled
                )
                replaced = swap_clone(target, template, request.seen, changes=False)
        notes.append(f"the replaced database is kept as {replaced.name} until db.gc")
    what = "a new template and its clone" if key else "a clone"
    if found is not None:
        what = "a clone of its template"
    return replace(loaded, notes=(*loaded.notes, *notes)), saved, what


def _template_key(
    link: Link, target: TargetDatabase, saved: Snapshot, save: CreateOptions, settings: Settings
) -> str | None:
    """Return the key of the template that a database is for the snapshot that was saved from it.

    It is the one that ``restore_fresh`` computes once a clone of the database is the target. None
    if this role can't tell, as it may not read every table or run the code in it.
    """
    try:
        return _request_key(link, target, saved, save, settings)
    except RefusedError:
        return None
    except ServerRefusedError as error:
        if error.sqlstate != INSUFFICIENT_PRIVILEGE:
            raise
        return None


def _request_key(
    link: Link, target: TargetDatabase, saved: Snapshot, save: CreateOptions, settings: Settings
) -> str:
    manifest = saved.open().manifest
    options = RestoreOptions(fresh=True, as_superuser=save.as_superuser)
    plan = plan_restore(link, manifest, settings, options, private=True)
    fingerprint = fingerprint_for(link, plan)
    request = request_template(
        link, plan, manifest, fingerprint, database=target.name, version=VERSION, seen=None
    )
    return request.key

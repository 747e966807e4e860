"""Restore into a fresh database: the clone of a template replaces the target.

The template is a clone of the target, emptied and loaded with the snapshot, since a snapshot holds
no definitions. Its key is a hash of everything that decides what is in it, so that the next restore
of the same snapshot only clones and swaps. The target is replaced when its clone is ready, and is
kept.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from psycopg.conninfo import make_conninfo

from perfdata.errors import NoClonesError, RefusedError, ServerRefusedError
from perfdata.postgres.connection import open_link
from perfdata.postgres.link import run_checks
from perfdata.postgres.locks import consistent_read, explain_lock_timeout, lock_timeout
from perfdata.postgres.sessions import refuse_sessions
from perfdata.snapshot.checks.losses import (
    lost_words,
    refuse_crossing,
    refuse_losses,
    rows_lost_by_fresh,
)
from perfdata.snapshot.checks.requirements import refuse_dangling_references
from perfdata.snapshot.in_place import log_restore
from perfdata.snapshot.options import Restored
from perfdata.snapshot.prepare import application_name
from perfdata.snapshot.template import (
    INSUFFICIENT_PRIVILEGE,
    VERSION,
    TemplateRequest,
    check_clone_space,
    check_template_space,
    connect_target,
    fingerprint_for,
    make_template,
    plan_template,
    refuse_obstacle,
    refuse_pooler,
    request_template,
)
from perfdata.target.guard import allowed_by_name
from perfdata.templates.databases import (
    TargetDatabase,
    drop_database,
    lock_number,
    unfinished_databases,
)
from perfdata.templates.swap import (
    remove_superfluous,
    rows_written,
    swap_clone,
)
from perfdata.templates.template import find_template
from perfdata.text import join_first

if TYPE_CHECKING:
    from collections.abc import Iterator

    from perfdata.config import Settings
    from perfdata.load.plan import Plan
    from perfdata.postgres.link import Link
    from perfdata.progress import Report
    from perfdata.snapshot.format.manifest import Manifest
    from perfdata.snapshot.format.reader import SnapshotFile
    from perfdata.snapshot.options import RestoreOptions
    from perfdata.snapshot.store import Snapshot
    from perfdata.templates.databases import Database


# Without temporary tables, which only their own session sees.
_ROWS_WRITTEN = """
SELECT coalesce(sum(n_tup_ins + n_tup_upd + n_tup_del), 0)::bigint FROM pg_stat_all_tables
WHERE schemaname !~ '^pg_(toast|temp_|catalog$)' OR relid = 'pg_catalog.pg_largeobject'::regclass"""


def restore_fresh(
    conninfo: str, snapshot: Snapshot, settings: Settings, options: RestoreOptions, report: Report
) -> Restored:
    """Replace a whole database with one that has a snapshot's rows (see restore_snapshot).

    Raises NoClonesError if this role can't; nothing was changed then.
    """
    began = time.perf_counter()
    conninfo = make_conninfo(conninfo, application_name=application_name(snapshot.name))
    file = snapshot.open()
    manifest = file.manifest
    with connect_target(conninfo, settings, report, terminate=options.terminate) as target:
        refuse_obstacle(target)
        for database in unfinished_databases(target.link, lock_number(target.name)):
            drop_database(target.link, database, force=True)
        with open_link(conninfo) as link:
            request, lost = _examine(link, target, file, settings, options)
        template = find_template(target.link, request.key)
        if template is None:
            check_template_space(target, request, manifest)
        else:
            check_clone_space(target, template)
        coming = 0 if template else 1
        notes = [*request.plan.notes, *remove_superfluous(target, template, coming=coming)]
        strategy = "a clone of its template"
        if template is None:
            strategy = "a new template and its clone"
            template, made_notes = make_template(target, conninfo, request, file, report)
            notes += [note for note in made_notes if note not in notes]
        replaced = swap_clone(target, template, request.seen, lost=join_first(lost))
        notes += _kept_notes(target.name, replaced, lost, manifest)
        notes += log_restore(target.link, manifest, strategy, target.name)
    duration_s = time.perf_counter() - began
    return Restored(snapshot.name, dict(manifest.stats), strategy, duration_s, tuple(notes))


@contextmanager
def explain_no_clones(obstacle: NoClonesError | None) -> Iterator[None]:
    """Say why ``fresh`` was not possible where a restore in place is refused for want of it."""
    try:
        yield
    except RefusedError as error:
        if obstacle is None or not error.fresh_helps:
            raise
        raise RefusedError(
            f"{error.reason}. A restore with fresh=True is not possible: {obstacle.reason}",
            remedy=obstacle.remedy,
        ) from error


def preview_fresh(
    conninfo: str, file: SnapshotFile, settings: Settings, options: RestoreOptions, report: Report
) -> tuple[Plan, list[str]]:
    """Make the checks that precede the first change of a fresh restore.

    Returns its plan, and the rows that would be lost. Raises NoClonesError if this role can't.
    """
    file.check()
    with connect_target(conninfo, settings, report, terminate=options.terminate) as target:
        refuse_obstacle(target)
        if not options.terminate:
            refuse_sessions(target.link, target.oid, target.name)
        with open_link(conninfo) as link:
            request, lost = _examine(link, target, file, settings, options)
        if find_template(target.link, request.key) is None:
            check_template_space(target, request, file.manifest)
    return request.plan, lost


def _examine(
    link: Link,
    target: TargetDatabase,
    file: SnapshotFile,
    settings: Settings,
    options: RestoreOptions,
) -> tuple[TemplateRequest, list[str]]:
    """Make every check of the target; return the template to use, and the rows to be lost."""
    refuse_pooler(link, target)
    manifest = file.manifest
    plan = plan_template(link, manifest, settings, options)
    before, rows_before = rows_written(link, target.oid), link.value(_ROWS_WRITTEN)
    # Whole tables are compared by way of a temporary table, which a read-only transaction can't
    # create.
    timeout_s = options.lock_timeout_s
    with explain_lock_timeout(link, timeout_s), link.transaction(lock_timeout(timeout_s)):
        lost = rows_lost_by_fresh(link, plan, file)
        if lost and not (plan.owned or allowed_by_name(link, settings)):
            refuse_losses(link, lost, manifest)
    with consistent_read(link, timeout_s):
        refuse_dangling_references(plan, manifest)
        refuse_crossing(link, plan)
        run_checks(link, plan.checks)
        try:
            fingerprint = fingerprint_for(link, plan)
        except ServerRefusedError as error:
            if error.sqlstate != INSUFFICIENT_PRIVILEGE:
                raise
            raise NoClonesError(
                f"not all of {target.name} can be read: {error.server_message}"
            ) from error
    seen = _count_written(link, target.oid, before, rows_before)
    request = request_template(
        link, plan, manifest, fingerprint, database=target.name, version=VERSION, seen=seen
    )
    return request, lost


def _count_written(link: Link, oid: int, before: int | None, rows_before: int) -> int | None:
    """Count the rows written so far; None if that is uncertain, or if others wrote meanwhile.

    The examination itself writes to the catalog when it creates temporary tables. Rows that others
    wrote are in their tables' counts by the time these are read, so these come last.
    """
    if before is None:
        return None
    # Without this, the session's own writes are counted only when it ends.
    link.rows("SELECT pg_stat_force_next_flush()")
    now = rows_written(link, oid)
    if now == before or link.value(_ROWS_WRITTEN) == rows_before:
        return now
    return None


def _kept_notes(name: str, replaced: Database, lost: list[str], manifest: Manifest) -> list[str]:
    """Say where a replaced database is kept, and why."""
    kept, changed = replaced.name, replaced.mark is not None and replaced.mark.changed
    until = "db.gc --lost-rows" if lost or changed else "db.gc"
    notes = [f"the replaced database is kept as {kept} until {until}"]
    if lost:
        rows = lost_words(manifest)
        notes.append(f"{name} had {rows}, which only {kept} has now: {join_first(lost)}")
    elif changed:
        notes.append(f"{name} may have been written to meanwhile: only {kept} has such rows")
    return notes

"""Restore into a fresh database: the clone of a template takes the place of the target.

The template is a clone of the target, emptied and loaded with the snapshot, since a snapshot holds
no definitions. It is found again by a key of everything that decides what is in it, so that the
next restore of the same is a clone and a swap. Nothing is dropped before its replacement is ready,
and what was replaced is kept.
"""

from __future__ import annotations

import time
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from psycopg.conninfo import make_conninfo

from perfdata.errors import ConnectError, NoClonesError, ServerRefusedError
from perfdata.load.plan import Existing
from perfdata.postgres.connection import database_name, open_link
from perfdata.postgres.link import run_checks
from perfdata.postgres.locks import explain_lock_timeout, lock_timeout
from perfdata.postgres.sessions import refuse_sessions
from perfdata.snapshot.in_place import log_restore
from perfdata.snapshot.losses import (
    losses,
    lost_words,
    refuse_crossing,
    refuse_losses,
    refuse_requirements,
)
from perfdata.snapshot.options import Restored
from perfdata.snapshot.prepare import application_name, prepare
from perfdata.snapshot.template import (
    TemplateRequest,
    check_clone_space,
    check_template_space,
    fingerprint_for,
    make_template,
    request_template,
)
from perfdata.target.guard import allowed_by_name
from perfdata.templates.databases import (
    TargetDatabase,
    drop_database,
    find_target,
    is_target,
    list_databases,
    lock_number,
    lock_target,
    maintenance_link,
    unfinished_databases,
)
from perfdata.templates.swap import obstacle, rows_written, swap
from perfdata.templates.template import clone, find_template, replaced_databases, unused_templates
from perfdata.text import first

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

# Part of every key: templates that were loaded in another way are not found.
_WAY = 6
_NOT_ALLOWED = "42501"

_TARGET = """
SELECT oid::bigint, datname, current_user FROM pg_database WHERE datname = current_database()"""

# A temporary table is only its session's.
_ROWS_WRITTEN = """
SELECT coalesce(sum(n_tup_ins + n_tup_upd + n_tup_del), 0)::bigint FROM pg_stat_all_tables
WHERE schemaname !~ '^pg_(toast|temp_|catalog$)' OR relid = 'pg_catalog.pg_largeobject'::regclass"""
_FLUSH = "SELECT pg_stat_force_next_flush()"


def restore_fresh(
    conninfo: str, snapshot: Snapshot, settings: Settings, options: RestoreOptions, report: Report
) -> Restored:
    """Replace a whole database by one with a snapshot's rows in it (see restore_snapshot).

    Raises NoClonesError where this role can't, with everything as it was.
    """
    began = time.perf_counter()
    conninfo = make_conninfo(conninfo, application_name=application_name(snapshot.name))
    file = snapshot.open()
    manifest = file.manifest
    with hold_target(conninfo, settings, options, report) as target:
        refuse_obstacle(target)
        for database in unfinished_databases(target.link, lock_number(target.name)):
            drop_database(target.link, database, force=True)
        with open_link(conninfo) as link:
            request, lost = examine(link, target, file, settings, options)
        template = find_template(target.link, request.key)
        notes = [*request.plan.notes, *_remove_older(target, template)]
        strategy = "a clone of its template"
        if template is None:
            strategy = "a new template and its clone"
            template, made_notes = make_template(target, conninfo, request, file, report)
            notes += [note for note in made_notes if note not in notes]
        else:
            check_clone_space(target, template)
        new = clone(target, template)
        try:
            before, changed = swap(target, new, template, request.seen, lost=first(lost))
        except BaseException:
            drop_database(target.link, new, force=True)
            raise
        notes += _kept(target.name, before, lost, manifest, changed=changed)
        notes += log_restore(target.link, manifest, strategy, target.name)
    duration_s = time.perf_counter() - began
    return Restored(snapshot.name, dict(manifest.stats), strategy, duration_s, tuple(notes))


def preview_fresh(
    conninfo: str, file: SnapshotFile, settings: Settings, options: RestoreOptions, report: Report
) -> tuple[Plan, list[str]]:
    """Make the checks that a fresh restore makes before it does anything.

    Returns its plan, and the rows that would be lost. Raises NoClonesError where this role can't.
    """
    file.check()
    with hold_target(conninfo, settings, options, report) as target:
        refuse_obstacle(target)
        if not options.terminate:
            refuse_sessions(target.link, target.oid, target.name)
        with open_link(conninfo) as link:
            request, lost = examine(link, target, file, settings, options)
        if find_template(target.link, request.key) is None:
            check_template_space(target, request, file.manifest)
    return request.plan, lost


@contextmanager
def hold_target(
    conninfo: str, settings: Settings, options: RestoreOptions, report: Report
) -> Iterator[TargetDatabase]:
    """Keep other restores like this from the target; nothing is open in it meanwhile."""
    name = database_name(conninfo)
    with ExitStack() as stack:
        try:
            link, there = stack.enter_context(maintenance_link(conninfo))
        except ConnectError as error:
            raise NoClonesError(str(error)) from error
        lock_target(link, name, report)
        yield find_target(link, there, name, settings, terminate=options.terminate)


def refuse_obstacle(target: TargetDatabase) -> None:
    """Raise NoClonesError where this role can't replace the target."""
    if reason := obstacle(target):
        raise NoClonesError(reason)


def examine(
    link: Link,
    target: TargetDatabase,
    file: SnapshotFile,
    settings: Settings,
    options: RestoreOptions,
) -> tuple[TemplateRequest, list[str]]:
    """Make every check of the target; return which template it takes, and rows that it loses."""
    if not is_target(link, target):
        raise NoClonesError(f"{target.name} is reached by way of a pooler, which names another so")
    manifest = file.manifest
    plan = prepare(link, manifest, settings, options)
    plan = replace(plan, existing=Existing.ALL, sealed=True)
    oid, name, role = link.rows(_TARGET)[0]
    before, rows_before = rows_written(link, oid), link.value(_ROWS_WRITTEN)
    # Tables that were taken whole are compared in a temporary one, which no reader may make.
    timeout_s = options.lock_timeout_s
    with explain_lock_timeout(link, timeout_s), link.transaction(lock_timeout(timeout_s)):
        lost = losses(link, plan, file)
        if lost and not (plan.owned or allowed_by_name(link, settings)):
            refuse_losses(link, lost, manifest)
    with (
        explain_lock_timeout(link, timeout_s),
        link.transaction(lock_timeout(timeout_s), reading=True),
    ):
        refuse_requirements(plan, manifest)
        refuse_crossing(link, plan)
        run_checks(link, plan.checks)
        try:
            fingerprint = fingerprint_for(link, plan)
        except ServerRefusedError as error:
            if error.sqlstate != _NOT_ALLOWED:
                raise
            raise NoClonesError(f"not all of {name} can be read: {error.server_message}") from error
    seen = _seen(link, oid, before, rows_before)
    request = request_template(
        link, plan, manifest, fingerprint, database=name, role=role, way=_WAY, seen=seen
    )
    return request, lost


def _seen(link: Link, oid: int, before: int | None, rows_before: int) -> int | None:
    """Count what was written up to now; None where that is unsure, or others wrote meanwhile.

    The look itself writes to the catalog where it makes temporary tables. What is counted of others
    is in their tables' counts too by the time that these are read, which is why they come last.
    """
    if before is None:
        return None
    link.rows(_FLUSH)  # what this session wrote, which else is counted when it ends
    now = rows_written(link, oid)
    if now == before or link.value(_ROWS_WRITTEN) == rows_before:
        return now
    return None


def _kept(
    name: str, before: str, lost: list[str], manifest: Manifest, *, changed: bool
) -> list[str]:
    until = "db.gc --lost-rows" if lost or changed else "db.gc"
    notes = [f"what was replaced is kept as {before} until {until}"]
    if lost:
        notes.append(
            f"{name} had {lost_words(manifest)}, which are now in {before} alone: {first(lost)}"
        )
    elif changed:
        notes.append(f"{name} may have been written to meanwhile: such rows are in {before} alone")
    return notes


def _remove_older(target: TargetDatabase, template: Database | None) -> Iterator[str]:
    """Remove older databases of this target that hold nothing of use; yield what to say of it.

    ``template`` is in use; None: one is about to be made. Of what was replaced each first one
    stays, which holds what may be nowhere else (see swap): only a collection removes it.
    """
    found = list_databases(target.link)
    older = [
        one for one in replaced_databases(found, target.name) if one.mark and not one.mark.first
    ]
    templates = unused_templates(found, target.name, coming=int(template is None))
    older += [one for one in templates if template is None or one.oid != template.oid]
    removed: list[str] = []
    for database in older:
        try:
            drop_database(target.link, database, force=False)
        except ServerRefusedError as error:
            yield f"{database.name} is left for db.gc: {error.server_message}"
        else:
            removed.append(database.name)
    if removed:
        yield f"removed, as nothing in them is lost: {', '.join(removed)}"

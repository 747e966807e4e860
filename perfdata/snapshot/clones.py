"""Clones of a dataset for perf tests: templates that are made once, and a clone for each test.

A template is a clone of the target, emptied, loaded with a snapshot in one way, frozen and wholly
analysed. It is found again by a key of all that decides what is in it, so that a later run makes
nothing but clones. The target is not written, and rows beside in it do not matter.
"""

from __future__ import annotations

import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from perfdata.errors import ConnectError, NoClonesError, RefusedError, ServerRefusedError
from perfdata.load.maintenance import settle
from perfdata.load.plan import Existing
from perfdata.postgres.connection import database_name, open_link
from perfdata.postgres.link import run_checks
from perfdata.snapshot.build import build
from perfdata.snapshot.losses import refuse_crossing, refuse_requirements
from perfdata.snapshot.options import RestoreOptions
from perfdata.snapshot.prepare import prepare
from perfdata.snapshot.provide import REBUILDABLE, Current, decide, rebuild
from perfdata.snapshot.template import (
    TemplateRequest,
    fingerprint_for,
    make_template,
    request_template,
)
from perfdata.target.guard import check_guard
from perfdata.templates.clone import begin_run, make_clone, orphaned_clones
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
    unlock,
    write_mark,
)
from perfdata.templates.marks import Kind
from perfdata.templates.properties import read_properties
from perfdata.templates.swap import obstacle, rows_written
from perfdata.templates.template import find_template, unused_templates

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from perfdata.postgres.link import Link
    from perfdata.progress import Report
    from perfdata.snapshot.format.manifest import Manifest
    from perfdata.snapshot.format.reader import SnapshotFile
    from perfdata.snapshot.options import Built
    from perfdata.snapshot.store import Snapshot
    from perfdata.target.target import Target
    from perfdata.templates.databases import Database

# Part of every key: templates that were made in another way are not found.
_WAY = ("perf", 2)
_LIBRARY = "auto_explain"
_PRELOAD = "session_preload_libraries"


@dataclass(frozen=True)
class Sealed:
    """A template, and how it came to be: what was built and why, what was restored in what time.

    ``rows`` None: it was there already.
    """

    template: Database
    built: Built | None
    reason: str
    rows: int | None
    duration_s: float


class Clones:
    """Makes the clones of one process, and drops them; leaving ends what is left of them.

    Raises NoClonesError on entering where the role can't, and GuardError.
    """

    def __init__(self, target: Target, settings: Mapping[str, str], report: Report) -> None:
        """Take the database that is cloned, and what its clones are set to."""
        self._target = target
        self._settings = settings
        self._report = report
        self._stack = ExitStack()
        self._made: dict[str, Database] = {}

    def __enter__(self) -> Self:
        """Begin a run, and remove what killed ones have left."""
        try:
            self._database = self._enter()
            self._run = begin_run(self._database.link)
            self._settings = _with_library(self._database, self._settings)
            left = orphaned_clones(self._database.link, lock_number(self._database.name), self._run)
            _remove(self._database.link, left, force=True)
        except BaseException:
            self._stack.close()
            raise
        return self

    def _enter(self) -> TargetDatabase:
        conninfo, settings = self._target.conninfo, self._target.settings
        name = database_name(conninfo)
        with open_link(conninfo) as target:
            check_guard(target, settings)
            try:
                link, there = self._stack.enter_context(maintenance_link(conninfo))
            except ConnectError as error:
                raise NoClonesError(str(error)) from error
            database = find_target(link, there, name, settings)
            if not is_target(target, database):
                raise NoClonesError(f"{name} is reached by way of a pooler, which names another so")
        if reason := obstacle(database):
            raise NoClonesError(reason)
        return database

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Drop the clones that are left, and end the run."""
        with self._stack:
            for name in list(self._made):
                self.drop(name)

    def make(self, template: Database) -> str:
        """Make a clone, and return its conninfo."""
        from psycopg.conninfo import make_conninfo

        made = make_clone(self._database, template, self._run, self._settings)
        conninfo = make_conninfo(self._target.conninfo, dbname=made.name)
        self._made[conninfo] = made
        return conninfo

    def drop(self, conninfo: str) -> None:
        """Drop a clone by its conninfo; whoever is still in it is ended."""
        drop_database(self._database.link, self._made.pop(conninfo), force=True)

    def template(self, name: str) -> Sealed:
        """Return the template of a dataset or a snapshot; it is made where there is none.

        A dataset's snapshot that is missing or stale is built first, as provide_dataset does it.
        Raises NoClonesError, and what a restore raises.
        """
        options, target = RestoreOptions(), self._target
        decision = decide(target, name, options, may_build=True)
        if isinstance(decision, Current):
            try:
                return self._sealed(decision.snapshot)
            except REBUILDABLE as error:
                decision = rebuild(target, name, error, may_build=True)
        built = build(target, name, options, self._report)
        if built.snapshot is None:
            raise NoClonesError(f"{name} was built and not saved")
        return replace(self._sealed(built.snapshot), built=built, reason=decision.reason)

    def _sealed(self, snapshot: Snapshot) -> Sealed:
        began = time.perf_counter()
        database, file = self._database, snapshot.open()
        lock_target(database.link, database.name, self._report)
        try:
            for left in unfinished_databases(database.link, lock_number(database.name)):
                drop_database(database.link, left, force=True)
            seen = rows_written(database.link, database.oid)
            with open_link(self._target.conninfo) as link:
                request = self._examine(link, file.manifest, seen)
            found, rows = find_template(database.link, request.key, Kind.PERF), None
            if found is not None:
                self._use(found)
            else:
                found, rows = self._make(request, file), file.manifest.rows
        finally:
            unlock(database.link, lock_number(database.name))
        return Sealed(found, None, "current", rows, time.perf_counter() - began)

    def _examine(self, link: Link, manifest: Manifest, seen: int | None) -> TemplateRequest:
        # Whatever rows the file has: they go into perfdata's own clone, not into the target.
        options = RestoreOptions(unflagged_rows=True)
        plan = prepare(link, manifest, self._target.settings, options)
        plan = replace(plan, existing=Existing.ALL, sealed=True)
        try:
            with link.transaction(reading=True):
                refuse_requirements(plan, manifest)
                refuse_crossing(link, plan)
                run_checks(link, plan.checks)
                fingerprint = fingerprint_for(link, plan)
        except (RefusedError, ServerRefusedError) as error:
            raise NoClonesError(str(error)) from error
        role = str(link.value("SELECT current_user"))
        name = self._database.name
        return request_template(
            link, plan, manifest, fingerprint, database=name, role=role, way=_WAY, seen=seen
        )

    def _make(self, request: TemplateRequest, file: SnapshotFile) -> Database:
        database, conninfo = self._database, self._target.conninfo
        old = unused_templates(list_databases(database.link), database.name, Kind.PERF, 1)
        _remove(database.link, old, force=False)
        found, _ = make_template(
            database, conninfo, request, file, self._report, kind=Kind.PERF, finish=settle
        )
        return found

    def _use(self, template: Database) -> None:
        if template.mark is not None:
            write_mark(
                self._database.link, template.name, "", replace(template.mark, used=time.time())
            )


def _remove(link: Link, superfluous: list[Database], *, force: bool) -> None:
    """Drop what is superfluous; what can't be dropped now stays for the next run, or db.gc."""
    for one in superfluous:
        with suppress(ServerRefusedError):
            drop_database(link, one, force=force)


def _with_library(database: TargetDatabase, settings: Mapping[str, str]) -> dict[str, str]:
    """Have auto_explain loaded into the clone's sessions, where the role may do that.

    Its settings are left out where it can't be, and those that this version does not know.
    """
    link = database.link
    others = {name: value for name, value in settings.items() if not _is_librarys(name)}
    if not link.value("SELECT current_setting('is_superuser') = 'on'"):
        return others
    try:
        link.execute("LOAD 'auto_explain'")
    except ServerRefusedError:  # a server without contrib
        return others
    known = {
        name
        for (name,) in link.rows(
            "SELECT name FROM pg_settings WHERE name LIKE %s", ("auto_explain.%",)
        )
    }
    own = {name: value for name, value in settings.items() if name in known}
    before = [
        one.partition("=")[2]
        for role, one in read_properties(link, database.oid).settings
        if role is None and one.startswith(f"{_PRELOAD}=")
    ]
    return {**others, **own, _PRELOAD: ", ".join([*before, _LIBRARY])}


def _is_librarys(name: str) -> bool:
    return name.startswith(f"{_LIBRARY}.")

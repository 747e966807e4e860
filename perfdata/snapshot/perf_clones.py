"""Clones of a dataset for perf tests: one template for many runs, and a clone for each test.

A template is a new database in which the project's migrations ran, or, where there is no project,
an emptied clone of the target. It is loaded with a snapshot, frozen and fully analysed. Its key is
a hash of everything that decides what is in it, so that later runs only make clones. The target is
not written to, unless a dataset whose snapshot is missing or stale can't be built in its clone.
"""

from __future__ import annotations

import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from perfdata.errors import (
    LoadError,
    NoClonesError,
    PerfdataError,
    RefusedError,
    ServerRefusedError,
)
from perfdata.load.maintenance import freeze_and_analyse
from perfdata.postgres.connection import open_link
from perfdata.postgres.link import run_checks
from perfdata.progress import Event
from perfdata.snapshot.build import build
from perfdata.snapshot.checks.losses import refuse_crossing
from perfdata.snapshot.checks.requirements import refuse_dangling_references
from perfdata.snapshot.options import RestoreOptions
from perfdata.snapshot.project_template import (
    check_project_space,
    lacks_something,
    make_project_template,
    request_project_template,
)
from perfdata.snapshot.provide import REBUILDABLE, Current, decide, rebuild_because
from perfdata.snapshot.template import (
    TemplateRequest,
    check_template_space,
    connect_target,
    fingerprint_for,
    make_template,
    plan_template,
    refuse_obstacle,
    refuse_pooler,
    request_template,
)
from perfdata.target.guard import check_guard
from perfdata.templates.databases import (
    TargetDatabase,
    drop_database,
    list_databases,
    lock_number,
    lock_target,
    unfinished_databases,
    unlock,
)
from perfdata.templates.marks import Kind
from perfdata.templates.properties import read_properties
from perfdata.templates.swap import rows_written
from perfdata.templates.template import (
    begin_run,
    make_clone,
    orphaned_clones,
    unused_templates,
    use_template,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from perfdata.postgres.link import Link
    from perfdata.progress import Report
    from perfdata.snapshot.format.manifest import Manifest
    from perfdata.snapshot.format.reader import SnapshotFile
    from perfdata.snapshot.options import Built
    from perfdata.snapshot.store import Snapshot
    from perfdata.target.target import Target
    from perfdata.templates.databases import Database

# The version of how templates are made, part of every key: older templates are not found.
_VERSION = ("perf", 2)
_LIBRARY = "auto_explain"
_PRELOAD = "session_preload_libraries"


@dataclass(frozen=True)
class PreparedTemplate:
    """A template, and what was built (for which reason) or loaded for it.

    ``rows`` is None if the template existed already.
    """

    template: Database
    built: Built | None
    reason: str
    rows: int | None
    duration_s: float


class Clones:
    """Makes and drops the clones of one process; a context that drops those left at its end.

    ``settings`` are the PostgreSQL settings of the clones. Entering raises GuardError, and
    NoClonesError if the role can't make clones.
    """

    def __init__(self, target: Target, settings: Mapping[str, str], report: Report) -> None:
        self._target = target
        self._settings = settings
        self._report = report
        self._stack = ExitStack()
        self._made: dict[str, Database] = {}

    def __enter__(self) -> Self:
        """Begin a run, and drop the clones of runs that were killed."""
        try:
            self._database = self._open()
            self._run = begin_run(self._database.link)
            self._settings = _with_library(self._database, self._settings)
            left = orphaned_clones(self._database.link, lock_number(self._database.name), self._run)
            _drop_if_possible(self._database.link, left, force=True)
        except BaseException:
            self._stack.close()
            raise
        return self

    def _open(self) -> TargetDatabase:
        conninfo, settings = self._target.conninfo, self._target.settings
        with open_link(conninfo) as link:
            check_guard(link, settings)
            database = self._stack.enter_context(connect_target(conninfo, settings))
            refuse_pooler(link, database)
        refuse_obstacle(database)
        return database

    def __exit__(self, *_: object) -> None:
        """Drop the remaining clones, and end the run."""
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
        """Drop a clone by its conninfo; sessions that are still open in it are ended."""
        drop_database(self._database.link, self._made.pop(conninfo), force=True)

    def template(self, name: str) -> PreparedTemplate:
        """Return the template of a dataset or snapshot; make it if there is none.

        A dataset's snapshot that is missing or stale is built first, as by provide_dataset. Raises
        NoClonesError, and what restore_snapshot raises.
        """
        options, target = RestoreOptions(), self._target
        decision = decide(target, name, options, may_build=True)
        if isinstance(decision, Current):
            try:
                return self._prepare(decision.snapshot)
            except REBUILDABLE as error:
                decision = rebuild_because(target, name, error, may_build=True)
        built = self._build(name)
        if built.snapshot is None:
            raise NoClonesError(f"{name} was built but not saved")
        return replace(self._prepare(built.snapshot), built=built, reason=decision.reason)

    def _build(self, name: str) -> Built:
        """Build a dataset aside, or in the target where its rows need what the clone lacks."""
        try:
            return build(self._target, name, RestoreOptions(fresh=True), self._report)
        except (RefusedError, LoadError) as error:  # open sessions; rows that stay are referenced
            where = self._database.name
            self._report(Event(f"building {name} in {where}, not in its clone: {error.reason}"))
            return build(self._target, name, RestoreOptions(), self._report)

    def _prepare(self, snapshot: Snapshot) -> PreparedTemplate:
        began = time.perf_counter()
        database, file = self._database, snapshot.open()
        lock_target(database.link, database.name, self._report)
        try:
            for left in unfinished_databases(database.link, lock_number(database.name)):
                drop_database(database.link, left, force=True)
            template, made = self._project_template(file) or self._cloned_template(file)
        finally:
            unlock(database.link, lock_number(database.name))
        rows = file.manifest.rows if made else None
        return PreparedTemplate(template, None, "current", rows, time.perf_counter() - began)

    def _project_template(self, file: SnapshotFile) -> tuple[Database, bool] | None:
        """Find or make the template that the project makes; tell whether it is new.

        None if there is none: the project makes no tables, or something does not work in a new
        database (a migration that creates a role; rows of a table that somebody else fills).
        """
        request = request_project_template(self._target, self._database, file.manifest)
        if request is None:
            return None
        if template := use_template(self._database.link, request.key, Kind.PERF):
            return template, False
        self._make_room()
        check_project_space(self._database, file.manifest)
        try:
            return make_project_template(
                self._target, self._database, request, file, self._report
            ), True
        except PerfdataError as error:
            if not lacks_something(error):
                raise
            what = f"the template of {file.manifest.name} is a clone of {self._database.name}"
            why = f"project {request.project.name} can't make it: {error.reason}"
            self._report(Event(f"{what}, as {why}"))
            return None

    def _cloned_template(self, file: SnapshotFile) -> tuple[Database, bool]:
        """Find or make the template that is a clone of the target; tell whether it is new."""
        database = self._database
        seen = rows_written(database.link, database.oid)
        with open_link(self._target.conninfo) as link:
            request = self._examine(link, file.manifest, seen)
        if template := use_template(database.link, request.key, Kind.PERF):
            return template, False
        self._make_room()
        return self._make_template(request, file), True

    def _make_room(self) -> None:
        """Drop the templates that are superfluous once another one is made."""
        link, name = self._database.link, self._database.name
        old = unused_templates(list_databases(link), name, Kind.PERF, 1)
        _drop_if_possible(link, old, force=False)

    def _examine(self, link: Link, manifest: Manifest, seen: int | None) -> TemplateRequest:
        # Any rows are accepted: they go into perfdata's own clone, not into the target.
        options = RestoreOptions(unflagged_rows=True)
        plan = plan_template(link, manifest, self._target.settings, options)
        try:
            with link.transaction(reading=True):
                refuse_dangling_references(plan, manifest)
                refuse_crossing(link, plan)
                run_checks(link, plan.checks)
                fingerprint = fingerprint_for(link, plan)
        except (RefusedError, ServerRefusedError) as error:
            raise NoClonesError(str(error)) from error
        name = self._database.name
        return request_template(
            link, plan, manifest, fingerprint, database=name, version=_VERSION, seen=seen
        )

    def _make_template(self, request: TemplateRequest, file: SnapshotFile) -> Database:
        database, conninfo = self._database, self._target.conninfo
        check_template_space(database, request, file.manifest)
        template, _ = make_template(
            database,
            conninfo,
            request,
            file,
            self._report,
            kind=Kind.PERF,
            finish=freeze_and_analyse,
        )
        return template


def _drop_if_possible(link: Link, databases: list[Database], *, force: bool) -> None:
    """Drop databases; any that can't be dropped now stay for the next run, or db.gc."""
    for database in databases:
        with suppress(ServerRefusedError):
            drop_database(link, database, force=force)


def _with_library(database: TargetDatabase, settings: Mapping[str, str]) -> dict[str, str]:
    """Add the setting that loads auto_explain into the clones' sessions, if the role may load it.

    Otherwise its settings are left out, as are those that its version does not have.
    """
    link, prefix = database.link, f"{_LIBRARY}."
    others = {name: value for name, value in settings.items() if not name.startswith(prefix)}
    if not link.value("SELECT current_setting('is_superuser') = 'on'"):
        return others
    try:
        link.execute("LOAD 'auto_explain'")
    except ServerRefusedError:  # a server without contrib
        return others
    query = "SELECT name FROM pg_settings WHERE name LIKE %s"
    known = {name for (name,) in link.rows(query, (f"{prefix}%",))}
    library = {name: value for name, value in settings.items() if name in known}
    preloaded = [
        setting.partition("=")[2]
        for role, setting in read_properties(link, database.oid).settings
        if role is None and setting.startswith(f"{_PRELOAD}=")
    ]
    return {**others, **library, _PRELOAD: ", ".join([*preloaded, _LIBRARY])}

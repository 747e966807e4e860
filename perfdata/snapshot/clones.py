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

from perfdata.database.clones import begin_run, left_clones, make_clone
from perfdata.database.guard import check_guard
from perfdata.database.loading import Existing
from perfdata.database.marks import Kind
from perfdata.database.ownership import leads_to
from perfdata.database.properties import read_properties
from perfdata.database.server import EmbeddedServer
from perfdata.database.swap import obstacle, written
from perfdata.database.templates import (
    Place,
    drop_database,
    find_template,
    list_databases,
    lock_number,
    lock_target,
    maintenance_link,
    superfluous_templates,
    unfinished,
    unlock,
    write_mark,
)
from perfdata.database.upkeep import settle
from perfdata.errors import ConnectError, PerfdataError, RefusedError, ServerRefusedError
from perfdata.postgres.connection import database_name, open_link
from perfdata.postgres.link import run_checks
from perfdata.snapshot.fresh import make_template
from perfdata.snapshot.looking import Asked, fingerprint_for, read_sizes, template_key
from perfdata.snapshot.losses import refuse_crossing, refuse_requirements
from perfdata.snapshot.provide import with_current
from perfdata.snapshot.restore import Options, prepare

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from perfdata.database.target import Target
    from perfdata.database.templates import Found
    from perfdata.postgres.link import Link
    from perfdata.progress import Report
    from perfdata.snapshot.provide import Built
    from perfdata.snapshot.store import Snapshot

# Part of every key: templates that were made in another way are not found.
_WAY = ("perf", 2)
_LIBRARY = "auto_explain"
_PRELOAD = "session_preload_libraries"


class NoClonesError(PerfdataError):
    """This role can't make clones of this database; the message says why."""


@dataclass(frozen=True)
class Sealed:
    """A template, and how it came to be: what was built and why, what was restored in what time.

    ``rows`` None: it was there already.
    """

    template: Found
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
        self._made: dict[str, Found] = {}

    def __enter__(self) -> Self:
        """Begin a run, and remove what killed ones have left."""
        try:
            self._place = self._enter()
            self._run = begin_run(self._place.link)
            self._settings = _with_library(self._place, self._settings)
            left = left_clones(self._place.link, lock_number(self._place.name), self._run)
            _remove(self._place.link, left, force=True)
        except BaseException:
            self._stack.close()
            raise
        return self

    def _enter(self) -> Place:
        conninfo, settings = self._target.conninfo, self._target.settings
        name = database_name(conninfo)
        with open_link(conninfo) as target:
            check_guard(target, settings)
            try:
                link, there = self._stack.enter_context(maintenance_link(conninfo))
            except ConnectError as error:
                raise NoClonesError(str(error)) from error
            oid = next((one.oid for one in list_databases(link) if one.name == name), 0)
            embedded = EmbeddedServer(settings).owns(link)
            place = Place(link, there, oid, name, embedded, terminate=False)
            if not leads_to(target, place):
                raise NoClonesError(f"{name} is reached by way of a pooler, which names another so")
        if reason := obstacle(place):
            raise NoClonesError(reason)
        return place

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

    def make(self, template: Found) -> str:
        """Make a clone, and return its conninfo."""
        from psycopg.conninfo import make_conninfo

        made = make_clone(self._place, template, self._run, self._settings)
        conninfo = make_conninfo(self._target.conninfo, dbname=made.name)
        self._made[conninfo] = made
        return conninfo

    def drop(self, conninfo: str) -> None:
        """Drop a clone by its conninfo; whoever is still in it is ended."""
        drop_database(self._place.link, self._made.pop(conninfo), force=True)

    def template(self, name: str) -> Sealed:
        """Return the template of a dataset or a snapshot; it is made where there is none.

        A dataset's snapshot that is missing or stale is built first, as provide_dataset does it.
        Raises NoClonesError, and what a restore raises.
        """
        options = Options()
        sealed, built, reason = with_current(
            self._target, name, self._sealed, build=True, options=options, report=self._report
        )
        if sealed is not None:
            return sealed
        if built is None or built.snapshot is None:
            raise NoClonesError(f"{name} was built and not saved")
        return replace(self._sealed(built.snapshot), built=built, reason=reason)

    def _sealed(self, snapshot: Snapshot) -> Sealed:
        began = time.perf_counter()
        place = self._place
        lock_target(place.link, place.name, self._report)
        try:
            for one in unfinished(place.link, lock_number(place.name)):
                drop_database(place.link, one, force=True)
            seen = written(place.link, place.oid)
            with open_link(self._target.conninfo) as link:
                asked = self._ask(link, snapshot, seen)
            if found := find_template(place.link, asked.key, Kind.PERF):
                self._use(found)
                return Sealed(found, None, "current", None, time.perf_counter() - began)
            found = self._make(asked, snapshot)
        finally:
            unlock(place.link, lock_number(place.name))
        rows = snapshot.manifest.rows
        return Sealed(found, None, "current", rows, time.perf_counter() - began)

    def _ask(self, link: Link, snapshot: Snapshot, seen: int | None) -> Asked:
        manifest = snapshot.manifest
        # Whatever rows the file has: they go into perfdata's own clone, not into the target.
        plan = prepare(link, manifest, self._target.settings, Options(unflagged_rows=True))
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
        key = template_key(manifest, fingerprint, self._place.name, role, way=_WAY)
        sizes = read_sizes(link, plan)
        path = link.session_path()
        return Asked(self._place.name, plan, fingerprint, key, path, (), seen, *sizes)

    def _make(self, asked: Asked, snapshot: Snapshot) -> Found:
        place, conninfo = self._place, self._target.conninfo
        old = superfluous_templates(list_databases(place.link), place.name, Kind.PERF, 1)
        _remove(place.link, old, force=False)
        found, _ = make_template(
            place, conninfo, asked, snapshot, self._report, kind=Kind.PERF, finish=settle
        )
        return found

    def _use(self, template: Found) -> None:
        if template.mark is not None:
            write_mark(self._place.link, template.name, "", template.mark.of(used=time.time()))


def _remove(link: Link, superfluous: list[Found], *, force: bool) -> None:
    """Drop what is superfluous; what can't be dropped now stays for the next run, or db.gc."""
    for one in superfluous:
        with suppress(ServerRefusedError):
            drop_database(link, one, force=force)


def _with_library(place: Place, settings: Mapping[str, str]) -> dict[str, str]:
    """Have auto_explain loaded into the clone's sessions, where the role may do that.

    Its settings are left out where it can't be, and those that this version does not know.
    """
    link = place.link
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
        for role, one in read_properties(link, place.oid).settings
        if role is None and one.startswith(f"{_PRELOAD}=")
    ]
    return {**others, **own, _PRELOAD: ", ".join([*before, _LIBRARY])}


def _is_librarys(name: str) -> bool:
    return name.startswith(f"{_LIBRARY}.")

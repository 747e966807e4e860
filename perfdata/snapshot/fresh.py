"""Restore into a fresh database: a template, made once, cloned, and swapped with the target.

Nothing is dropped before its replacement is ready, and what is replaced is kept. A snapshot holds
no definitions: the template is a clone of the target, emptied and loaded. It is found again by a
key of all that decides what is in it, so that the next restore of the same is a clone and a swap.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from psycopg.conninfo import make_conninfo

from perfdata.database.marks import Kind
from perfdata.database.swap import obstacle, swap, written
from perfdata.database.templates import (
    Place,
    clone,
    drop_database,
    find_template,
    likely_template,
    list_databases,
    lock_number,
    maintenance_link,
    open_work,
    replaced,
    seal_template,
    superfluous_templates,
    unfinished,
)
from perfdata.errors import ConnectError, LoadError, ServerRefusedError
from perfdata.postgres.connection import open_link
from perfdata.postgres.link import run_checks
from perfdata.postgres.reflection import read_catalog
from perfdata.snapshot.filling import open_room
from perfdata.snapshot.format import check_digest
from perfdata.snapshot.looking import (
    Asked,
    UnableError,
    ask,
    clone_room,
    fingerprint_for,
    place_of,
    template_room,
)
from perfdata.snapshot.losses import lost_words
from perfdata.snapshot.parallel import Room, load_parallel, second_filler
from perfdata.snapshot.restore import Restored, application_name, log_restore, restore_into
from perfdata.text import first

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from perfdata.config import Settings
    from perfdata.database.templates import Found
    from perfdata.postgres.catalog import Catalog
    from perfdata.postgres.link import Link
    from perfdata.progress import Report
    from perfdata.snapshot.format import Manifest
    from perfdata.snapshot.restore import Options
    from perfdata.snapshot.store import Snapshot


def restore_fresh(
    conninfo: str, snapshot: Snapshot, settings: Settings, options: Options, report: Report
) -> Restored:
    """Replace a whole database by one with a snapshot's rows in it (see restore_snapshot).

    A role that can't do that restores in the ordinary way, and the notes say why.
    """
    began = time.perf_counter()
    conninfo = make_conninfo(conninfo, application_name=application_name(snapshot.name))
    try:
        rows, strategy, notes = _replace(conninfo, snapshot, settings, options, report)
    except UnableError as error:
        done = restore_into(conninfo, snapshot, settings, options.in_place, report)
        note = f"restored without --fresh: {error}"
        return replace(done, notes=(note, *done.notes))
    return Restored(snapshot.name, rows, strategy, time.perf_counter() - began, notes)


def _replace(
    conninfo: str, snapshot: Snapshot, settings: Settings, options: Options, report: Report
) -> tuple[dict[str, int], str, tuple[str, ...]]:
    with place_of(conninfo, settings, options, report) as place:
        asked, begun = _ask_and_begin(place, conninfo, snapshot, settings, options)
        template, new, told = begun.template, begun.new, asked.plan.notes
        if template is None or template.key != asked.key:
            _discard(place, new)
            template, new = find_template(place.link, asked.key), None
        strategy = "a clone of its template"
        with _older_removed(place, template) as removed:
            if template is None:
                strategy = "a new template and its clone"
                template, more = make_template(place, conninfo, asked, snapshot, report)
                told = tuple(dict.fromkeys((*told, *more)))
            new = new or clone(place, template)
            try:
                before, changed = swap(place, new, template, asked.seen, lost=first(asked.lost))
            except BaseException:
                _discard(place, new)
                raise
        logged = log_restore(place.link, snapshot.manifest, strategy, place.name)
        kept = _kept(place.name, before, asked.lost, snapshot.manifest, changed=changed)
    return dict(snapshot.manifest.stats), strategy, (*told, *kept, *removed, *logged)


@dataclass(frozen=True)
class _Begun:
    """What was done while the target was looked at: the clone of the likely template."""

    obstacle: str | None = None
    template: Found | None = None
    new: Found | None = None


def _ask_and_begin(
    place: Place, conninfo: str, snapshot: Snapshot, settings: Settings, options: Options
) -> tuple[Asked, _Begun]:
    """Look at the target, and meanwhile clone the template that is likely the one.

    Of 110 ms that a second restore of 100_offices took, 49 went into looking and 27 into cloning.
    """
    with ThreadPoolExecutor(1) as pool:
        early = pool.submit(_begin, place, snapshot)
        try:
            with open_link(conninfo) as link:
                asked = ask(link, place, snapshot, settings, options)
        except BaseException:
            begun = early.result()
            _discard(place, begun.new)
            if begun.obstacle is not None:
                raise UnableError(begun.obstacle) from None
            raise
    begun = early.result()
    if begun.obstacle is not None:
        raise UnableError(begun.obstacle)
    return asked, begun


def _begin(place: Place, snapshot: Snapshot) -> _Begun:
    if reason := obstacle(place):
        return _Begun(reason)
    for one in unfinished(place.link, lock_number(place.name)):
        drop_database(place.link, one, force=True)
    likely = likely_template(place.link, place.name, snapshot.manifest.body.sha256)
    if likely:
        run_checks(place.link, [clone_room(place, likely)])
    return _Begun(None, likely, clone(place, likely, settled=True)) if likely else _Begun()


def _discard(place: Place, new: Found | None) -> None:
    if new is not None:
        drop_database(place.link, new, force=True)


def make_template(
    place: Place,
    conninfo: str,
    asked: Asked,
    snapshot: Snapshot,
    report: Report,
    *,
    kind: Kind = Kind.TEMPLATE,
    finish: Callable[[Link], None] | None = None,
) -> tuple[Found, tuple[str, ...]]:
    """Clone the target, load a snapshot into that, and seal it; return what a user should know.

    ``finish`` is done in the template when the rows are loaded.
    """
    manifest, plan = snapshot.manifest, asked.plan
    run_checks(place.link, [template_room(place, asked, manifest)])
    target = next(one for one in list_databases(place.link) if one.oid == place.oid)
    with ExitStack() as stack:
        other = stack.enter_context(second_filler(manifest.rows, plan.catalog))
        checked = stack.enter_context(ThreadPoolExecutor(1)).submit(_check_unchanged, snapshot)
        work = clone(place, target)
        try:
            checked.result()
            open_work(place.link, work)
            room = make_conninfo(conninfo, dbname=work.name)
            with open_room(room, asked.search_path) as link:
                if asked.seen is None or written(place.link, place.oid) != asked.seen:
                    plan = replace(plan, catalog=_check_same(link, asked))
                opened = Room(link, room, asked.search_path)
                notes = load_parallel(opened, plan, snapshot, other, report)
                if finish is not None:
                    finish(link)
            return seal_template(place, work, asked.key, manifest.body.sha256, kind), notes
        except BaseException:
            drop_database(place.link, work, force=True)
            raise


def _check_unchanged(snapshot: Snapshot) -> None:
    """Read every byte of a snapshot; raise LoadError where it is not the one that was looked at.

    Its rows are checked while they are loaded: an error there throws the new database away.
    """
    if check_digest(snapshot.path)[0].body != snapshot.manifest.body:
        raise LoadError(f"snapshot {snapshot.name} was replaced meanwhile; run it again")


def _check_same(link: Link, asked: Asked) -> Catalog:
    """Raise LoadError where what was cloned is not what was looked at before; return its catalog.

    A restore that ended meanwhile has given the foreign keys other oids.
    """
    catalog = read_catalog(link)
    if (
        catalog != asked.plan.catalog
        or fingerprint_for(link, asked.plan, catalog) != asked.fingerprint
    ):
        raise LoadError(f"{asked.database} changed while it was cloned; run it again")
    return catalog


def _kept(
    name: str, before: str, lost: tuple[str, ...], manifest: Manifest, *, changed: bool
) -> tuple[str, ...]:
    until = "db.gc --lost-rows" if lost or changed else "db.gc"
    notes = [f"what was replaced is kept as {before} until {until}"]
    if lost:
        notes.append(
            f"{name} had {lost_words(manifest)}, which are now in {before} alone: {first(lost)}"
        )
    elif changed:
        notes.append(f"{name} may have been written to meanwhile: such rows are in {before} alone")
    return tuple(notes)


@contextmanager
def _older_removed(place: Place, template: Found | None) -> Iterator[list[str]]:
    """Meanwhile remove what is superfluous; what is to be said of it is there after the block.

    ``template`` is in use; None: one is about to be made. Of what was replaced each first one
    stays, which holds what may be nowhere else (see swap): only a collection removes it. A removal
    waits for a checkpoint, which takes longer the more was just loaded: at the end of a first
    restore of 100_offices 66 ms of 600.
    """
    found = list_databases(place.link)
    passing = [one for one in replaced(found, place.name) if one.mark and not one.mark.first]
    templates = superfluous_templates(found, place.name, coming=int(template is None))
    gone = [*passing, *(one for one in templates if template is None or one.oid != template.oid)]
    told: list[str] = []
    if not gone:
        yield told
        return
    with ThreadPoolExecutor(1) as pool:
        removal = pool.submit(_remove, place.conninfo, gone)
        yield told
        told += removal.result()


def _remove(conninfo: str, gone: list[Found]) -> list[str]:
    notes, names = [], []
    try:
        with maintenance_link(conninfo) as (link, _):
            for one in gone:
                try:
                    drop_database(link, one, force=False)
                except ServerRefusedError as error:
                    notes.append(f"{one.name} is left for db.gc: {error.reason}")
                else:
                    names.append(one.name)
    except ConnectError as error:
        notes.append(f"what is superfluous is left for db.gc: {error}")
    if names:
        notes.append(f"removed, as nothing in them is lost: {', '.join(names)}")
    return notes

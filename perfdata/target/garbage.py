"""Garbage: files and databases that killed processes left, and databases no longer needed."""

from __future__ import annotations

import shutil
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from psycopg.conninfo import make_conninfo

from perfdata.config import snapshots_folder
from perfdata.errors import ConnectError, GuardError, ServerRefusedError
from perfdata.migrations.answers import answers_folder
from perfdata.postgres.connection import open_link
from perfdata.postgres.link import IDENTIFIER_GRANT
from perfdata.postgres.url import normalise_url
from perfdata.progress import silent
from perfdata.server.aside import find_set_aside
from perfdata.server.embedded import EmbeddedServer
from perfdata.server.sockets import remove_temporary_folder
from perfdata.server.state import Home, orphaned_clusters
from perfdata.target.guard import check_guard
from perfdata.templates.databases import (
    MAINTENANCE,
    complete_marks,
    drop_database,
    list_databases,
    lock_number,
    maintenance_link,
    try_lock,
    unfinished_databases,
    unlock,
)
from perfdata.templates.marks import CLONE_PREFIX, UNMARKED_LIMIT, WORK_PREFIX, Kind
from perfdata.templates.provenance import rows_of_others
from perfdata.templates.template import (
    orphaned_clones,
    parked_databases,
    replaced_databases,
    unused_templates,
)
from perfdata.temporary import find_leftovers, remove_leftover
from perfdata.text import join_first

if TYPE_CHECKING:
    from collections.abc import Iterator

    from perfdata.config import Settings
    from perfdata.postgres.link import Link
    from perfdata.progress import Report
    from perfdata.templates.databases import Database

_FILE = "temporary file of a process that was killed"
_SOCKETS = "socket folder of a process that was killed"
_SET_ASIDE = "data of another PostgreSQL version, set aside by db.reset"
_UNFINISHED = "left by a restore that was killed"
_ORPHANED = "left by a perf run that was killed"
_LOCK_DIGITS = 8
_TEMPORARY = {Kind.WORK, Kind.CLONE}


@dataclass(frozen=True)
class Removed:
    """A file or database that was removed, the reason, and its size."""

    name: str
    reason: str
    size_bytes: int


@dataclass(frozen=True)
class Collected:
    """What garbage collection removed, and what it kept, with the reasons."""

    removed: tuple[Removed, ...]
    left: tuple[str, ...]

    @property
    def size_bytes(self) -> int:
        """The disk space that was freed."""
        return sum(removed.size_bytes for removed in self.removed)


def collect_garbage(
    settings: Settings, report: Report = silent, *, dry: bool = False, lost_rows: bool = False
) -> Collected:
    """Remove files that killed processes left in PERFDATA_HOME, and databases.

    For the databases and arguments see collect_databases. Unless ``dry``, the embedded server is
    started, with the reserved disk space released in case its disk is full.
    """
    files = [*_collect_files(settings, dry=dry)]
    kept = []
    if settings.database_url is None:
        for folder, size in find_set_aside(settings):
            if not lost_rows:
                kept.append(f"{folder}: {_SET_ASIDE}; db.gc --lost-rows removes it")
                continue
            files.append(Removed(str(folder), _SET_ASIDE, size))
            if not dry:
                shutil.rmtree(folder)
    if settings.database_url is not None:
        conninfo = normalise_url(settings.database_url)
        found = collect_databases(conninfo, settings, dry=dry, lost_rows=lost_rows)
    else:
        found = _collect_embedded(settings, report, dry=dry, lost_rows=lost_rows)
    return Collected((*files, *found.removed), (*kept, *found.left))


def _collect_embedded(
    settings: Settings, report: Report, *, dry: bool, lost_rows: bool
) -> Collected:
    server = EmbeddedServer(settings, report)
    homeless = _homeless()
    if dry and not server.status().running:
        stopped = "the embedded server is not running: its databases were not looked at"
        return Collected((), (*homeless, stopped))
    with nullcontext() if dry else server.reserve_released():
        server.start()
        conninfo = server.conninfo(MAINTENANCE)
        found = collect_databases(conninfo, settings, dry=dry, lost_rows=lost_rows)
    return Collected(found.removed, (*homeless, *found.left))


def _homeless() -> tuple[str, ...]:
    """Return one line about all clusters whose home does not exist, if there are any."""
    if not (found := orphaned_clusters()):
        return ()
    where = found[0][0].parent
    names = join_first([f"{folder.name} of {home}" for folder, home in found])
    remedy = "remove their folders unless the home is on a disk that is not mounted now"
    return (
        f"{where}: clusters whose PERFDATA_HOME does not exist: {len(found)} ({names}); {remedy}",
    )


def _collect_files(settings: Settings, *, dry: bool) -> Iterator[Removed]:
    home = Home(settings)
    folders = [settings.home, snapshots_folder(settings.home), answers_folder(settings.home)]
    if settings.database_url is None:
        cluster = home.cluster(home.read_state()).folder
        folders += {home.folder, cluster}
    for folder in folders:
        for path in find_leftovers(folder):
            size = path.stat().st_size
            if dry or remove_leftover(path):
                yield Removed(str(path), _FILE, size)
    if settings.database_url is None:
        for folder in home.stray_socket_folders():
            yield Removed(str(folder), _SOCKETS, 0)
            if not dry:
                remove_temporary_folder(folder)


def collect_databases(
    conninfo: str, settings: Settings, *, dry: bool = False, lost_rows: bool = False
) -> Collected:
    """Remove orphaned and unfinished databases, replaced ones, and unused templates.

    On the embedded server, databases of all targets are removed; elsewhere only databases of the
    target in ``conninfo``, which the guard must allow. Only databases with a valid mark are
    removed. Kept are the templates last used, databases that perfdata.restore protects and all that
    belong to them, and, unless ``lost_rows``, replaced databases that have, or may have, rows that
    the new ones lack, and parked ones with rows that perfdata did not write.

    Args:
        dry: remove nothing, and return what would be removed.
        lost_rows: remove the only copies of rows too.

    Raises GuardError or ConnectError.
    """
    with open_link(conninfo) as link:
        check_guard(link, settings)
        target = str(link.value("SELECT current_database()"))
        server = link.server_identifier
    removed: list[Removed] = []
    left: list[str] = []
    with maintenance_link(conninfo) as (link, _):
        if server is None:
            raise GuardError(
                f"databases that perfdata made on the server of {target} are recognised by the "
                "server's identifier, which this role may not read",
                remedy=f"The owner or a superuser can grant this with: {IDENTIFIER_GRANT}",
            )
        if link.server_identifier != server:
            raise GuardError(
                f"the connection to {target} goes through a pooler", remedy="Use the server's URL"
            )
        numbers = {lock_number(target)}
        if settings.database_url is None:
            if not dry:
                complete_marks(link)
            numbers = set(_lock_numbers(list_databases(link)))
        for number in sorted(numbers):
            if not try_lock(link, number):
                left.append("a restore is running: run it again when that has ended")
                continue
            found = _collect_target(link, conninfo, number, dry=dry, lost_rows=lost_rows)
            removed += found.removed
            left += found.left
            unlock(link, number)
    return Collected(tuple(removed), tuple(left))


def _lock_numbers(databases: list[Database]) -> Iterator[int]:
    """Yield the lock number of every target that perfdata made a database for."""
    for database in databases:
        name = database.name
        if mark := database.mark or database.invalid_mark:
            yield lock_number(mark.target)
        elif database.limit == UNMARKED_LIMIT and name.startswith((WORK_PREFIX, CLONE_PREFIX)):
            digits = name.removeprefix(WORK_PREFIX).removeprefix(CLONE_PREFIX)[:_LOCK_DIGITS]
            try:
                yield int.from_bytes(bytes.fromhex(digits), signed=True)
            except ValueError:
                continue


def _collect_target(
    link: Link, conninfo: str, number: int, *, dry: bool, lost_rows: bool
) -> Collected:
    """Collect the databases of the target with this lock number, whose lock is held."""
    databases = list_databases(link)
    for database in databases:
        if database.protected and lock_number(database.name) == number:
            why = "perfdata.restore is set in it"
            return Collected((), (f"what belongs to {database.name}: {why}",))
    removed: list[Removed] = []
    left: list[str] = []
    for database, reason in _garbage(link, number):
        unique = _unique_rows(database, conninfo)
        if unique and not lost_rows:
            left.append(f"{database.name}: {unique}; db.gc --lost-rows removes it")
            continue
        size = link.value("SELECT pg_database_size(%s::oid)", (database.oid,))
        try:
            if not dry:
                drop_database(link, database, force=reason in {_UNFINISHED, _ORPHANED})
        except ServerRefusedError as error:
            refusal = "; ".join(filter(None, (error.server_message, error.detail)))
            left.append(f"{database.name}: {refusal}")
        else:
            reasons = f"{reason}; {unique}" if unique else reason
            removed.append(Removed(database.name, reasons, size))
    left += [f"{kept.name}: {why}" for kept in databases if (why := _why_kept(kept, number))]
    return Collected(tuple(removed), tuple(left))


def _why_kept(database: Database, number: int) -> str:
    """Return why a marked database of the target with this lock number is never removed, or ""."""
    mark = database.mark or database.invalid_mark
    if mark is None or mark.kind is Kind.MADE or lock_number(mark.target) != number:
        return ""
    if database.protected:
        return "perfdata.restore is set in it"
    if database.mark is None:
        return (
            f"carries a mark ({mark.kind.value}) of another name, database or server, or without "
            "the server's identifier; if you don't need it, DROP DATABASE"
        )
    return ""


def _unique_rows(database: Database, conninfo: str) -> str:
    """Return which rows a database has, or may have, that no other one has, or ""."""
    mark = database.mark
    if mark is None:
        return ""
    if mark.kind is Kind.PARKED:
        try:
            with open_link(make_conninfo(conninfo, dbname=database.name)) as link:
                found = join_first(rows_of_others(link, mark))
        except (ConnectError, ServerRefusedError) as error:
            return f"has rows that can't be read: {error.reason}"
        return f"has rows that neither perfdata nor a migration wrote: {found}" if found else ""
    if mark.lost:
        return f"has rows that {mark.target} does not have: {mark.lost}"
    if mark.changed:
        return f"was written to during the restore of {mark.target} that replaced it"
    return ""


def _garbage(link: Link, number: int) -> Iterator[tuple[Database, str]]:
    """Yield the databases to be removed for the target with this lock number, with the reasons."""
    for database in unfinished_databases(link, number):
        yield database, _UNFINISHED
    for database in orphaned_clones(link, number):
        yield database, _ORPHANED
    found = list_databases(link)
    marks = [database.mark for database in found if database.mark]
    targets = {mark.target for mark in marks if mark.kind not in _TEMPORARY}
    for target in sorted(name for name in targets if lock_number(name) == number):
        for database in replaced_databases(found, target):
            yield database, f"was replaced by a restore of {target}"
        for database in parked_databases(found, target):
            yield database, f"a parked database of {target}"
        for kind in (Kind.TEMPLATE, Kind.PERF):
            for database in unused_templates(found, target, kind):
                yield database, f"a template of {target} that is no longer used"

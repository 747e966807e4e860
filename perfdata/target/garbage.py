"""Garbage: what killed processes left and what nobody needs any more, files before databases."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from perfdata.errors import GuardError, ServerRefusedError
from perfdata.postgres.connection import open_link
from perfdata.postgres.link import IDENTIFIER_GRANT
from perfdata.postgres.url import normalise_url
from perfdata.progress import silent
from perfdata.server.embedded import EmbeddedServer
from perfdata.server.sockets import remove_temporary_folder
from perfdata.server.state import Home, orphaned_clusters
from perfdata.target.guard import check_guard
from perfdata.templates.clone import left_clones
from perfdata.templates.databases import (
    MAINTENANCE,
    drop_database,
    list_databases,
    lock_number,
    maintenance_link,
    try_lock,
    unfinished,
    unlock,
)
from perfdata.templates.marks import CLONE_PREFIX, UNMARKED_LIMIT, WORK_PREFIX, Kind
from perfdata.templates.ownership import complete_marks
from perfdata.templates.template import replaced, superfluous_templates
from perfdata.temporary import find_leftovers, remove_leftover

if TYPE_CHECKING:
    from collections.abc import Iterator

    from perfdata.config import Settings
    from perfdata.postgres.link import Link
    from perfdata.progress import Report
    from perfdata.templates.databases import Database

_FILE = "a temporary file of a process that was killed"
_SOCKETS = "a socket's folder that a process made which was killed"
_WORK_DIGITS = 8
_FLEETING = {Kind.WORK, Kind.CLONE}


@dataclass(frozen=True)
class Removed:
    """A database that was removed, why, and how much room it took."""

    name: str
    reason: str
    size_bytes: int


@dataclass(frozen=True)
class Collected:
    """What a collection removed, and what it left although it is perfdata's: a line each."""

    removed: tuple[Removed, ...]
    left: tuple[str, ...]

    @property
    def size_bytes(self) -> int:
        """How much room was given back."""
        return sum(one.size_bytes for one in self.removed)


def collect_garbage(
    settings: Settings, report: Report = silent, *, dry: bool = False, lost_rows: bool = False
) -> Collected:
    """Remove what killed processes left in the home, and databases (see collect_databases).

    The embedded server is started for that, but not by ``dry``. Where its disk is full it gets the
    room that was reserved for this.
    """
    files = tuple(_collect_files(settings, dry=dry))
    if settings.database_url is not None:
        conninfo = normalise_url(settings.database_url)
        found = collect_databases(conninfo, settings, dry=dry, lost_rows=lost_rows)
    else:
        found = _collect_embedded(settings, report, dry=dry, lost_rows=lost_rows)
    return Collected((*files, *found.removed), found.left)


def _collect_embedded(
    settings: Settings, report: Report, *, dry: bool, lost_rows: bool
) -> Collected:
    server = EmbeddedServer(settings, report)
    homeless = tuple(
        f"{folder}: the cluster of PERFDATA_HOME {home}, which is not there; remove that folder if "
        "the home is gone for good, and not on a disk that is not mounted now"
        for folder, home in orphaned_clusters()
    )
    if dry and not server.status().running:
        stopped = "the embedded server does not run: it would be started to see what is superfluous"
        return Collected((), (*homeless, stopped))
    with nullcontext() if dry else server.reserve_released():
        server.start()
        conninfo = server.conninfo(MAINTENANCE)
        found = collect_databases(conninfo, settings, dry=dry, lost_rows=lost_rows)
    return Collected(found.removed, (*homeless, *found.left))


def _collect_files(settings: Settings, *, dry: bool) -> Iterator[Removed]:
    home = Home(settings)
    folders = [settings.home, settings.home / "snapshots"]
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
    """Remove what killed restores left, what finished ones replaced, and unused templates.

    On the embedded server of all databases; else of the one of ``conninfo``, which the guard must
    allow. Only what carries perfdata's mark is removed; the templates last used stay, and so does
    what holds, or may hold, rows that the database in its place does not have, unless
    ``lost_rows``. ``dry`` removes nothing, and returns what would be. What perfdata.restore
    protects stays, and all that belongs to it. Raises GuardError, ConnectError.
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
                f"what perfdata made on the server of {target} is known by the server's "
                f"identifier, which this role may not read: {IDENTIFIER_GRANT}"
            )
        if link.server_identifier != server:
            raise GuardError(f"{target} is reached by way of a pooler: give the server's own URL")
        numbers = {lock_number(target)}
        if settings.database_url is None:
            if not dry:
                complete_marks(link)
            numbers = set(_numbers(list_databases(link)))
        for number in sorted(numbers):
            if not try_lock(link, number):
                left.append("a restore is under way: run it again when that has ended")
                continue
            _collect(link, number, removed, left, dry=dry, lost_rows=lost_rows)
            unlock(link, number)
    return Collected(tuple(removed), tuple(left))


def _numbers(found: list[Database]) -> Iterator[int]:
    """Yield the lock of every target that perfdata made a database for."""
    for one in found:
        if mark := one.mark or one.strayed:
            yield lock_number(mark.target)
        elif one.limit == UNMARKED_LIMIT and one.name.startswith((WORK_PREFIX, CLONE_PREFIX)):
            digits = one.name.removeprefix(WORK_PREFIX).removeprefix(CLONE_PREFIX)[:_WORK_DIGITS]
            try:
                yield int.from_bytes(bytes.fromhex(digits), signed=True)
            except ValueError:
                continue


def _collect(
    link: Link,
    number: int,
    removed: list[Removed],
    left: list[str],
    *,
    dry: bool,
    lost_rows: bool,
) -> None:
    found = list_databases(link)
    if forbidden := [
        one.name for one in found if one.protected and lock_number(one.name) == number
    ]:
        left.append(f"what belongs to {forbidden[0]}: perfdata.restore is set in that")
        return
    for one, reason in _superfluous(link, number):
        held = _held(one)
        if held and not lost_rows:
            left.append(f"{one.name}: {held}; db.gc --lost-rows removes it")
            continue
        size = link.value("SELECT pg_database_size(%s::oid)", (one.oid,))
        try:
            if not dry:
                drop_database(link, one, force=reason in {_UNFINISHED, _LEFT})
        except ServerRefusedError as error:
            left.append(
                f"{one.name}: {'; '.join(filter(None, (error.server_message, error.detail)))}"
            )
        else:
            removed.append(Removed(one.name, f"{reason}; {held}" if held else reason, size))
    left += [f"{one.name}: {why}" for one in found if (why := _kept(one, number))]


def _kept(one: Database, number: int) -> str:
    """Say why a database with a mark for the target of this lock stays, if it always does."""
    mark = one.mark or one.strayed
    if mark is None or mark.kind is Kind.MADE or lock_number(mark.target) != number:
        return ""
    if one.protected:
        return "perfdata.restore is set in it"
    if one.mark is None:
        return (
            f"carries a mark ({mark.kind.value}) of another name, database or server, or one "
            "without the server's identifier: where it is yours to remove, DROP DATABASE"
        )
    return ""


def _held(one: Database) -> str:
    """Say which rows a replaced database has, or may have, that the one in its place lacks."""
    mark = one.mark
    if mark is None:
        return ""
    if mark.lost:
        return f"has rows that were not taken over into {mark.target}: {mark.lost}"
    if mark.changed:
        return f"was written to during the restore of {mark.target} that replaced it"
    return ""


_UNFINISHED = "left by a restore that was killed"
_LEFT = "left by a perf run that was killed"


def _superfluous(link: Link, number: int) -> Iterator[tuple[Database, str]]:
    for one in unfinished(link, number):
        yield one, _UNFINISHED
    for one in left_clones(link, number):
        yield one, _LEFT
    found = list_databases(link)
    targets = {one.mark.target for one in found if one.mark and one.mark.kind not in _FLEETING}
    for target in sorted(name for name in targets if lock_number(name) == number):
        for one in replaced(found, target):
            yield one, f"was replaced in the place of {target}"
        for kind in (Kind.TEMPLATE, Kind.PERF):
            for one in superfluous_templates(found, target, kind):
                yield one, f"a template of {target} that is not used any more"

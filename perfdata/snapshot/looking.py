"""The look at a target before a fresh database takes its place: checks, and which template."""

from __future__ import annotations

import hashlib
import json
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from perfdata.database.fingerprint import fingerprint_database
from perfdata.database.guard import allowed_by_name
from perfdata.database.loading import Existing
from perfdata.database.ownership import leads_to
from perfdata.database.server import EmbeddedServer
from perfdata.database.space import mb, room_check, rows_bytes
from perfdata.database.swap import obstacle, written
from perfdata.database.templates import (
    Place,
    find_template,
    list_databases,
    lock_target,
    log_bytes,
    maintenance_link,
)
from perfdata.errors import ConnectError, ServerRefusedError
from perfdata.postgres.connection import database_name, open_link
from perfdata.postgres.link import run_checks
from perfdata.postgres.locks import explain_lock_timeout, lock_timeout
from perfdata.postgres.sessions import refuse_sessions
from perfdata.postgres.user_code import OTHER_ROLES, refuse_user_code
from perfdata.snapshot.format import check_file
from perfdata.snapshot.losses import losses, refuse_crossing, refuse_losses, refuse_requirements
from perfdata.snapshot.restore import prepare

if TYPE_CHECKING:
    from collections.abc import Iterator

    from perfdata.config import Settings
    from perfdata.database.loading import Plan
    from perfdata.database.templates import Found
    from perfdata.postgres.catalog import Catalog
    from perfdata.postgres.link import Check, Link
    from perfdata.progress import Report
    from perfdata.snapshot.format import Manifest
    from perfdata.snapshot.restore import Options
    from perfdata.snapshot.store import Snapshot

# Part of every key: templates that were loaded in another way are not found.
_WAY = 5
_NOT_ALLOWED = "42501"

_TARGET = """
SELECT oid::bigint, datname, current_user FROM pg_database WHERE datname = current_database()"""

# A temporary table is only its session's.
_ROWS_WRITTEN = """
SELECT coalesce(sum(n_tup_ins + n_tup_upd + n_tup_del), 0)::bigint FROM pg_stat_all_tables
WHERE schemaname !~ '^pg_(toast|temp_|catalog$)' OR relid = 'pg_catalog.pg_largeobject'::regclass"""
_FLUSH = "SELECT pg_stat_force_next_flush()"
_SIZES = """
SELECT pg_database_size(current_database()), coalesce(sum(pg_total_relation_size(oid)), 0)::bigint
FROM unnest(%s::oid[]) t (oid)"""


@dataclass(frozen=True)
class Asked:
    """What was found out about the target and the snapshot before anything was done."""

    database: str
    plan: Plan
    fingerprint: str
    key: str
    search_path: str  # that the target's sessions have
    lost: tuple[str, ...]  # rows that won't be in the new database, and that may be replaced
    seen: int | None = None  # what was written when it was looked at (see swap.written)
    size_bytes: int = 0  # of the database, and of its tables that the snapshot fills
    emptied_bytes: int = 0


class UnableError(Exception):
    """This role can't replace this database; the message says why."""


@contextmanager
def place_of(
    conninfo: str, settings: Settings, options: Options, report: Report
) -> Iterator[Place]:
    """Hold the target against other restores like this; nothing is open in it meanwhile."""
    name = database_name(conninfo)
    with ExitStack() as stack:
        try:
            link, there = stack.enter_context(maintenance_link(conninfo))
        except ConnectError as error:
            raise UnableError(str(error)) from error
        lock_target(link, name, report)
        oid = next((one.oid for one in list_databases(link) if one.name == name), 0)
        embedded = EmbeddedServer(settings).owns(link)
        yield Place(link, there, oid, name, embedded, options.terminate)


def look_at(
    conninfo: str, snapshot: Snapshot, settings: Settings, options: Options, report: Report
) -> Asked:
    """Make the checks that a fresh restore makes before it does anything; UnableError: it can't."""
    manifest, _ = check_file(snapshot.path)
    with place_of(conninfo, settings, options, report) as place:
        if reason := obstacle(place):
            raise UnableError(reason)
        if not options.terminate:
            refuse_sessions(place.link, place.oid, place.name)
        with open_link(conninfo) as link:
            asked = ask(link, place, snapshot, settings, options)
        if find_template(place.link, asked.key) is None:
            run_checks(place.link, [template_room(place, asked, manifest)])
    return asked


def ask(
    link: Link, place: Place, snapshot: Snapshot, settings: Settings, options: Options
) -> Asked:
    """Make every check that can be made, and find out which template it takes."""
    if not leads_to(link, place):
        raise UnableError(f"{place.name} is reached by way of a pooler, which names another so")
    manifest = snapshot.manifest
    plan = prepare(link, manifest, settings, options)
    plan = replace(plan, existing=Existing.ALL, sealed=True)
    oid, name, role = link.rows(_TARGET)[0]
    before, rows_before = written(link, oid), link.value(_ROWS_WRITTEN)
    # Tables that were taken whole are compared in a temporary one, which no reader may make.
    timeout_s = options.lock_timeout_s
    with explain_lock_timeout(link, timeout_s), link.transaction(lock_timeout(timeout_s)):
        lost = losses(link, plan, snapshot)
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
            raise UnableError(f"not all of {name} can be read: {error.reason}") from error
    seen = _seen(link, oid, before, rows_before)
    key = template_key(manifest, fingerprint, name, role)
    sizes, path = read_sizes(link, plan), link.session_path()
    return Asked(name, plan, fingerprint, key, path, tuple(lost), seen, *sizes)


def read_sizes(link: Link, plan: Plan) -> tuple[int, int]:
    """Return how many bytes a database has, and its tables that a plan fills."""
    size, filled = link.rows(_SIZES, ([table.oid for table in plan.tables],))[0]
    return int(size), int(filled)


def _seen(link: Link, oid: int, before: int | None, rows_before: int) -> int | None:
    """Count what was written up to now; None where that is unsure, or others wrote meanwhile.

    The look itself writes to the catalog where it makes temporary tables. What is counted of others
    is in their tables' counts too by the time that these are read, which is why they come last.
    """
    if before is None:
        return None
    link.rows(_FLUSH)  # what this session wrote, which else is counted when it ends
    now = written(link, oid)
    if now == before or link.value(_ROWS_WRITTEN) == rows_before:
        return now
    return None


def fingerprint_for(link: Link, plan: Plan, catalog: Catalog | None = None) -> str:
    """Hash all that is in a database but what a load by this plan brings or moves.

    Raises UserCodeError where to read the database would run code of other roles.
    """
    if not plan.as_superuser:
        refuse_user_code(link, link.rows(OTHER_ROLES), read=None)
    return fingerprint_database(link, catalog or plan.catalog, plan.tables, plan.sequences)


def template_key(
    manifest: Manifest, fingerprint: str, database: str, role: str, way: object = _WAY
) -> str:
    """Hash all that decides what is in a template, and who may use it."""
    facts = asdict(manifest)
    for incidental in ("name", "description", "created_at"):
        del facts[incidental]
    text = json.dumps([way, facts, fingerprint, database, role], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def template_room(place: Place, asked: Asked, manifest: Manifest) -> Check:
    """Check for what a template and its clone take at their most.

    The template begins as a clone of the target; the files of its emptied tables go when the rows
    are committed, and the finished one is cloned.
    """
    rows = rows_bytes(manifest.body.bytes, manifest.rows)
    template = asked.size_bytes - asked.emptied_bytes + rows
    needed = max(asked.size_bytes + rows, 2 * template)
    needed += log_bytes(place, asked.size_bytes) + log_bytes(place, template)
    what = (
        f"a fresh database needs about {mb(needed)} (a clone of {place.name}, which has "
        f"{mb(asked.size_bytes)}, the rows, {mb(rows)}, and a clone of both)"
    )
    return room_check(place.link, needed, what, place.name)


def clone_room(place: Place, template: Found) -> Check:
    """Check for what the clone of a template takes."""
    size = int(place.link.value("SELECT pg_database_size(%s::oid)", (template.oid,)))
    needed = size + log_bytes(place, size)
    return room_check(
        place.link, needed, f"the clone of a template needs about {mb(needed)}", template.name
    )

"""A snapshot's template: a clone of the target, emptied and loaded, found again by its key."""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from psycopg.conninfo import make_conninfo

from perfdata.errors import ConnectError, LoadError, NoClonesError
from perfdata.load.disk_space import disk_space_check, mb, rows_bytes
from perfdata.load.plan import Existing
from perfdata.load.private import load_private, open_private
from perfdata.postgres.connection import database_name
from perfdata.postgres.link import run_checks
from perfdata.postgres.reflection import read_catalog
from perfdata.postgres.user_code import OTHER_ROLES, refuse_user_code
from perfdata.snapshot.checks.ownership import filled_tables
from perfdata.snapshot.format.reader import SnapshotFile
from perfdata.snapshot.prepare import prepare
from perfdata.snapshot.rows import SnapshotRows
from perfdata.templates.databases import (
    drop_database,
    find_target,
    is_target,
    list_databases,
    lock_target,
    maintenance_link,
)
from perfdata.templates.fingerprint import fingerprint_database
from perfdata.templates.marks import Kind
from perfdata.templates.swap import obstacle, rows_written
from perfdata.templates.template import clone, log_bytes, open_work, seal_template

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from perfdata.config import Settings
    from perfdata.load.plan import Plan
    from perfdata.load.private import PrivateDatabase
    from perfdata.postgres.catalog import Catalog
    from perfdata.postgres.link import Link
    from perfdata.progress import Report
    from perfdata.snapshot.format.manifest import Manifest
    from perfdata.snapshot.options import RestoreOptions
    from perfdata.templates.databases import Database, TargetDatabase

# The version of how templates are made, part of every key: older templates are not found.
VERSION = 7
INSUFFICIENT_PRIVILEGE = "42501"

_SIZES = """
SELECT current_user, pg_database_size(current_database()),
  coalesce(sum(pg_total_relation_size(oid)), 0)::bigint
FROM unnest(%s::oid[]) t (oid)"""


@dataclass(frozen=True)
class TemplateRequest:
    """The template that a target needs, determined before anything is changed.

    Attributes:
        database: the target's name.
        plan: how the template's tables are filled.
        fingerprint: a hash of everything in the target that the load does not replace.
        key: a hash of everything that decides what is in the template.
        search_path: the search path of the target's sessions.
        seen: rows ever written in the target when it was examined (see swap.rows_written), or None.
        size_bytes, emptied_bytes: the sizes of the target, and of its tables that are filled.
    """

    database: str
    plan: Plan
    fingerprint: str
    key: str
    search_path: str
    seen: int | None
    size_bytes: int
    emptied_bytes: int


@contextmanager
def connect_target(
    conninfo: str, settings: Settings, report: Report | None = None, *, terminate: bool = False
) -> Iterator[TargetDatabase]:
    """Connect to a server's maintenance database, over which the target is cloned or replaced.

    With ``report``, first wait for other restores that replace the target, and keep later ones
    waiting: a restore gives the target's name to another database. Raises NoClonesError if the role
    can't connect.
    """
    name = database_name(conninfo)
    with ExitStack() as stack:
        try:
            link, maintenance = stack.enter_context(maintenance_link(conninfo))
        except ConnectError as error:
            raise NoClonesError(str(error)) from error
        if report is not None:
            lock_target(link, name, report)
        yield find_target(link, maintenance, name, settings, terminate=terminate)


def refuse_obstacle(target: TargetDatabase) -> None:
    """Raise NoClonesError if this role can't replace the target."""
    if reason := obstacle(target):
        raise NoClonesError(reason)


def refuse_pooler(link: Link, target: TargetDatabase) -> None:
    """Raise NoClonesError if a link to the target leads to another database."""
    if not is_target(link, target):
        raise NoClonesError(
            f"{target.name} is reached by way of a pooler, which gives another database that name"
        )


def plan_template(
    link: Link, manifest: Manifest, settings: Settings, options: RestoreOptions
) -> Plan:
    """Check that a snapshot may be restored (see prepare); return the plan of its template."""
    plan = prepare(link, manifest, settings, options)
    return replace(plan, existing=Existing.ALL, sealed=True)


def request_template(
    link: Link,
    plan: Plan,
    manifest: Manifest,
    fingerprint: str,
    *,
    database: str,
    version: object,
    seen: int | None,
) -> TemplateRequest:
    """Return the template that a target needs; ``version`` says how templates are made."""
    facts = manifest_facts(manifest)
    oids = [table.oid for table in plan.tables]
    role, size_bytes, emptied_bytes = link.rows(_SIZES, (oids,))[0]
    text = json.dumps([version, facts, fingerprint, database, role], sort_keys=True, default=str)
    key = hashlib.sha256(text.encode()).hexdigest()
    return TemplateRequest(
        database, plan, fingerprint, key, link.session_path(), seen, size_bytes, emptied_bytes
    )


def manifest_facts(manifest: Manifest) -> dict[str, Any]:
    """Return everything in a manifest that may decide what is loaded from the file."""
    facts = asdict(manifest)
    for incidental in ("name", "description", "created_at"):
        del facts[incidental]
    return facts


def fingerprint_for(link: Link, plan: Plan, catalog: Catalog | None = None) -> str:
    """Hash everything in a database that a load by this plan does not replace.

    Raises UserCodeError if reading the database would run code of other roles.
    """
    if not plan.as_superuser:
        refuse_user_code(link, link.rows(OTHER_ROLES), read=None)
    return fingerprint_database(link, catalog or plan.catalog, plan.tables, plan.sequences)


def check_template_space(
    target: TargetDatabase, request: TemplateRequest, manifest: Manifest
) -> None:
    """Raise RefusedError if the disk lacks space for a template and its clone.

    The template starts as a clone of the target. The files of its emptied tables are removed when
    the rows are committed; then the template is cloned.
    """
    rows = rows_bytes(manifest.body.bytes, manifest.rows)
    template = request.size_bytes - request.emptied_bytes + rows
    needed = max(request.size_bytes + rows, 2 * template)
    needed += log_bytes(target, request.size_bytes) + log_bytes(target, template)
    what = (
        f"a fresh database needs about {mb(needed)} (a clone of {target.name}, which has "
        f"{mb(request.size_bytes)}, the rows, {mb(rows)}, and a clone of both)"
    )
    run_checks(target.link, [disk_space_check(target.link, needed, what, target.name)])


def check_clone_space(target: TargetDatabase, template: Database) -> None:
    """Raise RefusedError if the disk lacks space for a template's clone."""
    size = int(target.link.value("SELECT pg_database_size(%s::oid)", (template.oid,)))
    needed = size + log_bytes(target, size)
    what = f"the clone of a template needs about {mb(needed)}"
    run_checks(target.link, [disk_space_check(target.link, needed, what, template.name)])


def make_template(
    target: TargetDatabase,
    conninfo: str,
    request: TemplateRequest,
    file: SnapshotFile,
    report: Report,
    *,
    kind: Kind = Kind.TEMPLATE,
    finish: Callable[[Link], None] | None = None,
) -> tuple[Database, tuple[str, ...]]:
    """Clone the target, load a snapshot into the clone and seal it; return notes too.

    ``finish`` is called in the template once the rows are loaded. The caller has checked the disk
    space. The file's bytes are checked
    while the target is cloned, its rows while they are loaded; after an error the clone is dropped.
    """
    plan, manifest = request.plan, file.manifest
    # After an error the clone is dropped first, which ends the executor's work in it.
    with ThreadPoolExecutor(1) as executor:
        checked = executor.submit(check_unchanged, file)
        with working_clone(target) as work:
            checked.result()
            with open_clone(target, work, conninfo, request.search_path) as database:
                if request.seen is None or rows_written(target.link, target.oid) != request.seen:
                    plan = replace(plan, catalog=_check_same(database.link, request))
                loaded = load_private(database, plan, SnapshotRows(file), executor, report)
                if finish is not None:
                    finish(database.link)
            template = seal_template(
                target,
                work,
                request.key,
                manifest.body.sha256,
                kind,
                loads=loaded.transactions,
                filled=[] if manifest.all_rows else filled_tables(plan, manifest.stats),
            )
    return template, loaded.notes


@contextmanager
def working_clone(target: TargetDatabase) -> Iterator[Database]:
    """Clone the target for a block that finishes the clone; after an error it is dropped.

    Raises RefusedError, which names them, if sessions are open in the target.
    """
    source = next(one for one in list_databases(target.link) if one.oid == target.oid)
    work = clone(target, source)
    try:
        yield work
    except BaseException:
        drop_database(target.link, work, force=True)
        raise


@contextmanager
def open_clone(
    target: TargetDatabase, work: Database, conninfo: str, search_path: str
) -> Iterator[PrivateDatabase]:
    """Connect to a clone of the target, which only this role and superusers may enter."""
    open_work(target.link, work)
    with open_private(make_conninfo(conninfo, dbname=work.name), search_path) as database:
        yield database


def check_unchanged(file: SnapshotFile) -> None:
    """Compare a file's bytes with its checksum; raise LoadError if the file was replaced."""
    current = SnapshotFile.open(file.path)
    if not current.manifest.is_same(file.manifest):
        raise LoadError(
            f"snapshot {file.manifest.name} was replaced meanwhile", remedy="Run it again"
        )
    current.check_bytes()


def _check_same(link: Link, request: TemplateRequest) -> Catalog:
    """Return the clone's catalog; raise LoadError if the target changed after it was examined.

    Its foreign keys may have other oids than those examined: a restore that ended meanwhile has
    dropped and added them.
    """
    catalog = read_catalog(link)
    if (
        catalog != request.plan.catalog
        or fingerprint_for(link, request.plan, catalog) != request.fingerprint
    ):
        raise LoadError(f"{request.database} changed while it was cloned", remedy="Run it again")
    return catalog

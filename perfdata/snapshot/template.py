"""The template of a snapshot: the target's clone, emptied and loaded; what it is found by."""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from psycopg.conninfo import make_conninfo

from perfdata.errors import LoadError
from perfdata.load.disk_space import disk_space_check, mb, rows_bytes
from perfdata.load.private import load_private, open_private
from perfdata.postgres.link import run_checks
from perfdata.postgres.reflection import read_catalog
from perfdata.postgres.user_code import OTHER_ROLES, refuse_user_code
from perfdata.snapshot.rows import SnapshotRows
from perfdata.templates.databases import drop_database, list_databases
from perfdata.templates.fingerprint import fingerprint_database
from perfdata.templates.marks import Kind
from perfdata.templates.swap import rows_written
from perfdata.templates.template import clone, log_bytes, open_work, seal_template

if TYPE_CHECKING:
    from collections.abc import Callable

    from perfdata.load.plan import Plan
    from perfdata.postgres.catalog import Catalog
    from perfdata.postgres.link import Link
    from perfdata.progress import Report
    from perfdata.snapshot.format.manifest import Manifest
    from perfdata.snapshot.format.reader import SnapshotFile
    from perfdata.templates.databases import Database, TargetDatabase

_SIZES = """
SELECT pg_database_size(current_database()), coalesce(sum(pg_total_relation_size(oid)), 0)::bigint
FROM unnest(%s::oid[]) t (oid)"""


@dataclass(frozen=True)
class TemplateRequest:
    """Which template a target takes, as found out before anything is done.

    Attributes:
        database: the target's name.
        plan: how the template's tables are filled.
        fingerprint: a hash of everything in the target that the load does not bring.
        key: a hash of everything that decides what is in the template.
        search_path: that of the target's sessions.
        seen: rows ever written in the target when it was examined (see swap.written), or None.
        size_bytes, emptied_bytes: of the target, and of its tables that are filled.
    """

    database: str
    plan: Plan
    fingerprint: str
    key: str
    search_path: str
    seen: int | None
    size_bytes: int
    emptied_bytes: int


def request_template(
    link: Link,
    plan: Plan,
    manifest: Manifest,
    fingerprint: str,
    *,
    database: str,
    role: str,
    way: object,
    seen: int | None,
) -> TemplateRequest:
    """Say which template a target takes; ``way`` tells apart templates made in other ways."""
    facts = asdict(manifest)
    for incidental in ("name", "description", "created_at"):
        del facts[incidental]
    text = json.dumps([way, facts, fingerprint, database, role], sort_keys=True, default=str)
    key = hashlib.sha256(text.encode()).hexdigest()
    size, emptied = link.rows(_SIZES, ([table.oid for table in plan.tables],))[0]
    return TemplateRequest(
        database, plan, fingerprint, key, link.session_path(), seen, int(size), int(emptied)
    )


def fingerprint_for(link: Link, plan: Plan, catalog: Catalog | None = None) -> str:
    """Hash all that is in a database but what a load by this plan brings or moves.

    Raises UserCodeError where to read the database would run code of other roles.
    """
    if not plan.as_superuser:
        refuse_user_code(link, link.rows(OTHER_ROLES), read=None)
    return fingerprint_database(link, catalog or plan.catalog, plan.tables, plan.sequences)


def check_template_space(
    target: TargetDatabase, request: TemplateRequest, manifest: Manifest
) -> None:
    """Raise RefusedError where the disk lacks room for a template and its clone.

    The template begins as a clone of the target; the files of its emptied tables are removed when
    the rows are committed, and the finished one is cloned.
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
    """Raise RefusedError where the disk lacks room for a template's clone."""
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
    """Clone the target, load a snapshot into the clone, and seal it; return notes for the user.

    ``finish`` is done in the template when the rows are loaded. The file's bytes are checked while
    the target is cloned, its rows while they are loaded: an error throws the clone away.
    """
    plan, manifest = request.plan, file.manifest
    check_template_space(target, request, manifest)
    source = next(one for one in list_databases(target.link) if one.oid == target.oid)
    # After an error the clone is dropped first, which ends what the executor does in it.
    with ThreadPoolExecutor(1) as executor:
        checked = executor.submit(file.check_bytes)
        work = clone(target, source)
        try:
            checked.result()
            open_work(target.link, work)
            work_conninfo = make_conninfo(conninfo, dbname=work.name)
            with open_private(work_conninfo, request.search_path) as database:
                if request.seen is None or rows_written(target.link, target.oid) != request.seen:
                    plan = replace(plan, catalog=_check_same(database.link, request))
                notes = load_private(database, plan, SnapshotRows(file), executor, report)
                if finish is not None:
                    finish(database.link)
            template = seal_template(target, work, request.key, manifest.body.sha256, kind)
        except BaseException:
            drop_database(target.link, work, force=True)
            raise
    return template, notes


def _check_same(link: Link, request: TemplateRequest) -> Catalog:
    """Raise LoadError where the clone is not what was examined; return its catalog.

    A restore that ended meanwhile has given the foreign keys other oids.
    """
    catalog = read_catalog(link)
    if (
        catalog != request.plan.catalog
        or fingerprint_for(link, request.plan, catalog) != request.fingerprint
    ):
        raise LoadError(f"{request.database} changed while it was cloned; run it again")
    return catalog

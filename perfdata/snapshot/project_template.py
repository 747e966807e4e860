"""Templates that a project makes: its migrations run in a new database, a snapshot is loaded.

No row and no definition comes from the target, so whatever somebody did there does not matter.
Rows that migrations insert stay, except in tables that the snapshot has whole. The migrated
database becomes a template too, from which those of other snapshots are cloned.
"""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from psycopg import sql
from psycopg.conninfo import make_conninfo

from perfdata.errors import (
    GuardError,
    LoadError,
    MigrationError,
    ProjectCodeError,
    RefusedError,
    SchemaError,
)
from perfdata.load.disk_space import disk_space_check, mb, rows_bytes
from perfdata.load.maintenance import freeze_and_analyse
from perfdata.load.plan import Existing
from perfdata.load.private import load_private, open_private
from perfdata.migrations.history import read_history, tables_digest
from perfdata.postgres.connection import open_link
from perfdata.postgres.link import run_checks
from perfdata.progress import Event
from perfdata.project import Migrations
from perfdata.snapshot.checks.staleness import compare_migrations
from perfdata.snapshot.options import RestoreOptions
from perfdata.snapshot.prepare import plan_restore
from perfdata.snapshot.rows import SnapshotRows
from perfdata.snapshot.template import check_unchanged, manifest_facts
from perfdata.target.target import make_tables
from perfdata.templates.databases import drop_database
from perfdata.templates.marks import Kind
from perfdata.templates.new_database import (
    Blueprint,
    create_database,
    empty_bytes,
    open_with_settings,
    read_blueprint,
)
from perfdata.templates.template import clone, log_bytes, seal_template, use_template

if TYPE_CHECKING:
    from perfdata.config import Settings
    from perfdata.errors import PerfdataError
    from perfdata.load.plan import Plan
    from perfdata.postgres.link import Link
    from perfdata.progress import Report
    from perfdata.project import Project
    from perfdata.snapshot.format.manifest import Manifest
    from perfdata.snapshot.format.reader import SnapshotFile
    from perfdata.target.target import Target
    from perfdata.templates.databases import Database, TargetDatabase

# The version of how templates are made, part of every key: older templates are not found.
_VERSION = ("project", 2)
_SERVER = "SELECT current_user, current_setting('server_version_num')"


@dataclass(frozen=True)
class ProjectRequest:
    """The template that a project makes for a target.

    ``key`` finds it again, ``migrated_key`` the one that has only what the migrations made.
    """

    project: Project
    blueprint: Blueprint
    migrated_key: str
    key: str


def request_project_template(
    target: Target, database: TargetDatabase, manifest: Manifest
) -> ProjectRequest | None:
    """Return the template that the target's project makes for a snapshot.

    None if there is no project, if it does not make tables, or if the snapshot was made with other
    migrations than the present ones. None too if the project's own command would run for a database
    given by URL: it can't be held to a new database on that server.
    """
    project = target.project
    if project is None or not project.makes_tables:
        return None
    if isinstance(project.migrations, Migrations) and not target.embedded:
        return None
    history = read_history(project)
    differences = compare_migrations(manifest.migrations, history.migrations)
    if any((differences.only_snapshot, differences.newer, differences.changed)):
        return None
    blueprint = read_blueprint(database)
    migrated_key = _key(
        _VERSION,
        [(migration.revision, migration.sha256) for migration in history.migrations],
        sorted(history.files.items()),
        tables_digest(project) if project.tables_from_metadata else None,
        database.name,
        database.link.rows(_SERVER),
        blueprint,
    )
    key = _key(migrated_key, manifest_facts(manifest))
    return ProjectRequest(project, blueprint, migrated_key, key)


def _key(*facts: object) -> str:
    text = json.dumps(facts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def lacks_something(error: PerfdataError) -> bool:
    """Tell whether an error shows that migrations or rows need what a new database lacks.

    Others, such as one of the server or of the guard, would stop a clone of the target too.
    """
    lacking = (RefusedError, LoadError, MigrationError, ProjectCodeError, SchemaError)
    return isinstance(error, lacking) and not isinstance(error, GuardError)


def make_project_template(
    target: Target,
    database: TargetDatabase,
    request: ProjectRequest,
    file: SnapshotFile,
    report: Report,
) -> Database:
    """Load a snapshot into a clone of the migrated database, and seal it.

    After an error the clone is dropped. Raises what make_tables and restore_snapshot raise.
    """
    manifest = file.manifest
    migrated = use_template(database.link, request.migrated_key, Kind.PERF)
    work = clone(database, migrated or _migrate(target, database, request, report))
    # After an error the database is dropped first, which ends the executor's work in it.
    with ThreadPoolExecutor(1) as executor:
        checked = executor.submit(check_unchanged, file)
        try:
            open_with_settings(database, work, request.blueprint)
            conninfo = make_conninfo(target.conninfo, dbname=work.name)
            checked.result()
            with open_link(conninfo) as link:
                plan, search_path = (
                    plan_migrated(link, target.settings, manifest),
                    link.session_path(),
                )
                remove_flagged(link, plan)
            with open_private(conninfo, search_path) as private:
                load_private(private, plan, SnapshotRows(file), executor, report)
                freeze_and_analyse(private.link)
            return seal_template(database, work, request.key, manifest.body.sha256, Kind.PERF)
        except BaseException:
            drop_database(database.link, work, force=True)
            raise


def _migrate(
    target: Target, database: TargetDatabase, request: ProjectRequest, report: Report
) -> Database:
    """Make the project's tables in a new database, and seal it."""
    name = request.project.name
    report(Event(f"making the tables of project {name} in a new database, for perf tests"))
    work = create_database(database, request.blueprint)
    try:
        open_with_settings(database, work, request.blueprint)
        conninfo = make_conninfo(target.conninfo, dbname=work.name)
        make_tables(conninfo, request.project)
        return seal_template(database, work, request.migrated_key, "", Kind.PERF)
    except BaseException:
        drop_database(database.link, work, force=True)
        raise


def plan_migrated(link: Link, settings: Settings, manifest: Manifest) -> Plan:
    """Check that a snapshot fits a new, migrated database; return the plan that loads it there."""
    options = RestoreOptions(unflagged_rows=True)
    plan = plan_restore(link, manifest, settings, options, private=True)
    return keep_unflagged(link, plan)


def keep_unflagged(link: Link, plan: Plan) -> Plan:
    """Plan to replace all rows of a private database but unflagged ones (see remove_flagged)."""
    partly = [table for table in plan.tables if not plan.selection.takes_whole(table)]
    query = sql.SQL("SELECT count(*) FROM {} WHERE {}")
    counts = link.together(
        query.format(table.only, plan.selection.unflagged(table)) for table in partly
    )
    staying = {table.key: rows for table, ((rows,),) in zip(partly, counts, strict=True) if rows}
    return replace(plan, existing=Existing.ALL, staying=staying, sealed=True)


def remove_flagged(link: Link, plan: Plan) -> None:
    """Remove the flagged rows that migrations inserted beside others, as a restore would."""
    selection = plan.selection
    tables = selection.children_first(t for t in plan.tables if t.key in plan.staying)
    delete = sql.SQL("DELETE FROM {} WHERE {}")
    link.together(delete.format(table.only, selection.flagged(table)) for table in tables)


def check_project_space(database: TargetDatabase, manifest: Manifest) -> None:
    """Raise RefusedError if the disk lacks space for a template and its clone."""
    size = empty_bytes(database.link) + rows_bytes(manifest.body.bytes, manifest.rows)
    needed = 2 * size + log_bytes(database, size)
    what = f"a template of {manifest.name} and its clone need about {mb(needed)}"
    run_checks(database.link, [disk_space_check(database.link, needed, what, database.name)])

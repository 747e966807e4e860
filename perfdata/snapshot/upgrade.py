"""Upgrade a snapshot: carry its rows through the migrations that were added since.

A scratch database is migrated to the snapshot's revision and loaded, then migrated to the heads and
saved. The new file replaces the old one once its rows have been read back and checked.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from perfdata.config import Settings
from perfdata.errors import MigrationError, SchemaError, SnapshotStaleError
from perfdata.load.loader import load
from perfdata.migrations.history import migrate, read_history
from perfdata.postgres.connection import conninfo_of, open_link
from perfdata.postgres.locks import LOCK_TIMEOUT_S
from perfdata.progress import Event, silent
from perfdata.project import Migrations, load_project
from perfdata.snapshot.checks.staleness import compare_migrations, migrations_and_files
from perfdata.snapshot.create import create, writable_path
from perfdata.snapshot.options import CreateOptions
from perfdata.snapshot.project_template import plan_migrated, remove_flagged
from perfdata.snapshot.rows import SnapshotRows
from perfdata.snapshot.store import find_snapshot
from perfdata.snapshot.template import connect_target
from perfdata.target.guard import check_guard
from perfdata.templates.new_database import check_createdb, scratch_database
from perfdata.text import join_first

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from perfdata.progress import Report
    from perfdata.project import Project
    from perfdata.snapshot.store import Snapshot


@dataclass(frozen=True)
class UpgradePlan:
    """The heads of a snapshot's migrations, and the revisions that have not run in it, in order."""

    snapshot: Snapshot
    project: Project
    heads: tuple[str, ...]
    revisions: tuple[str, ...]


@dataclass(frozen=True)
class Upgraded:
    """A finished upgrade; without ``revisions`` there was nothing to do.

    ``rows_before`` has the number of rows by table; the snapshot's manifest has the present ones.
    """

    snapshot: Snapshot
    heads: tuple[str, ...]
    revisions: tuple[str, ...]
    rows_before: Mapping[str, int]
    duration_s: float


def upgrade_snapshot(
    database: object,
    name: str,
    *,
    lock_timeout_s: float = LOCK_TIMEOUT_S,
    settings: Settings | None = None,
    report: Report = silent,
) -> Upgraded:
    """Run the project's newer migrations on a snapshot's rows, and replace its file.

    Args:
        database: a URL or an Engine. A scratch database is made on its server and dropped; the
            database itself is only checked against the guard, and locked against restores with
            ``fresh=True``.
        name: the snapshot's name.
        lock_timeout_s: how many seconds to wait for locks.
        settings: those of the current folder by default.
        report: called with progress.

    Raises SnapshotNotFoundError, SnapshotDamagedError, SnapshotStaleError if migrations have been
    edited since, GuardError, PrivilegesError without CREATEDB, MigrationError, and what
    restore_snapshot and create_snapshot raise. The old file is kept then.
    """
    began = time.perf_counter()
    settings = settings or Settings.load()
    plan = plan_upgrade(name, settings)
    manifest = plan.snapshot.manifest
    snapshot = plan.snapshot
    if plan.revisions:
        writable_path(name, settings)
        conninfo = conninfo_of(database)
        check_server(conninfo, settings)
        snapshot = _upgrade(conninfo, plan, settings, lock_timeout_s, report)
    duration_s = time.perf_counter() - began
    return Upgraded(snapshot, plan.heads, plan.revisions, dict(manifest.stats), duration_s)


def plan_upgrade(name: str, settings: Settings) -> UpgradePlan:
    """Compare a snapshot's migrations with the project's; raise as upgrade_snapshot does."""
    snapshot, project = find_snapshot(name, settings), load_project(settings)
    if project.migrations is None:
        raise MigrationError(
            f"project {project.name} has no migrations: there is nothing to upgrade {name} with",
            remedy="Build or create it again",
        )
    if isinstance(project.migrations, Migrations) or project.tables_from_metadata:
        raise MigrationError(
            f"project {project.name} can't make a database at the revision of snapshot {name}: "
            "its tables come from another tool's command, or from metadata",
            remedy="Restore it with allow_drift=True if its rows still fit, and create it again",
        )
    history = read_history(project)
    found = compare_migrations(*migrations_and_files(snapshot.manifest, history))
    if found.only_snapshot:
        raise MigrationError(
            f"snapshot {name} has migrations that project {project.name} does not have: "
            f"{join_first(found.only_snapshot)}",
            remedy="Check out the branch that has them",
        )
    if found.changed:
        raise SnapshotStaleError(
            f"migrations that ran before snapshot {name} was created have changed since: "
            f"{join_first(found.changed)}",
            remedy="Build or create it again",
        )
    applied = [migration.revision for migration in snapshot.manifest.migrations]
    if not applied:
        raise MigrationError(
            f"snapshot {name} was created in a database without migrations, so its tables can't "
            "be made again",
            remedy="Create it again in a migrated database",
        )
    heads = history.heads_of(applied)
    return UpgradePlan(snapshot, project, heads, tuple(history.pending(heads)))


def check_server(conninfo: str, settings: Settings) -> None:
    """Raise GuardError or PrivilegesError if no scratch database may be made on a server."""
    with open_link(conninfo) as link:
        check_guard(link, settings)
        check_createdb(link)


def _upgrade(
    conninfo: str, plan: UpgradePlan, settings: Settings, lock_timeout_s: float, report: Report
) -> Snapshot:
    file = plan.snapshot.open().check()
    manifest, project = file.manifest, plan.project
    with (
        connect_target(conninfo, settings, report) as target,
        scratch_database(target) as scratch,
    ):
        migrate(scratch, project, report, revisions=plan.heads)
        with open_link(scratch) as link, _explain_other_tables(plan):
            migrated = plan_migrated(link, settings, manifest)
            remove_flagged(link, migrated)
            load(link, migrated, SnapshotRows(file), report)
        migrate(scratch, project, report)
        saving = CreateOptions(
            name=manifest.name,
            all_rows=manifest.all_rows,
            replace=True,
            older=manifest,
            lock_timeout_s=lock_timeout_s,
        )
        with open_link(scratch) as link:
            snapshot = create(link, saving, settings, report)
        report(Event(f"saved and verified {snapshot.path.name}"))
        return snapshot


@contextmanager
def _explain_other_tables(plan: UpgradePlan) -> Iterator[None]:
    """Say that it is the scratch database which a snapshot does not fit."""
    try:
        yield
    except SchemaError as error:
        raise SchemaError(
            f"the migrations up to {', '.join(plan.heads)} no longer make the tables that snapshot "
            f"{plan.snapshot.name} was created from: {error.reason}",
            remedy="Its file was not changed. Build or create it again",
        ) from error

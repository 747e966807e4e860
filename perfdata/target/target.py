"""The target: the database that a command works on, on the embedded server or given by a URL."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from filelock import FileLock
from psycopg import sql

from perfdata.errors import MigrationError
from perfdata.migrations.history import (
    MADE_FROM,
    create_tables,
    database_heads,
    migrate,
    read_history,
    tables_digest,
)
from perfdata.postgres.connection import connect, database_name, open_link
from perfdata.postgres.url import describe, normalise_url
from perfdata.progress import silent
from perfdata.project import find_project
from perfdata.server.aside import set_aside_other_major
from perfdata.server.cluster import DATABASE
from perfdata.server.embedded import EmbeddedServer
from perfdata.target.extensions import explained_extensions
from perfdata.target.origin import origin_of, read_origin, record_migrations
from perfdata.target.switch import make_switch, needed_switch, reset_switch
from perfdata.templates.databases import complete_marks, mark_made

if TYPE_CHECKING:
    from perfdata.config import Settings
    from perfdata.postgres.link import Link
    from perfdata.progress import Report
    from perfdata.project import Project
    from perfdata.target.origin import Origin
    from perfdata.target.switch import Switch

_DATABASE = """
SELECT oid, shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = %s"""


@dataclass(frozen=True)
class Target:
    """The database that a command works on; never print ``conninfo``, which may have a password."""

    settings: Settings
    conninfo: str = field(repr=False)
    embedded: bool

    @property
    def project(self) -> Project | None:
        """The project of the settings, None if none is configured."""
        return find_project(self.settings)

    def described(self) -> str:
        """Name the database for people, without a password."""
        return f"{DATABASE} on the embedded server" if self.embedded else describe(self.conninfo)


def open_target(settings: Settings, report: Report = silent, *, park: bool = True) -> Target:
    """Return the database of the settings, ready for use.

    On the embedded server, which is started, it is created and migrated if need be. If it can't be
    migrated in place, because it is at other migrations or was made from other metadata, it is
    parked, and the database that was parked at the project's present state is taken back or a new
    one is created. With ``park=False`` MigrationError is raised instead. A database given by URL is
    only connected to; ``db.migrate`` migrates it. Raises ConnectError, ServerError, RefusedError if
    sessions are open in a database to be parked, and what migrate and create_tables raise.
    """
    target = start_target(settings, report)
    if not target.embedded:
        return target
    with _migrate_lock(settings):
        project = target.project
        if project is not None:
            origin = _read_origin(target)
            switch = needed_switch(target.conninfo, origin, project)
            if switch is not None and not park:
                raise _needs_switch(target, switch)
            if switch is not None:
                _switch(target, switch, report)
                origin = _read_origin(target)
            _upgrade(target, origin, project, report)
    return target


def reset_target(settings: Settings, report: Report = silent) -> Target:
    """Park the embedded database, whatever its state, and create a new one, ready for use.

    Data that another major version of PostgreSQL created are set aside first.
    """
    set_aside_other_major(settings, report)
    EmbeddedServer(settings, report).start()
    with _migrate_lock(settings):
        target = reachable_target(settings)
        if target is not None:
            _switch(target, expected_reset(target), report)
    return open_target(settings, report)


def _switch(target: Target, switch: Switch, report: Report) -> None:
    make_switch(target.conninfo, switch, target.project, target.settings, report)
    _create_database(EmbeddedServer(target.settings, report))


def _upgrade(target: Target, origin: Origin, project: Project, report: Report) -> None:
    """Bring a database that needs no switch to the project's present state."""
    behind = bool(read_history(project).pending(origin.heads))
    if origin.recorded != origin_of(project).recorded:
        _record(target, project)  # before the migrations run
    if behind or (project.has_only_metadata and origin.tables is None):
        with explained_extensions(target.conninfo, target.settings):
            make_tables(target.conninfo, project, report)


def _read_origin(target: Target) -> Origin:
    with open_link(target.conninfo) as link:
        return read_origin(link, target.project)


def _record(target: Target, project: Project) -> None:
    with open_link(target.conninfo) as link:
        record_migrations(link, database_name(target.conninfo), project)


def _needs_switch(target: Target, switch: Switch) -> MigrationError:
    return MigrationError(
        f"{target.described()} can't be migrated in place: {switch.reason}",
        remedy=f"{target.settings.command('db.migrate')} {switch.outcome}",
    )


def make_tables(conninfo: str, project: Project, report: Report = silent) -> None:
    """Make the project's tables in a database, or bring them up to date.

    Raises what migrate and create_tables raise.
    """
    if project.has_only_metadata:
        create_tables(conninfo, project, report)
    else:
        migrate(conninfo, project, report)


def start_target(settings: Settings, report: Report = silent) -> Target:
    """Return the database of the settings, which accepts connections; nothing is migrated.

    The embedded server is started, and its database created if there is none.
    """
    if settings.database_url is not None:
        target = Target(settings, normalise_url(settings.database_url), embedded=False)
        connect(target.conninfo).close()
        return target
    server = EmbeddedServer(settings, report)
    server.start()
    with _migrate_lock(settings):
        _create_database(server)
    return Target(settings, server.conninfo(DATABASE), embedded=True)


def ready_target(settings: Settings) -> Target | None:
    """Return the database of the settings if it is ready for use; change nothing.

    None if open_target would start the embedded server, or create, park or migrate its database.
    """
    target = reachable_target(settings)
    if target is None or (target.embedded and _is_behind(target)):
        return None
    return target


def expected_switch(settings: Settings) -> Switch | None:
    """Return the switch that open_target would make, None if there is none; change nothing."""
    target = reachable_target(settings)
    if target is None or not target.embedded or target.project is None:
        return None
    return needed_switch(target.conninfo, _read_origin(target), target.project)


def reachable_target(settings: Settings) -> Target | None:
    """Return the database of the settings; start and create nothing.

    None if the embedded server is not running or has no database. One given by URL is not
    connected to.
    """
    if settings.database_url is not None:
        return Target(settings, normalise_url(settings.database_url), embedded=False)
    server = EmbeddedServer(settings)
    if not server.status().running:
        return None
    target = Target(settings, server.conninfo(DATABASE), embedded=True)
    with open_link(server.conninfo("postgres")) as link:
        return target if link.rows(_DATABASE, (DATABASE,)) else None


def expected_reset(target: Target) -> Switch:
    """Return the switch that reset_target would make on a target that is reachable."""
    return reset_switch(target.conninfo, _read_origin(target))


def _migrate_lock(settings: Settings) -> FileLock:
    """Return the lock under which the embedded database is created and migrated.

    A file, not an advisory lock: a session that waits for an advisory lock holds a snapshot, which
    blocks the CREATE INDEX CONCURRENTLY of a migration.
    """
    return FileLock(settings.make_home() / "migrate.lock")


def _create_database(server: EmbeddedServer) -> None:
    with open_link(server.conninfo("postgres")) as link:
        found = link.rows(_DATABASE, (DATABASE,))
        if not found:
            link.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))
        if not found or found[0][1] is None:  # the process that created it was killed
            mark_made(link, DATABASE)
        complete_marks(link)


def _is_behind(target: Target) -> bool:
    project = target.project
    if project is None:
        return False
    origin = _read_origin(target)
    if needed_switch(target.conninfo, origin, project) is not None:
        return True
    return bool(read_history(project).pending(origin.heads))


def pending_migrations(target: Target, project: Project) -> list[str]:
    """Return the revisions that have not run in the target, in the order in which they will.

    Raises MigrationError if the target is at a revision that the project doesn't have.
    """
    history = read_history(project)
    with open_link(target.conninfo) as link:
        heads = database_heads(link, history)
    unknown = [
        migration.revision for migration in history.applied(heads) if migration.sha256 is None
    ]
    if unknown:
        raise MigrationError(
            f"{target.described()} is at migration {', '.join(unknown)}, which project "
            f"{project.name} does not have",
            remedy="Check out the branch that has it",
        )
    return history.pending(heads)


def check_tables(link: Link, project: Project, target: Target) -> None:
    """Raise MigrationError if a database's tables were not made from the present metadata."""
    if link.value(MADE_FROM) != tables_digest(project):
        raise MigrationError(
            f"the tables of {target.described()} were not made from the present metadata of "
            f"project {project.name}",
            remedy=f"Run: {target.settings.command('db.migrate')}",
        )

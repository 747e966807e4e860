"""The target: the database that a command works on, on the embedded server or given by a URL."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from filelock import FileLock
from psycopg import sql

from perfdata.config import BUNDLED_PROJECT
from perfdata.errors import MigrationError
from perfdata.postgres.connection import connect, open_link
from perfdata.postgres.url import describe, normalise_url
from perfdata.progress import silent
from perfdata.project import load_project
from perfdata.server.cluster import DATABASE
from perfdata.server.embedded import EmbeddedServer
from perfdata.target.migrations import (
    MADE_FROM,
    create_tables,
    database_heads,
    migrate,
    read_history,
    tables_digest,
)
from perfdata.templates.databases import complete_marks, mark_made

if TYPE_CHECKING:
    from perfdata.config import Settings
    from perfdata.postgres.link import Link
    from perfdata.progress import Report
    from perfdata.project import Project

_DATABASE = "SELECT oid FROM pg_database WHERE datname = %s"


@dataclass(frozen=True)
class Target:
    """The database that a command works on; never print ``conninfo``, which may have a password."""

    settings: Settings
    conninfo: str = field(repr=False)
    embedded: bool

    @property
    def project(self) -> Project | None:
        """The project whose database this is (see project_of)."""
        return _project(self.settings, embedded=self.embedded)

    def described(self) -> str:
        """Name the database for people, without a password."""
        return f"{DATABASE} on the embedded server" if self.embedded else describe(self.conninfo)


def project_of(link: Link, settings: Settings) -> Project | None:
    """Return the project whose database this is.

    None for a database given by URL if no project is configured: the bundled project applies to
    the embedded server only.
    """
    return _project(settings, embedded=EmbeddedServer(settings).owns(link))


def _project(settings: Settings, *, embedded: bool) -> Project | None:
    bundled_by_default = not settings.configured and settings.project == BUNDLED_PROJECT
    if bundled_by_default and not embedded:
        return None
    return load_project(settings)


def open_target(settings: Settings, report: Report = silent) -> Target:
    """Return the database of the settings, ready for use.

    On the embedded server, which is started, it is created and migrated if need be. One given by
    URL is only connected to; ``db.migrate`` migrates it. Raises ConnectError, ServerError, and
    what migrate and create_tables raise.
    """
    target = start_target(settings, report)
    if not target.embedded:
        return target
    with _migrate_lock(settings):
        project = target.project
        if project is not None and project.tables_from_metadata:
            create_tables(target.conninfo, project, target.settings, report)
        elif project is not None and _is_behind(target):
            migrate(target.conninfo, project, report)
    return target


def make_tables(
    conninfo: str, project: Project, settings: Settings, report: Report = silent
) -> None:
    """Make the project's tables in an empty database.

    Raises what migrate and create_tables raise.
    """
    if project.migrations is None:
        create_tables(conninfo, project, settings, report)
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

    None if open_target would start the embedded server, or create or migrate its database.
    """
    target = reachable_target(settings)
    if target is None or (target.embedded and _is_behind(target)):
        return None
    return target


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


def _migrate_lock(settings: Settings) -> FileLock:
    """Return the lock under which the embedded database is created and migrated.

    A file, not an advisory lock: a session that waits for an advisory lock holds a snapshot, which
    blocks the CREATE INDEX CONCURRENTLY of a migration.
    """
    return FileLock(settings.make_home() / "migrate.lock")


def _create_database(server: EmbeddedServer) -> None:
    with open_link(server.conninfo("postgres")) as link:
        if not link.rows(_DATABASE, (DATABASE,)):
            link.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))
            mark_made(link, DATABASE)
        else:
            complete_marks(link)


def _is_behind(target: Target) -> bool:
    project = target.project
    if project is None or project.migrations is None:
        return False
    return bool(pending_migrations(target, project))


def pending_migrations(target: Target, project: Project) -> list[str]:
    """Return the revisions that have not run in the target, in the order in which they will.

    Raises MigrationError if the target is at a revision that the project doesn't have.
    """
    history = read_history(project)
    with open_link(target.conninfo) as link:
        heads = database_heads(link)
    unknown = [
        migration.revision for migration in history.applied(heads) if migration.sha256 is None
    ]
    if unknown:
        remedy = "Check out the branch that has it"
        if target.embedded:
            remedy += (
                f", or remove the embedded server's data ({target.settings.command('db.stop')}, "
                "then delete the folder that db.status names)"
            )
        raise MigrationError(
            f"{target.described()} is at migration {', '.join(unknown)}, which project "
            f"{project.name} does not have",
            remedy=remedy,
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

"""The database that a command works on: the embedded one, or the one that a URL names."""

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
    """The database that a command works on; ``conninfo`` may hold a password: never print it."""

    settings: Settings
    conninfo: str = field(repr=False)
    embedded: bool

    @property
    def project(self) -> Project | None:
        """The project whose database this is (see project_of)."""
        return _project(self.settings, embedded=self.embedded)

    def described(self) -> str:
        """Name the database for people, with no password."""
        return f"{DATABASE} on the embedded server" if self.embedded else describe(self.conninfo)


def project_of(link: Link, settings: Settings) -> Project | None:
    """Return the project whose database this is.

    None for a database given by URL where no project is configured: the bundled one is there on
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

    The embedded server is started, its database made and migrated. One that is given by URL is
    only connected to: it is migrated by ``db.migrate`` alone.
    """
    target = start_target(settings, report)
    if not target.embedded:
        return target
    with _migrate_lock(settings):
        project = target.project
        if project is not None and project.tables_from_metadata:
            create_tables(target.conninfo, project, report)
        elif (behind := _unmigrated(target)) is not None:
            migrate(target.conninfo, behind, report)
    return target


def start_target(settings: Settings, report: Report = silent) -> Target:
    """Return the database of the settings, there to be connected to; nothing is migrated.

    The embedded server is started, and an empty database made where there is none.
    """
    if settings.database_url is not None:
        target = Target(settings, normalise_url(settings.database_url), embedded=False)
        connect(target.conninfo).close()
        return target
    server = EmbeddedServer(settings, report)
    server.start()
    with _migrate_lock(settings):
        _make_database(server)
    return Target(settings, server.conninfo(DATABASE), embedded=True)


def ready_target(settings: Settings) -> Target | None:
    """Return the database of the settings where it is ready for use as it stands, changing nothing.

    None where open_target would start the embedded server, or make or migrate its database.
    """
    target = reachable_target(settings)
    if target is None or (target.embedded and _unmigrated(target)):
        return None
    return target


def reachable_target(settings: Settings) -> Target | None:
    """Return the database of the settings where it is there; nothing is started or made."""
    if settings.database_url is not None:
        return Target(settings, normalise_url(settings.database_url), embedded=False)
    server = EmbeddedServer(settings)
    if not server.status().running:
        return None
    target = Target(settings, server.conninfo(DATABASE), embedded=True)
    with open_link(server.conninfo("postgres")) as link:
        return target if link.rows(_DATABASE, (DATABASE,)) else None


def _migrate_lock(settings: Settings) -> FileLock:
    """Return the lock under which the embedded database is made and migrated.

    A file, not an advisory lock: whoever waits for one keeps an index from being built
    concurrently, as migrations do.
    """
    return FileLock(settings.make_home() / "migrate.lock")


def _make_database(server: EmbeddedServer) -> None:
    with open_link(server.conninfo("postgres")) as link:
        if not link.rows(_DATABASE, (DATABASE,)):
            link.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))
            mark_made(link, DATABASE)
        else:
            complete_marks(link)


def _unmigrated(target: Target) -> Project | None:
    """Return the project whose migrations have not all run; None where there is nothing to run."""
    project = target.project
    if project is None or project.migrations is None or project.tables_from_metadata:
        return None
    return project if pending_migrations(target, project) else None


def pending_migrations(target: Target, project: Project) -> list[str]:
    """Return the revisions that have not run; MigrationError where it stands on strange ones."""
    history = read_history(project)
    with open_link(target.conninfo) as link:
        heads = database_heads(link)
    remedy = ""
    if target.embedded:
        remedy = (
            f", or remove the embedded server's data ({target.settings.command('db.stop')}, then "
            "delete the folder that db.status names)"
        )
    if strange := [one.revision for one in history.applied(heads) if one.sha256 is None]:
        raise MigrationError(
            f"{target.described()} stands on migration {', '.join(strange)}, which project "
            f"{project.name} does not have: another branch was here? Go back to it{remedy}"
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

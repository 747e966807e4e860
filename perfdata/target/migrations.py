"""Migrations, and tables made from metadata: what a project has and what a database lacks.

The project's code runs in a child process (see job): nothing here imports Alembic or SQLAlchemy.
"""

from __future__ import annotations

import hashlib
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from psycopg import sql

from perfdata.config import Settings, program
from perfdata.errors import MigrationError, PrivilegesError
from perfdata.postgres.catalog import VersionTable
from perfdata.postgres.connection import explicit_conninfo, open_link
from perfdata.postgres.reflection import IS_VERSION_TABLE, VERSION_TABLE
from perfdata.postgres.url import describe
from perfdata.progress import silent
from perfdata.project import Migration
from perfdata.target.job import Job, run_job

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from perfdata.postgres.link import AnyQuery, Link, Rows
    from perfdata.progress import Report
    from perfdata.project import Project

# The digest of the metadata that a database's tables were made from, or null.
MADE_FROM = "SELECT nullif(current_setting('perfdata.tables', true), '')"
# The statements of that metadata, packed (see target/ddl.py), or null.
MADE_BY = "SELECT nullif(current_setting('perfdata.ddl', true), '')"
_VERSIONS = f"""
SELECT n.nspname, c.relname, false,
  CASE WHEN NOT has_table_privilege(c.oid, 'SELECT') THEN quote_ident(current_user) END
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relname = %s AND c.relpersistence <> 't' AND {IS_VERSION_TABLE}
ORDER BY 1"""  # noqa: S608  both are constants


@dataclass(frozen=True)
class History:
    """A project's migrations: parents before children, unrelated ones by revision id.

    ``parents`` and ``paths`` are by revision; a path is the same on every machine. ``heads`` are
    Alembic's, including a head that another head depends on, which Alembic never writes to a
    database's alembic_version.
    """

    migrations: tuple[Migration, ...]
    parents: Mapping[str, Sequence[str]]
    paths: Mapping[str, str] = field(default_factory=dict)
    heads: tuple[str, ...] = ()

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> History:
        """Make a history of the fields that asdict returned."""
        migrations = tuple(Migration(**migration) for migration in fields["migrations"])
        return cls(migrations, fields["parents"], fields["paths"], tuple(fields["heads"]))

    def pending(self, heads: Iterable[str]) -> list[str]:
        """Return the revisions that have not run in a database at ``heads``."""
        applied = {migration.revision for migration in self.applied(heads)}
        revisions = (migration.revision for migration in self.migrations)
        return [revision for revision in revisions if revision not in applied]

    def applied(self, heads: Iterable[str]) -> tuple[Migration, ...]:
        """Return the migrations that have run in a database at ``heads``.

        Revisions that the project doesn't have come last, without a hash.
        """
        queue, revisions = list(heads), set[str]()
        while queue:
            revision = queue.pop()
            if revision not in revisions:
                revisions.add(revision)
                queue += self.parents.get(revision, ())
        known = tuple(found for found in self.migrations if found.revision in revisions)
        unknown = sorted(revisions - self.parents.keys())
        return (*known, *(Migration(revision, None) for revision in unknown))


class _Cached(NamedTuple):
    """A history, and the state of the files that it was read from."""

    history: History
    folders: Sequence[str]
    stamp: str


_histories: dict[Path, _Cached] = {}
# By import path and name of the metadata: a process imports a module once.
_digests: dict[tuple[tuple[str, ...], str | None], str] = {}


def read_history(project: Project | None) -> History:
    """Read and hash a project's migrations; without any the history is empty.

    The result is cached until one of the files changes.
    """
    if project is None or project.migrations is None:
        return History((), {})
    cached = _histories.get(project.migrations)
    if cached is not None and cached.stamp == hash_file_stats(cached.folders):
        return cached.history
    job = Job("read_history", project.name, migrations=str(project.migrations))
    return _cache(project.migrations, run_job(job))


def hash_file_stats(paths: Iterable[str]) -> str:
    """Hash the names, sizes and modification times of files, and of Python files in folders."""
    digest = hashlib.sha256()
    for place in map(Path, paths):
        for path in [place] if place.is_file() else sorted(place.rglob("*.py")):
            stat = path.stat()
            digest.update(f"{path}\0{stat.st_size}\0{stat.st_mtime_ns}\0".encode())
    return digest.hexdigest()


def _cache(migrations: Path, answer: Mapping[str, Any]) -> History:
    cached = _Cached(History.from_fields(answer), answer["folders"], answer["stamp"])
    _histories[migrations] = cached
    return cached.history


def database_heads(link: Link) -> tuple[str, ...]:
    """Return the revisions in a database's alembic_version, sorted; none if there is no table."""
    tables = [VersionTable(*row) for row in link.rows(_VERSIONS, (VERSION_TABLE,))]
    return heads_of(link.together(version_queries(tables)))


def version_queries(tables: Collection[VersionTable]) -> list[AnyQuery]:
    """Make the queries for the revisions in Alembic's tables.

    Raises PrivilegesError, with the GRANT lines, for tables that the role may not read.
    """
    if closed := [table for table in tables if table.denied is not None]:
        raise PrivilegesError(
            f"refused, nothing was touched: role {closed[0].denied} may not read which migrations "
            "have run in the database",
            [f"GRANT SELECT ON {table.written} TO {table.denied};" for table in closed],
        )
    return [sql.SQL("SELECT version_num FROM {}").format(table.only) for table in tables]


def heads_of(answers: Iterable[Rows]) -> tuple[str, ...]:
    """Return the revisions in the answers to version_queries, sorted."""
    return tuple(sorted({row[0] for rows in answers for row in rows}))


def migrate(conninfo: str, project: Project, report: Report = silent) -> tuple[str, ...]:
    """Bring a database to the project's newest migrations; return their heads.

    The project's env.py runs them: on ``config.attributes["connection"]``, or on the
    ``sqlalchemy.url`` that is set for it. With ``tables_from_metadata``, a database without a
    revision gets the tables of the metadata and is stamped with the heads.

    Raises MigrationError if the project has none, MigrationFailedError if one of them fails,
    ElsewhereError if env.py connects to another database.
    """
    if project.migrations is None:
        raise MigrationError(f"project {project.name} has no migrations")
    job = Job(
        "migrate",
        project.name,
        migrations=str(project.migrations),
        metadata=project.metadata if project.tables_from_metadata else None,
        conninfo=explicit_conninfo(conninfo),
        program=program(Settings.load().root),
    )
    history = _cache(project.migrations, run_job(job, report))
    with open_link(conninfo) as link:
        if history.pending(database_heads(link)):
            raise elsewhere(project, conninfo)
    return history.heads


def elsewhere(project: Project, conninfo: str) -> MigrationError:
    """Make the error for an env.py that left the target as it was."""
    return MigrationError(
        f"the migrations of project {project.name} ran in another database than "
        f"{describe(conninfo)}",
        remedy="Its env.py must use config.attributes['connection'], or the sqlalchemy.url of its "
        "config",
    )


def tables_digest(project: Project) -> str:
    """Hash the DDL that makes the tables of the project's metadata; cached in this process."""
    key = (tuple(sys.path), project.metadata)
    if key not in _digests:
        _digests[key] = run_job(Job("hash_tables", project.name, metadata=project.metadata))
    return _digests[key]


def create_tables(
    conninfo: str, project: Project, settings: Settings, report: Report = silent
) -> None:
    """Make the tables of the project's metadata, in one transaction.

    The DDL and its hash are kept in settings of the database, ``perfdata.ddl`` and
    ``perfdata.tables``. Raises MigrationError if the tables were made from other metadata or can't
    be made, ElsewhereError if the metadata's module connects to another database.
    """
    job = Job(
        "create_tables",
        project.name,
        metadata=project.metadata,
        conninfo=explicit_conninfo(conninfo),
        program=program(settings.root),
    )
    _digests[tuple(sys.path), project.metadata] = run_job(job, report)

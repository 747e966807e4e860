"""Migrations, and tables made from metadata: what a project has and what a database lacks.

The project's code runs in a child process (see job): nothing here imports Alembic or SQLAlchemy.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psycopg import sql

from perfdata.config import TARGET_VARIABLE
from perfdata.errors import MigrationError, PrivilegesError
from perfdata.migrations.answers import ask, run
from perfdata.migrations.command import AppliedQuery, hash_files, run_command
from perfdata.migrations.job import Job
from perfdata.migrations.privileges import check_recordable
from perfdata.postgres.catalog import VersionTable
from perfdata.postgres.connection import explicit_conninfo, open_link
from perfdata.postgres.reflection import IS_VERSION_TABLE, VERSION_TABLE
from perfdata.postgres.url import describe
from perfdata.progress import Event, silent
from perfdata.project import Migration, Migrations, flag_of
from perfdata.templates.provenance import recorded_migration
from perfdata.text import join_first

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from perfdata.postgres.link import AnyQuery, Link, Rows
    from perfdata.progress import Report
    from perfdata.project import Project

# The digest of the metadata that a database's tables were made from, or null. The setting outlives
# the tables, such as with DROP SCHEMA public CASCADE.
MADE_FROM = """
SELECT CASE WHEN EXISTS (
  SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relkind IN ('r', 'p') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
) THEN nullif(current_setting('perfdata.tables', true), '') END"""
# The statements of that metadata, packed (see migrations/ddl.py), or null.
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
    database's alembic_version. ``files`` are the other files that migrations may read, such as SQL:
    the SHA-256 of each by its path. ``query`` is set for another tool than Alembic: the files are
    then the migrations, in natural order.
    """

    migrations: tuple[Migration, ...]
    parents: Mapping[str, Sequence[str]]
    paths: Mapping[str, str] = field(default_factory=dict)
    heads: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    query: AppliedQuery | None = None

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> History:
        """Make a history of the fields that asdict returned."""
        migrations = tuple(Migration(**migration) for migration in fields["migrations"])
        heads = tuple(fields["heads"])
        return cls(migrations, fields["parents"], fields["paths"], heads, fields["files"])

    def pending(self, heads: Iterable[str]) -> list[str]:
        """Return the revisions that have not run in a database at ``heads``."""
        applied = {migration.revision for migration in self.applied(heads)}
        revisions = (migration.revision for migration in self.migrations)
        return [revision for revision in revisions if revision not in applied]

    def missing(self, revisions: Iterable[str], heads: Iterable[str]) -> list[str]:
        """Return those of ``revisions`` that have not run in a database at ``heads``."""
        pending = self.pending(heads)
        return [revision for revision in revisions if revision in pending]

    def heads_of(self, revisions: Iterable[str]) -> tuple[str, ...]:
        """Return those of ``revisions`` that none of them has as a parent, in their order."""
        listed = list(revisions)
        parents = {parent for revision in listed for parent in self.parents.get(revision, ())}
        return tuple(revision for revision in listed if revision not in parents)

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


def read_history(project: Project | None) -> History:
    """Read and hash a project's migrations; without any the history is empty.

    A history that was read before is used while its files are unchanged (see answers).
    """
    if project is None or project.migrations is None:
        return History((), {})
    if isinstance(project.migrations, Migrations):
        return _files_history(project.migrations, _root(project))
    return ask(_reading(project), project.settings, History.from_fields)


def _files_history(migrations: Migrations, root: Path) -> History:
    """Return the history of another tool, whose files are all that is known of it."""
    hashes = hash_files(migrations, root)
    return History(
        tuple(Migration(file, digest) for file, digest in hashes.items()),
        dict.fromkeys(hashes, ()),
        {file: file for file in hashes},
        (list(hashes)[-1],),
        query=AppliedQuery(migrations.applied, tuple(hashes)),
    )


def _root(project: Project) -> Path:
    return project.settings.root if project.settings else Path.cwd()


def _flag(project: Project) -> str:
    return flag_of(project, project.settings) if project.settings else project.flag_column


def _reading(project: Project) -> Job:
    return Job.of("read_history", project, migrations=str(project.migrations))


def database_heads(link: Link, history: History | None = None) -> tuple[str, ...]:
    """Return the revisions in a database's alembic_version, sorted; none if there is no table.

    For a history of another tool, the files that its query returns.
    """
    if history is not None and history.query is not None:
        return history.query.revisions(link)
    tables = [VersionTable(*row) for row in link.rows(_VERSIONS, (VERSION_TABLE,))]
    return heads_of(link.together(version_queries(tables)))


def version_queries(
    tables: Collection[VersionTable], history: History | None = None
) -> list[AnyQuery]:
    """Make the queries for the revisions in Alembic's tables, or of another tool's history.

    Raises PrivilegesError, with the GRANT lines, for tables that the role may not read.
    """
    if history is not None and history.query is not None:
        return [history.query.statement]
    if closed := [table for table in tables if table.denied is not None]:
        raise PrivilegesError(
            f"refused, nothing was touched: role {closed[0].denied} may not read which migrations "
            "have run in the database",
            [f"GRANT SELECT ON {table.written} TO {table.denied};" for table in closed],
        )
    return [sql.SQL("SELECT version_num FROM {}").format(table.only) for table in tables]


def heads_of(answers: Iterable[Rows], history: History | None = None) -> tuple[str, ...]:
    """Return the revisions in the answers to version_queries, sorted."""
    if history is not None and history.query is not None:
        return history.query.revisions_of(row[0] for rows in answers for row in rows)
    return tuple(sorted({row[0] for rows in answers for row in rows}))


def migrate(
    conninfo: str, project: Project, report: Report = silent, *, revisions: tuple[str, ...] = ()
) -> tuple[str, ...]:
    """Bring a database to the project's newest migrations, or to ``revisions``; return the heads.

    The project's env.py runs them: on ``config.attributes["connection"]``, or on the
    ``sqlalchemy.url`` that is set for it. With ``tables_from_metadata``, a database without a
    revision gets the tables of the metadata and is stamped with the heads. Those of another tool
    are run by its command.

    Raises MigrationError if the project has none, MigrationFailedError if one of them fails,
    ElsewhereError if env.py connects to another database, and what check_metadata raises.
    """
    if project.migrations is None:
        raise MigrationError(f"project {project.name} has no migrations")
    if isinstance(project.migrations, Migrations):
        return _migrate_by_command(conninfo, project, project.migrations, report)
    job = Job.of(
        "migrate",
        project,
        explicit_conninfo(conninfo),
        migrations=str(project.migrations),
        metadata=project.metadata if project.tables_from_metadata and not revisions else None,
        revisions=revisions,
    )
    if job.metadata:
        check_metadata(conninfo, project)
    with recorded_migration(conninfo, _flag(project)):
        history = run(job, _reading(project), project.settings, History.from_fields, report)
    with open_link(conninfo) as link:
        if history.missing(revisions or history.heads, database_heads(link)):
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


def _migrate_by_command(
    conninfo: str, project: Project, migrations: Migrations, report: Report
) -> tuple[str, ...]:
    history = read_history(project)
    with open_link(conninfo) as link:
        if history.pending(database_heads(link, history)):
            report(Event(f"migrating to {history.heads[0]}: {' '.join(migrations.command)}"))
    explicit = explicit_conninfo(conninfo)
    with recorded_migration(conninfo, _flag(project)):
        run_command(migrations, _root(project), explicit, project.variables(explicit))
    with open_link(conninfo) as link:
        pending = history.pending(database_heads(link, history))
    if pending:
        raise MigrationError(
            f"{' '.join(migrations.command)} succeeded, but in {describe(conninfo)} the query of "
            f"Migrations(applied=…) does not return {join_first(pending)}",
            remedy=f"The command must migrate the database of {TARGET_VARIABLE}; the query must "
            "name tables with their schema, and return a file's path, name or version",
        )
    return history.heads


def tables_digest(project: Project) -> str:
    """Hash the DDL that makes the tables of the project's metadata.

    A digest that was made before is used while the project's modules are unchanged (see answers).
    """
    return ask(_hashing(project), project.settings, str)


def _hashing(project: Project) -> Job:
    return Job.of("hash_tables", project, metadata=project.metadata)


def check_metadata(conninfo: str, project: Project) -> None:
    """Raise PrivilegesError if a database gets the tables of metadata, and it can't be recorded."""
    with open_link(conninfo) as link:
        migrated = project.migrations is not None and database_heads(link)
        if not migrated and link.value(MADE_FROM) is None:
            check_recordable(link)


def create_tables(conninfo: str, project: Project, report: Report = silent) -> None:
    """Make the tables of the project's metadata, in one transaction.

    The DDL and its hash are kept in settings of the database, ``perfdata.ddl`` and
    ``perfdata.tables``. Raises MigrationError if the tables were made from other metadata or can't
    be made, ElsewhereError if the metadata's module connects to another database, PrivilegesError
    if the role may not keep the settings.
    """
    check_metadata(conninfo, replace(project, migrations=None))
    job = Job.of(
        "create_tables",
        project,
        explicit_conninfo(conninfo),
        metadata=project.metadata,
    )
    run(job, _hashing(project), project.settings, str, report)

"""Migrations: what a project's are, where a database stands, and bringing it to the head.

The project's own code runs in a process of its own (see worker): nothing here imports Alembic.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from psycopg import sql

from perfdata.database.worker import Job, run_job
from perfdata.errors import MigrationError, PrivilegesError
from perfdata.postgres.catalog import VersionTable
from perfdata.postgres.connection import explicit_conninfo, open_link
from perfdata.postgres.reflection import IS_VERSION_TABLE, VERSION_TABLE
from perfdata.postgres.url import describe
from perfdata.progress import silent
from perfdata.project import Migration

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from perfdata.postgres.link import AnyQuery, Link, Rows
    from perfdata.progress import Report
    from perfdata.project import Project

_VERSIONS = f"""
SELECT n.nspname, c.relname, false,
  CASE WHEN NOT has_table_privilege(c.oid, 'SELECT') THEN quote_ident(current_user) END
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relname = %s AND c.relpersistence <> 't' AND {IS_VERSION_TABLE}
ORDER BY 1"""  # noqa: S608  both are constants


@dataclass(frozen=True)
class History:
    """A project's migrations, parents before children, ties by revision id.

    ``paths`` name each one's file the same on every machine. ``heads`` are Alembic's: a head that
    another one depends on is among them, and in no database's alembic_version.
    """

    migrations: tuple[Migration, ...]
    parents: Mapping[str, Sequence[str]]
    paths: Mapping[str, str] = field(default_factory=dict)
    heads: tuple[str, ...] = ()

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> History:
        """Make one of what asdict made of it."""
        migrations = tuple(Migration(**one) for one in fields["migrations"])
        return cls(migrations, fields["parents"], fields["paths"], tuple(fields["heads"]))

    def waiting(self, heads: Iterable[str]) -> list[str]:
        """Return the revisions that have not run where a database stands on ``heads``."""
        ran = {one.revision for one in self.led_to(heads)}
        return [one.revision for one in self.migrations if one.revision not in ran]

    def led_to(self, heads: Iterable[str]) -> tuple[Migration, ...]:
        """Return all that must have run where a database stands on ``heads``.

        A revision that the project does not have comes last, with no hash.
        """
        waiting, led = list(heads), set()
        while waiting:
            revision = waiting.pop()
            if revision not in led:
                led.add(revision)
                waiting += self.parents.get(revision, ())
        known = tuple(one for one in self.migrations if one.revision in led)
        strange = sorted(led - self.parents.keys())
        return (*known, *(Migration(revision, None) for revision in strange))


class _Known(NamedTuple):
    """A history that was read, and how the files stood that it was read from."""

    history: History
    folders: Sequence[str]
    stamp: str


_known: dict[Path, _Known] = {}


def read_history(project: Project | None) -> History:
    """Read and hash a project's migrations; none where there is no project or it has none.

    They are read again when a file of theirs has changed.
    """
    if project is None or project.migrations is None:
        return History((), {})
    known = _known.get(project.migrations)
    if known is not None and known.stamp == stamp_files(known.folders):
        return known.history
    job = Job("read_history", project.name, migrations=str(project.migrations))
    return _remember(project.migrations, run_job(job))


def stamp_files(folders: Iterable[str]) -> str:
    """Hash the names, sizes and times of change of the Python files in folders, and of files."""
    digest = hashlib.sha256()
    for folder in map(Path, folders):
        for path in [folder] if folder.is_file() else sorted(folder.rglob("*.py")):
            stat = path.stat()
            digest.update(f"{path}\0{stat.st_size}\0{stat.st_mtime_ns}\0".encode())
    return digest.hexdigest()


def _remember(migrations: Path, found: Mapping[str, Any]) -> History:
    known = _Known(History.from_fields(found), found["folders"], found["stamp"])
    _known[migrations] = known
    return known.history


def database_heads(link: Link) -> tuple[str, ...]:
    """Return the revisions that a database stands on, sorted; none where Alembic never ran."""
    found = [VersionTable(*row) for row in link.rows(_VERSIONS, (VERSION_TABLE,))]
    return stood_on(link.together(version_queries(found)))


def version_queries(tables: Collection[VersionTable]) -> list[AnyQuery]:
    """Make the queries for the revisions in Alembic's tables; PrivilegesError names the closed."""
    if closed := [one for one in tables if one.denied is not None]:
        raise PrivilegesError(
            f"refused, nothing was touched: role {closed[0].denied} may not read on which "
            "migrations the database stands. Who owns this, or a superuser, may give it by:",
            [f"GRANT SELECT ON {one.written} TO {one.denied};" for one in closed],
        )
    return [sql.SQL("SELECT version_num FROM {}").format(one.only) for one in tables]


def stood_on(answers: Iterable[Rows]) -> tuple[str, ...]:
    """Gather the revisions that were found, sorted."""
    return tuple(sorted({row[0] for rows in answers for row in rows}))


def migrate(conninfo: str, project: Project, report: Report = silent) -> tuple[str, ...]:
    """Bring a database to the project's newest migrations; return their heads.

    The project's own env.py runs them: on ``config.attributes["connection"]``, or on the
    ``sqlalchemy.url`` that is set for it. Raises MigrationError where the project has none, or one
    of them fails; ElsewhereError where env.py connects to another database.
    """
    if project.migrations is None:
        raise MigrationError(f"project {project.name} names no migrations")
    job = Job(
        "migrate",
        project.name,
        migrations=str(project.migrations),
        conninfo=explicit_conninfo(conninfo),
    )
    history = _remember(project.migrations, run_job(job, report))
    with open_link(conninfo) as link:
        if history.waiting(database_heads(link)):
            raise MigrationError(
                f"project {project.name} migrated some other database than {describe(conninfo)}: "
                "its env.py must use config.attributes['connection'], or the sqlalchemy.url of "
                "its config"
            )
    return history.heads

"""Tables made from SQLAlchemy's metadata, for projects without migrations.

The metadata is imported in a process of its own (see worker): nothing here imports SQLAlchemy.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from perfdata.database.worker import Job, run_job
from perfdata.errors import MigrationError
from perfdata.postgres.connection import explicit_conninfo
from perfdata.progress import silent

if TYPE_CHECKING:
    from perfdata.database.target import Target
    from perfdata.postgres.link import Link
    from perfdata.progress import Report
    from perfdata.project import Project

MADE_FROM = "SELECT nullif(current_setting('perfdata.tables', true), '')"
# Digests by where modules are found and the metadata's name: a process imports a module once.
_known: dict[tuple[tuple[str, ...], str | None], str] = {}


def check_tables(link: Link, project: Project, target: Target) -> None:
    """Raise MigrationError where a database's tables were not made from the present metadata."""
    if link.value(MADE_FROM) != tables_digest(project):
        raise MigrationError(
            f"the tables of {target.described()} were not made from the present metadata of "
            f"project {project.name}; run: {target.settings.command('db.migrate')}"
        )


def tables_digest(project: Project) -> str:
    """Hash the DDL that makes the tables of the project's metadata; once in a process."""
    key = (tuple(sys.path), project.metadata)
    if key not in _known:
        _known[key] = run_job(Job("hash_tables", project.name, metadata=project.metadata))
    return _known[key]


def create_tables(target: Target, project: Project, report: Report = silent) -> None:
    """Make the tables of the project's metadata, in one transaction.

    The database remembers their DDL's hash in a setting of its own (``perfdata.tables``). Raises
    MigrationError where its tables were made from other metadata, or can't be made; ElsewhereError
    where the metadata's module connects to another database.
    """
    job = Job(
        "create_tables",
        project.name,
        metadata=project.metadata,
        conninfo=explicit_conninfo(target.conninfo),
        stop_command=target.settings.command("db.stop"),
    )
    _known[tuple(sys.path), project.metadata] = run_job(job, report)

"""Stamps: writing to a database which migrations it has, without running them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from perfdata.errors import MigrationError
from perfdata.migrations.history import History, database_heads, elsewhere
from perfdata.migrations.job import Job, run_job
from perfdata.migrations.privileges import check_recordable
from perfdata.postgres.connection import explicit_conninfo, open_link
from perfdata.progress import silent
from perfdata.project import Migrations

if TYPE_CHECKING:
    from perfdata.progress import Report
    from perfdata.project import Project
    from perfdata.target.target import Target

HEADS = "heads"


@dataclass(frozen=True)
class Stamped:
    """The revisions in a database's alembic_version.

    ``metadata``: there are none, as metadata alone makes the tables.
    """

    before: tuple[str, ...] = ()
    now: tuple[str, ...] = ()
    metadata: bool = False


def stamp_revision(target: Target, revision: str, report: Report = silent) -> Stamped:
    """Write a revision to the target's alembic_version without running a migration.

    ``revision`` is Alembic's: an identifier, the unambiguous beginning of one, a branch label,
    ``heads``, ``base`` for none, or several with commas between them. Nothing but alembic_version
    is written. For a project that makes its tables from metadata alone, ``heads`` records that the
    tables are those of the present metadata.

    Raises MigrationError if the project has neither migrations nor such metadata, does not have the
    revision, or if the tables are not the metadata's; PrivilegesError if the role may not record
    the metadata.
    """
    project = _project(target)
    if project.has_only_metadata:
        _check_recordable(target)
        run_job(_job(target, project, revision), report)
        return Stamped(metadata=True)
    before = _heads(target)
    answer = run_job(_job(target, project, revision), report)
    now = _heads(target)
    applied = {found.revision for found in History.from_fields(answer).applied(now)}
    if not applied.issuperset(answer["revisions"]):
        raise elsewhere(project, target.conninfo)
    return Stamped(before, now)


def preview_stamp(target: Target, revision: str) -> Stamped:
    """Return what a stamp would change, and change nothing; raise what it would raise.

    Of a target without a conninfo, such as an embedded database that does not exist yet, nothing is
    read.
    """
    project = _project(target)
    if project.has_only_metadata and target.conninfo:
        _check_recordable(target)
    answer = run_job(_job(target, project, revision, dry=True))
    if project.has_only_metadata:
        return Stamped(metadata=True)
    return Stamped(_heads(target) if target.conninfo else (), tuple(answer["revisions"]))


def _check_recordable(target: Target) -> None:
    with open_link(target.conninfo) as link:
        check_recordable(link)


def _heads(target: Target) -> tuple[str, ...]:
    with open_link(target.conninfo) as link:
        return database_heads(link)


def _project(target: Target) -> Project:
    project = target.project
    if project is None or not (project.migrations or project.tables_from_metadata):
        name = f"project {project.name} names" if project else "no project is configured, so"
        raise MigrationError(
            f"{name} no migrations", remedy="Name them in its Project(migrations=…)"
        )
    if isinstance(project.migrations, Migrations):
        raise MigrationError(
            f"the migrations of project {project.name} are not Alembic's",
            remedy="Record with their own tool which of them the database has",
        )
    return project


def _job(target: Target, project: Project, revision: str, *, dry: bool = False) -> Job:
    if project.has_only_metadata and revision != HEADS:
        raise MigrationError(
            f"project {project.name} makes its tables from metadata and has no migrations, so it "
            f"has no revision {revision!r}",
            remedy=f"Use {HEADS}, which stands for the present metadata",
        )
    parts = tuple(part.strip() for part in revision.split(",") if part.strip())
    # A dry job that only looks revisions up is given no database.
    connects = target.conninfo and (project.has_only_metadata or not dry)
    return Job.of(
        "record_tables" if project.has_only_metadata else "stamp",
        project,
        explicit_conninfo(target.conninfo) if connects else None,
        migrations=None if project.migrations is None else str(project.migrations),
        metadata=project.metadata if project.has_only_metadata else None,
        revisions=parts or (revision,),
        dry=dry,
    )

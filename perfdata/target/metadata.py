"""The tables of a project's SQLAlchemy metadata, hashed and created. For the worker only."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from psycopg import sql

from perfdata.errors import MigrationError
from perfdata.postgres.connection import make_engine
from perfdata.progress import Event
from perfdata.project import Project
from perfdata.target.migrations import MADE_FROM
from perfdata.text import join_first

if TYPE_CHECKING:
    from sqlalchemy import Connection, MetaData

    from perfdata.progress import Report
    from perfdata.target.job import Job


def hash_tables(job: Job, _report: Report) -> str:
    """Hash the DDL that makes the tables of the project's metadata."""
    return _digest(_load(job))


def create_all(job: Job, report: Report) -> str:
    """Make the tables of the project's metadata in one transaction; return their DDL's hash."""
    metadata = _load(job)
    digest = _digest(metadata)
    engine = make_engine(job.conninfo or "")
    try:
        with engine.begin() as connection:
            made_from = connection.exec_driver_sql(MADE_FROM).scalar()
            _check_made_from(job, made_from, digest)
            if made_from is None:
                _check_absent(job, connection, metadata)
                report(Event(f"creating {len(metadata.tables)} tables from the metadata"))
                metadata.create_all(connection)
                _record(connection, digest)
    finally:
        engine.dispose()
    return digest


def _load(job: Job) -> MetaData:
    return Project(name=job.project, metadata=job.metadata).load_metadata()


def _check_made_from(job: Job, made_from: str | None, digest: str) -> None:
    if made_from not in {None, digest}:
        raise MigrationError(
            f"the tables were made from other metadata of project {job.project}, and create_all "
            "does not change tables that exist",
            remedy=f"Drop the database (on the embedded server: {job.reset_command})",
        )


def _check_absent(job: Job, connection: Connection, metadata: MetaData) -> None:
    from sqlalchemy import inspect

    inspector = inspect(connection)
    present = [
        table.fullname
        for table in metadata.sorted_tables
        if inspector.has_table(table.name, schema=table.schema)
    ]
    if present:
        raise MigrationError(
            f"{join_first(present)} exist already, and perfdata did not make them from the "
            f"metadata of project {job.project}",
            remedy="Drop them, and run it again",
        )


def _record(connection: Connection, digest: str) -> None:
    """Keep the digest in a setting of the database."""
    name = connection.exec_driver_sql("SELECT current_database()").scalar_one()
    setting = sql.SQL("ALTER DATABASE {} SET perfdata.tables = {}")
    connection.exec_driver_sql(
        setting.format(sql.Identifier(name), sql.Literal(digest)).as_string()
    )


def _digest(metadata: MetaData) -> str:
    # Sorted, because SQLAlchemy keeps a table's indexes in a set.
    text = json.dumps(sorted(_statements(metadata)))
    return hashlib.sha256(text.encode()).hexdigest()


def _statements(metadata: MetaData) -> list[str]:
    from sqlalchemy import create_mock_engine

    statements: list[str] = []

    def append(statement: Any, *_: Any, **__: Any) -> None:
        statements.append(str(statement.compile(dialect=engine.dialect)))

    engine = create_mock_engine("postgresql+psycopg://", append)
    metadata.create_all(engine, checkfirst=False)
    return statements

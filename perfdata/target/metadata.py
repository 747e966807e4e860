"""The tables of a project's SQLAlchemy metadata, hashed and created. For the worker only."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from psycopg import sql

from perfdata.config import Settings
from perfdata.errors import MigrationError
from perfdata.postgres.connection import make_engine
from perfdata.progress import Event
from perfdata.project import Project
from perfdata.target.migrations import MADE_FROM
from perfdata.text import first

if TYPE_CHECKING:
    from sqlalchemy import Connection, MetaData

    from perfdata.progress import Report
    from perfdata.target.job import Job


def hash_tables(job: Job, _report: Report) -> str:
    """Hash the DDL that makes the tables of the project's metadata."""
    return _hash(_load(job))


def create_all(job: Job, report: Report) -> str:
    """Make the tables of the project's metadata, in one transaction; return their DDL's hash."""
    metadata = _load(job)
    digest = _hash(metadata)
    engine = make_engine(job.conninfo or "")
    try:
        with engine.begin() as connection:
            before = connection.exec_driver_sql(MADE_FROM).scalar()
            if before is None and (there := _present(connection, metadata)):
                raise MigrationError(
                    f"{first(there)} are there already, and nothing tells whether from the "
                    f"metadata of project {job.project}: drop them, and run it again"
                )
            if before not in {None, digest}:
                raise MigrationError(
                    f"the tables were made from other metadata of project {job.project}, and "
                    "create_all changes none that is there: drop the database (of the embedded "
                    f"server: {Settings.load().command('db.stop')}, then delete the folder that "
                    "db.status names)"
                )
            if before is None:
                report(Event(f"creating {len(metadata.tables)} tables from the metadata"))
                metadata.create_all(connection)
                name = connection.exec_driver_sql("SELECT current_database()").scalar_one()
                remember = sql.SQL("ALTER DATABASE {} SET perfdata.tables = {}")
                statement = remember.format(sql.Identifier(name), sql.Literal(digest))
                connection.exec_driver_sql(statement.as_string())
    finally:
        engine.dispose()
    return digest


def _load(job: Job) -> MetaData:
    return Project(name=job.project, metadata=job.metadata).load_metadata()


def _hash(metadata: MetaData) -> str:
    # Sorted, because SQLAlchemy keeps a table's indexes in a set.
    text = json.dumps(sorted(_statements(metadata)))
    return hashlib.sha256(text.encode()).hexdigest()


def _statements(metadata: MetaData) -> list[str]:
    from sqlalchemy import create_mock_engine

    found: list[str] = []

    def take(statement: Any, *_: Any, **__: Any) -> None:
        found.append(str(statement.compile(dialect=engine.dialect)))

    engine = create_mock_engine("postgresql+psycopg://", take)
    metadata.create_all(engine, checkfirst=False)
    return found


def _present(connection: Connection, metadata: MetaData) -> list[str]:
    from sqlalchemy import inspect

    inspector = inspect(connection)
    return [
        table.fullname
        for table in metadata.sorted_tables
        if inspector.has_table(table.name, schema=table.schema)
    ]

"""Tables made from SQLAlchemy's metadata, for projects without migrations."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from psycopg import sql

from perfdata.database.connection import first, make_engine
from perfdata.errors import MigrationError
from perfdata.progress import Event, silent

if TYPE_CHECKING:
    from sqlalchemy import Connection, MetaData

    from perfdata.database.link import Link
    from perfdata.database.target import Target
    from perfdata.progress import Report
    from perfdata.project import Project


_MADE_FROM = "SELECT nullif(current_setting('perfdata.tables', true), '')"


def check_tables(link: Link, project: Project, target: Target) -> None:
    """Raise MigrationError where a database's tables were not made from the present metadata."""
    if link.value(_MADE_FROM) != tables_digest(project):
        raise MigrationError(
            f"the tables of {target.described()} were not made from the present metadata of "
            f"project {project.name}; run: {target.settings.command('db.migrate')}"
        )


def tables_digest(project: Project) -> str:
    """Hash the DDL that makes the tables of the project's metadata."""
    # Sorted, because SQLAlchemy keeps a table's indexes in a set.
    text = json.dumps(sorted(_statements(project.load_metadata())))
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


def create_tables(target: Target, project: Project, report: Report = silent) -> None:
    """Make the tables of the project's metadata, in one transaction.

    The database remembers their DDL's hash in a setting of its own (``perfdata.tables``). Raises
    MigrationError where its tables were made from other metadata, or can't be made.
    """
    import sqlalchemy

    metadata, digest = project.load_metadata(), tables_digest(project)
    engine = make_engine(target.conninfo)
    try:
        with engine.begin() as connection:
            before = connection.exec_driver_sql(_MADE_FROM).scalar()
            if before is None and (there := _present(connection, metadata)):
                raise MigrationError(
                    f"{first(there)} are there already, and nothing tells whether from the "
                    f"metadata of project {project.name}: drop them, and run it again"
                )
            if before not in {None, digest}:
                raise MigrationError(
                    f"the tables were made from other metadata of project {project.name}, and "
                    "create_all changes none that is there: drop the database (of the embedded "
                    f"server: {target.settings.command('db.stop')}, then delete the folder that "
                    "db.status names)"
                )
            if before is None:
                report(Event(f"creating {len(metadata.tables)} tables from the metadata"))
                metadata.create_all(connection)
                name = connection.exec_driver_sql("SELECT current_database()").scalar_one()
                remember = sql.SQL("ALTER DATABASE {} SET perfdata.tables = {}")
                statement = remember.format(sql.Identifier(name), sql.Literal(digest))
                connection.exec_driver_sql(statement.as_string())
    except sqlalchemy.exc.DBAPIError as error:
        raise MigrationError(
            f"the tables of project {project.name} can't be made: {error.orig}"
        ) from error
    finally:
        engine.dispose()

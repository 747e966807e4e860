"""The tables of a project's SQLAlchemy metadata, hashed and created. Only for the child process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg import sql

from perfdata.errors import MigrationError
from perfdata.migrations.ddl import (
    added_tables,
    describe_differences,
    hash_ddl,
    pack_ddl,
    read_ddl,
    unpack_ddl,
)
from perfdata.migrations.history import MADE_BY, MADE_FROM
from perfdata.postgres.connection import make_engine
from perfdata.progress import Event
from perfdata.project import Project
from perfdata.text import join_first

if TYPE_CHECKING:
    from sqlalchemy import Connection, MetaData

    from perfdata.migrations.ddl import Ddl
    from perfdata.migrations.job import Job
    from perfdata.progress import Report

_SHOWN = 10


def hash_tables(job: Job, _report: Report) -> str:
    """Hash the DDL that makes the tables of the project's metadata."""
    return hash_ddl(read_ddl(_load(job)))


def create_all(job: Job, report: Report) -> str:
    """Make the tables of the project's metadata in one transaction; return their DDL's hash.

    A digest that is recorded counts only while there is a table of the metadata.
    """
    metadata = _load(job)
    ddl = read_ddl(metadata)
    engine = make_engine(job.conninfo or "")
    try:
        with engine.begin() as connection:
            present = _present_tables(connection, metadata)
            made_from = connection.exec_driver_sql(MADE_FROM).scalar()
            if present and made_from is None:
                raise _others_tables(job, present)
            if not present:
                number = len(metadata.tables)
                tables = f"{number} table{'' if number == 1 else 's'}"
                report(Event(f"creating {tables} from the metadata"))
                metadata.create_all(connection)
                _record(connection, ddl)
            elif made_from != hash_ddl(ddl):
                before = unpack_ddl(connection.exec_driver_sql(MADE_BY).scalar())
                raise _other_metadata(job, before, ddl)
    finally:
        engine.dispose()
    return hash_ddl(ddl)


def record_tables(job: Job, _report: Report) -> str:
    """Record that a database's tables are those of the metadata; return their DDL's hash.

    A dry job records nothing, and without a conninfo checks no table either. Raises MigrationError
    if the database lacks a table or a column.
    """
    metadata = _load(job)
    ddl = read_ddl(metadata)
    if job.conninfo is not None:
        engine = make_engine(job.conninfo)
        try:
            with engine.begin() as connection:
                _check_present(job, connection, metadata)
                if not job.dry:
                    _record(connection, ddl)
        finally:
            engine.dispose()
    return hash_ddl(ddl)


def _load(job: Job) -> MetaData:
    return Project(name=job.project, metadata=job.metadata).load_metadata()


def _other_metadata(job: Job, before: Ddl | None, now: Ddl) -> MigrationError:
    found = ""
    if before is not None and (added := added_tables(before, now)):
        found = (
            f", which lacked {join_first(added, _SHOWN)}: a module that defines them was added, or "
            f"is imported by {job.metadata} only now"
        )
    elif before is not None and (gone := added_tables(now, before)):
        found = (
            f", which also had {join_first(gone, _SHOWN)}: a module that defines them was removed, "
            f"or is no longer imported by {job.metadata}"
        )
    elif before is not None:
        found = f" ({join_first(describe_differences(before, now), _SHOWN)})"
    return MigrationError(
        f"the tables were made from other metadata of project {job.project}{found}, and create_all "
        "does not change tables that exist",
        remedy=f"On the embedded server, {job.program} db.reset makes a new database. Change the "
        f"tables of any other yourself, then run: {job.program} db.stamp --revision heads",
    )


def _present_tables(connection: Connection, metadata: MetaData) -> list[str]:
    from sqlalchemy import inspect

    inspector = inspect(connection)
    return [
        table.fullname
        for table in metadata.sorted_tables
        if inspector.has_table(table.name, schema=table.schema)
    ]


def _others_tables(job: Job, present: list[str]) -> MigrationError:
    if job.migrations:
        how = "If migrations made these tables", "REV (the newest one that they have, or heads)"
    else:
        how = "If these tables are the metadata's", "heads"
    return MigrationError(
        f"found {join_first(present)}, which perfdata did not make from the metadata of project "
        f"{job.project}",
        remedy=f"{how[0]}, run: {job.program} db.stamp --revision {how[1]}",
    )


def _check_present(job: Job, connection: Connection, metadata: MetaData) -> None:
    from sqlalchemy import inspect

    inspector = inspect(connection)
    lacking: list[str] = []
    for table in metadata.sorted_tables:
        if not inspector.has_table(table.name, schema=table.schema):
            lacking.append(table.fullname)
            continue
        columns = inspector.get_columns(table.name, schema=table.schema)
        names = {column["name"] for column in columns}
        lacking += [f"{table.fullname}.{name}" for name in set(table.columns.keys()) - names]
    if lacking:
        raise MigrationError(
            f"the tables are not those of the metadata of project {job.project}: the database "
            f"lacks {join_first(sorted(lacking), _SHOWN)}",
            remedy="Change the tables yourself, and run it again",
        )


def _record(connection: Connection, ddl: Ddl) -> None:
    """Keep the DDL and its digest in settings of the database."""
    name = connection.exec_driver_sql("SELECT current_database()").scalar_one()
    for setting, value in (("tables", hash_ddl(ddl)), ("ddl", pack_ddl(ddl))):
        statement = sql.SQL("ALTER DATABASE {} SET {} = {}").format(
            sql.Identifier(name), sql.Identifier("perfdata", setting), sql.Literal(value)
        )
        connection.exec_driver_sql(statement.as_string())

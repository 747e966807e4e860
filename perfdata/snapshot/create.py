"""Create a snapshot file from a database's rows, as they are at one moment."""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import IO, TYPE_CHECKING

from psycopg import sql

from perfdata.config import Settings
from perfdata.errors import (
    LoadError,
    RefusedError,
    SchemaError,
    ServerRefusedError,
    SnapshotError,
)
from perfdata.load.privileges import check_readable
from perfdata.load.selection import Selection, flagged_selection, uncovered_notes
from perfdata.load.sequences import read_sequences
from perfdata.load.views import populated_views
from perfdata.migrations.history import database_heads, read_history
from perfdata.postgres.catalog import json_rows
from perfdata.postgres.connection import open_link
from perfdata.postgres.locks import LOCK_TIMEOUT_S, consistent_read, load_lock
from perfdata.postgres.reflection import read_catalog
from perfdata.postgres.statistics import read_statistics
from perfdata.postgres.user_code import OTHER_ROLES, refuse_user_code
from perfdata.progress import Event, silent
from perfdata.project import find_project, flag_of
from perfdata.snapshot.checks.ownership import saved_selection, upgraded_selection
from perfdata.snapshot.checks.requirements import describe_requirements, find_requirements
from perfdata.snapshot.format.frames import STATISTICS_MAX_BYTES, listed_bytes
from perfdata.snapshot.format.manifest import Manifest, fingerprint_schema
from perfdata.snapshot.format.reader import SnapshotFile
from perfdata.snapshot.format.writer import BackgroundCalls, BodyWriter, manifest_frame
from perfdata.snapshot.options import CreateOptions
from perfdata.snapshot.store import Snapshot, check_free, snapshot_path
from perfdata.temporary import give_name, temporary_beside

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from perfdata.postgres.catalog import Catalog, Table
    from perfdata.postgres.link import Link
    from perfdata.postgres.statistics import Statistics
    from perfdata.progress import Report


# A row is too long if the server reports "program limit exceeded", or an internal error for memory
# that it would allocate at once.
_LIMIT_EXCEEDED, _TOO_LARGE = "54000", "invalid memory alloc request size"


def create_snapshot(
    database: object,
    name: str,
    description: str = "",
    *,
    all_rows: bool = False,
    replace: bool = False,
    strict: bool = False,
    as_superuser: bool = False,
    lock_timeout_s: float = LOCK_TIMEOUT_S,
    settings: Settings | None = None,
    report: Report = silent,
) -> Snapshot:
    """Save a database's flagged rows, or all rows, as a snapshot of one moment.

    Args:
        database: a URL, a SQLAlchemy Engine, Connection or Session, or a psycopg connection. A
            caller's open transaction is joined, so that its changes are saved too; if it is read
            committed, the tables are locked against writes until it ends.
        all_rows: save every row of every table, with sequences and materialised views.
        replace: replace a snapshot of that name, once the new file is complete.
        strict: raise RefusedError for rows that reference unflagged ones.
        as_superuser: read tables whose index expressions, statistics or partition keys call code
            of other roles, which planning a query runs.
        lock_timeout_s: how many seconds to wait for locks; LoadError then names their holders.

    Raises SnapshotExistsError without ``replace``, UserCodeError, PrivilegesError, SchemaError,
    ConnectError, and SnapshotError if the file can't be written.
    """
    options = CreateOptions(
        name=name,
        description=description,
        all_rows=all_rows,
        replace=replace,
        strict=strict,
        as_superuser=as_superuser,
        lock_timeout_s=lock_timeout_s,
    )
    with open_link(database) as link:
        return create(link, options, settings or Settings.load(), report)


def create(link: Link, options: CreateOptions, settings: Settings, report: Report) -> Snapshot:
    """Create a snapshot over an open link (see create_snapshot)."""
    check_free(options.name, settings, replace=options.replace)
    path = writable_path(options.name, settings)
    with _explain_os_error(path):
        return _write(link, options, settings, path, report)


def writable_path(name: str, settings: Settings) -> Path:
    """Return a snapshot's path; raise SnapshotError if no file can be written there."""
    path = snapshot_path(name, settings)
    settings.make_home()
    with _explain_os_error(path):
        path.parent.mkdir(exist_ok=True)
        with temporary_beside(path):
            return path


@contextmanager
def _explain_os_error(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SnapshotError(
            f"{path} can't be written: {error.strerror or error}; no snapshot was changed"
        ) from error


def _write(
    link: Link, options: CreateOptions, settings: Settings, path: Path, report: Report
) -> Snapshot:
    with temporary_beside(path) as body_file, temporary_beside(path) as whole_file:
        timeout_s = options.lock_timeout_s
        with (
            load_lock(link, shared=True, timeout_s=timeout_s, report=report),
            consistent_read(link, timeout_s, writers_off=link.joined),
        ):
            manifest = _read(link, options, settings, BodyWriter(body_file), report)
        whole_file.write(manifest_frame(manifest))
        body_file.seek(0)
        shutil.copyfileobj(body_file, whole_file, 1 << 20)
        whole_file.flush()
        os.fsync(whole_file.fileno())
        if options.older is not None:  # the file that it replaces can't be made again
            SnapshotFile.open(path.parent / whole_file.name).check()
        _publish(whole_file, path, options, settings)
    if os.name == "posix":  # elsewhere a folder can't be opened
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # so that the new name lasts
        finally:
            os.close(folder)
    return Snapshot(options.name, path, path.stat().st_size, manifest)


def _publish(file: IO[bytes], path: Path, options: CreateOptions, settings: Settings) -> None:
    """Give the complete file its name; without ``replace``, no existing file is replaced."""
    check_free(options.name, settings, replace=options.replace)
    if options.replace:
        give_name(file, path)
        return
    try:
        os.link(file.name, path)
    except FileExistsError:
        check_free(options.name, settings, replace=False)
        raise


def _read(
    link: Link, options: CreateOptions, settings: Settings, writer: BodyWriter, report: Report
) -> Manifest:
    version, encoding = link.rows(
        "SELECT current_setting('server_version'), current_setting('server_encoding')"
    )[0]
    if encoding == "SQL_ASCII":
        raise SchemaError(
            "the database's encoding is SQL_ASCII, so its bytes can't be saved as text",
            remedy="Move the data to a database with encoding UTF8",
        )
    project = find_project(settings)
    flag = flag_of(project, settings)
    roles = link.later(OTHER_ROLES)
    catalog = read_catalog(link)
    if options.all_rows:
        selection = Selection(None)
    elif options.older is not None:
        selection = upgraded_selection(options.older, catalog, flag, settings)
    elif options.expected is not None:  # the snapshot only holds the rows that were loaded for it
        flagged = flagged_selection(catalog, flag, settings)
        selection = flagged.with_unflagged(catalog, options.expected)
    else:
        selection = saved_selection(link, catalog, flag, settings)
    options = replace(options, all_rows=selection.all_rows)
    tables = selection.tables(catalog)
    if not tables and not (options.dataset or options.older):  # a dataset may yield nothing yet
        raise SchemaError("the database has no table")
    if not options.as_superuser:
        refuse_user_code(link, roles.rows, read=_tables_to_read(catalog, tables))
    check_readable(link, tables, sequences=options.all_rows)
    notes = uncovered_notes(link, tables, all_rows=options.all_rows)
    if link.joined and link.value("SHOW transaction_isolation") == "read committed":
        # Else the caller's transaction would see rows that others commit between two reads.
        identifiers = sql.SQL(", ").join(table.identifier for table in tables)
        link.execute(sql.SQL("LOCK TABLE {} IN SHARE MODE").format(identifiers))
    requires = () if options.all_rows else tuple(find_requirements(link, catalog, selection))
    if requires and options.strict:
        rows = "; ".join(describe_requirements(requires))
        raise RefusedError(
            f"refused by strict=True: flagged rows reference unflagged ones: {rows}",
            remedy="Flag those too, or leave out strict=True",
        )
    with BackgroundCalls() as background:
        stats = {
            table.key: _copy_table(link, table, selection.where(table), writer, background, report)
            for table in tables
        }
    _check_expected(options, stats)
    schema = {
        table.key: {column.name: column.described() for column in table.stored} for table in tables
    }
    history = read_history(project)
    return Manifest(
        name=options.name,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        stats=stats,
        all_rows=options.all_rows,
        flag_column=None if options.all_rows else flag,
        server_version=version,
        server_encoding=encoding,
        schema_fingerprint=fingerprint_schema(schema),
        migrations=history.applied(database_heads(link, history)),
        requires=requires,
        left_out=[table.key for table in catalog.tables if table not in tables],
        whole_tables=sorted(selection.whole),
        flag_through=[covering.entry for covering in selection.covered.values()],
        # Read after the rows, as others may use them meanwhile: never behind the rows' values.
        sequences=read_sequences(link) if options.all_rows else {},
        populated_views=populated_views(link) if options.all_rows else (),
        notes=notes,
        schema=schema,
        generated={
            table.key: names
            for table in tables
            if (names := [column.name for column in table.columns if column.generated])
        },
        primary_keys={table.key: list(table.primary_key) for table in tables if table.primary_key},
        body=writer.finish(_statistics(link, tables, selection, stats, report)),
        **options.provenance(project),
    )


def _tables_to_read(catalog: Catalog, tables: Sequence[Table]) -> list[Table]:
    """Return the tables and those that they reference, which may hold required rows."""
    oids = {table.oid for table in tables}
    referenced = {key.parent for key in catalog.foreign_keys if key.child in oids}
    return [catalog.by_oid[oid] for oid in oids | referenced]


def _statistics(
    link: Link,
    tables: Sequence[Table],
    selection: Selection,
    stats: Mapping[str, int],
    report: Report,
) -> Statistics | None:
    """Read the planner's statistics of tables that are completely in the snapshot."""
    query = sql.SQL("SELECT EXISTS (SELECT FROM {} WHERE {})")
    others = link.together(query.format(table.only, selection.others(table)) for table in tables)
    rows = {
        table.oid: stats[table.key]
        for table, ((has_others,),) in zip(tables, others, strict=True)
        if not has_others
    }
    statistics = read_statistics(link, rows)
    lines = statistics.relations if statistics else ()
    if sum(listed_bytes(line, 1) for line in lines) <= STATISTICS_MAX_BYTES:
        return statistics
    report(Event("left out the planner's statistics, which are too long: a restore runs ANALYZE"))
    return None


def _check_expected(options: CreateOptions, stats: Mapping[str, int]) -> None:
    for key, rows in (options.expected or {}).items():
        if stats.get(key) != rows:
            raise LoadError(
                f"{key} had {rows:,} rows when {options.name} was loaded and has "
                f"{stats.get(key, 0):,} now: something else wrote into it",
                remedy="Run it again",
            )


def _copy_table(
    link: Link,
    table: Table,
    where: sql.Composable,
    writer: BodyWriter,
    background: BackgroundCalls,
    report: Report,
) -> int:
    names = [column.name for column in table.stored]
    types = [column.type for column in table.stored]
    background.add(writer.table, table.key, names, types)
    event, rows = f"saving {table.key}", 0

    def write(block: bytes) -> None:
        nonlocal rows
        background.add(writer.rows, block)
        rows += block.count(b"\n")
        report(Event(event, rows))

    report(Event(event, 0))
    try:
        link.copy_out(json_rows(table, where), write)
    except ServerRefusedError as error:
        if error.sqlstate == _LIMIT_EXCEEDED or _TOO_LARGE in error.server_message:
            raise LoadError(
                f"{table.key}: a row is too long to be saved: as JSON it exceeds 1 GB, "
                "PostgreSQL's limit for one value",
                remedy="Shorten its values, or remove its flag",
            ) from error
        raise
    report(Event(event, rows, rows))
    return rows

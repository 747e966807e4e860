"""Create: a database's rows into one snapshot file, as they were at one moment."""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
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
from perfdata.load.selection import Selection, uncovered_notes, whole_tables
from perfdata.load.sequences import read_sequences
from perfdata.load.views import populated_views
from perfdata.postgres.catalog import json_rows
from perfdata.postgres.connection import open_link
from perfdata.postgres.locks import LOCK_TIMEOUT_S, consistent_read, load_lock
from perfdata.postgres.reflection import read_catalog
from perfdata.postgres.statistics import read_statistics
from perfdata.postgres.user_code import OTHER_ROLES, refuse_user_code
from perfdata.progress import Event, silent
from perfdata.project import flag_of
from perfdata.snapshot.format.frames import STATISTICS_MAX_BYTES, listed_bytes
from perfdata.snapshot.format.manifest import Manifest, fingerprint_schema
from perfdata.snapshot.format.writer import BackgroundCalls, BodyWriter, manifest_frame
from perfdata.snapshot.requirements import describe_requirements, find_requirements
from perfdata.snapshot.staleness import key_parts
from perfdata.snapshot.store import Snapshot, check_free, snapshot_path
from perfdata.target.migrations import database_heads, read_history
from perfdata.target.target import project_of
from perfdata.temporary import give_name, temporary_beside

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from perfdata.dataset import Dataset
    from perfdata.postgres.catalog import Catalog, Table
    from perfdata.postgres.link import Link
    from perfdata.postgres.statistics import Statistics
    from perfdata.progress import Report


# "Program limit exceeded"; a size that is allocated at once is an "internal error" instead.
_TOO_LONG, _TOO_LARGE = "54000", "invalid memory alloc request size"


@dataclass(frozen=True, kw_only=True)
class CreateOptions:
    """The options of create_snapshot, and what a build adds.

    ``dataset`` is given where the rows are its own, just built; ``expected`` are then the rows that
    it put into its tables.
    """

    name: str
    description: str = ""
    all_rows: bool = False
    replace: bool = False
    strict: bool = False
    as_superuser: bool = False
    lock_timeout_s: float = LOCK_TIMEOUT_S
    dataset: Dataset | None = None
    expected: Mapping[str, int] | None = None


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
    """Save a database's flagged rows (or all) as a snapshot, as they are at one moment.

    ``database`` is a URL, a SQLAlchemy Engine, Connection or Session, or a psycopg connection; a
    caller's open transaction is joined, so that its own changes are seen; where it is read
    committed, the tables are locked against writes until it ends. ``strict`` refuses rows that
    reference unflagged ones. ``as_superuser`` reads tables whose index expressions, statistics or
    partition keys call code of other roles, which planning a query runs. Nothing is seen of the
    file before it is complete.

    Raises SnapshotExistsError without ``replace``, UserCodeError, RefusedError, SchemaError,
    ConnectError, and SnapshotError where the file can't be written.
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
    """Create a snapshot from an open link (see create_snapshot)."""
    check_free(options.name, settings, replace=options.replace)
    path = writable_path(options.name, settings)
    with _written(path):
        return _write(link, options, settings, path, report)


def writable_path(name: str, settings: Settings) -> Path:
    """Return where a snapshot of that name goes; raise SnapshotError where it can't be written."""
    path = snapshot_path(name, settings)
    settings.make_home()
    with _written(path):
        path.parent.mkdir(exist_ok=True)
        with temporary_beside(path):
            return path


@contextmanager
def _written(path: Path) -> Iterator[None]:
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
            load_lock(link, shared=True, timeout_s=timeout_s),
            consistent_read(link, timeout_s, writers_off=link.joined),
        ):
            manifest = _read(link, options, settings, BodyWriter(body_file), report)
        whole_file.write(manifest_frame(manifest))
        body_file.seek(0)
        shutil.copyfileobj(body_file, whole_file, 1 << 20)
        whole_file.flush()
        os.fsync(whole_file.fileno())
        _publish(whole_file, path, options, settings)
    _sync_folder(path.parent)
    return Snapshot(options.name, path, path.stat().st_size, manifest)


def _publish(file: IO[bytes], path: Path, options: CreateOptions, settings: Settings) -> None:
    """Give the whole file its name; without ``replace`` never in the place of another's."""
    check_free(options.name, settings, replace=options.replace)
    if options.replace:
        give_name(file, path)
        return
    try:
        os.link(file.name, path)
    except FileExistsError:
        check_free(options.name, settings, replace=False)
        raise


def _sync_folder(folder: Path) -> None:
    """Make a rename last; only POSIX can open a folder for that."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _read(
    link: Link, options: CreateOptions, settings: Settings, writer: BodyWriter, report: Report
) -> Manifest:
    version, encoding = link.rows(
        "SELECT current_setting('server_version'), current_setting('server_encoding')"
    )[0]
    if encoding == "SQL_ASCII":
        raise SchemaError(
            "the database's encoding is SQL_ASCII: what its bytes mean is not known, so they can't "
            "be saved as text. Move it to a database with encoding UTF8"
        )
    project = project_of(link, settings)
    flag = flag_of(project, settings)
    others = link.later(OTHER_ROLES)
    catalog = read_catalog(link)
    selection = _select(options, settings, catalog, flag)
    tables = selection.tables(catalog)
    if not tables:
        raise SchemaError(
            f"the database has no table{'' if options.all_rows else f' with a column {flag}'}"
        )
    if not options.as_superuser:
        refuse_user_code(link, others.rows, read=_read_with(catalog, tables))
    check_readable(link, tables, sequences=options.all_rows)
    notes = uncovered_notes(link, tables, all_rows=options.all_rows)
    _hold_still(link, tables)
    requires = () if options.all_rows else tuple(find_requirements(link, catalog, selection))
    if requires and options.strict:
        rows = "; ".join(describe_requirements(requires))
        raise RefusedError(f"refused by --strict: flagged rows reference unflagged ones: {rows}")
    with BackgroundCalls() as background:
        stats = {
            table.key: _copy_table(link, table, selection.where(table), writer, background, report)
            for table in tables
        }
    _check_expected(options, stats)
    schema = described_schema(tables)
    dataset = options.dataset
    return Manifest(
        name=options.name,
        description=options.description or (dataset.description if dataset else ""),
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        stats=stats,
        as_of=dataset.as_of.isoformat() if dataset else None,
        all_rows=options.all_rows,
        flag_column=None if options.all_rows else flag,
        server_version=version,
        server_encoding=encoding,
        schema_fingerprint=fingerprint_schema(schema),
        migrations=read_history(project).applied(database_heads(link)),
        dataset_fingerprint=dataset.fingerprint() if dataset else None,
        key_parts=key_parts(project, dataset) if project and dataset else {},
        requires=requires,
        left_out=[table.key for table in catalog.tables if table not in tables],
        whole_tables=sorted(selection.whole),
        # They move on while rows are read: behind the rows, they are never behind their values.
        sequences=read_sequences(link) if options.all_rows else {},
        populated_views=populated_views(link) if options.all_rows else (),
        notes=notes,
        schema=schema,
        generated={
            table.key: names
            for table in tables
            if (names := [column.name for column in table.columns if column.generated])
        },
        primary_keys={one.key: list(one.primary_key) for one in tables if one.primary_key},
        body=writer.finish(_statistics(link, tables, selection, stats, report)),
    )


def _read_with(catalog: Catalog, tables: Sequence[Table]) -> list[Table]:
    """Return the tables, and those that their rows reference: requirements are looked for there."""
    oids = {table.oid for table in tables}
    referenced = {key.parent for key in catalog.foreign_keys if key.child in oids}
    return [catalog.by_oid[oid] for oid in oids | referenced]


def _select(options: CreateOptions, settings: Settings, catalog: Catalog, flag: str) -> Selection:
    """Choose the rows: a dataset's snapshot holds its own rows alone, no table whole."""
    if options.all_rows:
        return Selection(None)
    patterns = () if options.dataset else settings.whole_tables
    return Selection(flag, whole_tables(catalog, patterns))


def _statistics(
    link: Link,
    tables: Sequence[Table],
    selection: Selection,
    stats: Mapping[str, int],
    report: Report,
) -> Statistics | None:
    """Read the planner's statistics of the tables that the snapshot has all rows of."""
    query = sql.SQL("SELECT EXISTS (SELECT FROM {} WHERE ({}) IS NOT TRUE)")
    others = link.together(query.format(one.only, selection.where(one)) for one in tables)
    whole = [table for table, ((more,),) in zip(tables, others, strict=True) if not more]
    found = read_statistics(link, {table.oid: stats[table.key] for table in whole})
    if found is None or sum(listed_bytes(line, 1) for line in found.relations) <= (
        STATISTICS_MAX_BYTES
    ):
        return found
    report(Event("the planner's statistics are left out, as they are too long: a restore analyses"))
    return None


def _hold_still(link: Link, tables: Sequence[Table]) -> None:
    """Have a caller's transaction that sees others' commits see none in these tables."""
    if link.joined and link.value("SHOW transaction_isolation") == "read committed":
        names = sql.SQL(", ").join(table.identifier for table in tables)
        link.execute(sql.SQL("LOCK TABLE {} IN SHARE MODE").format(names))


def _check_expected(options: CreateOptions, stats: Mapping[str, int]) -> None:
    for key, rows in (options.expected or {}).items():
        if stats.get(key) != rows:
            raise LoadError(
                f"{key} had {rows:,} rows when dataset {options.name} was built and has "
                f"{stats.get(key, 0):,} now: something else wrote into it. Build it again"
            )


def described_schema(tables: Sequence[Table]) -> dict[str, dict[str, str]]:
    """Say for each stored column of each table what decides whether values fit."""
    return {
        table.key: {column.name: column.described() for column in table.stored} for table in tables
    }


def _copy_table(
    link: Link,
    table: Table,
    where: sql.Composable,
    writer: BodyWriter,
    background: BackgroundCalls,
    report: Report,
) -> int:
    columns = table.stored
    names, types = [one.name for one in columns], [one.type for one in columns]
    background.add(writer.table, table.key, names, types)
    rows = 0

    def write(block: bytes) -> None:
        nonlocal rows
        background.add(writer.rows, block)
        rows += block.count(b"\n")
        report(Event(saving, rows))

    saving = f"saving {table.key}"
    report(Event(saving, 0))
    try:
        link.copy_out(json_rows(table, where), write)
    except ServerRefusedError as error:
        if error.sqlstate == _TOO_LONG or _TOO_LARGE in error.server_message:
            raise LoadError(
                f"{table.key}: a row is too long to be saved: as JSON it is over 1 GB, the most "
                "that a PostgreSQL server makes of one value"
            ) from error
        raise
    report(Event(saving, rows, rows))
    return rows

"""Restore: a snapshot file into a database, checked whole before the first change."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from perfdata.config import Settings
from perfdata.database.catalog import read_catalog
from perfdata.database.checks import Check, run_checks
from perfdata.database.connection import first, open_link
from perfdata.database.copy import JSON_CSV, rows_to_csv
from perfdata.database.guard import check_guard
from perfdata.database.loading import Existing, Plan, TableLoad, load
from perfdata.database.migrate import (
    VERSION_TABLES,
    read_history,
    stood_on,
    version_queries,
    version_tables,
)
from perfdata.database.target import project_of
from perfdata.errors import RefusedError, SchemaError, SnapshotDamagedError
from perfdata.progress import silent
from perfdata.project import FLAG_COLUMN
from perfdata.snapshot.create import described_schema
from perfdata.snapshot.current import check_migrations
from perfdata.snapshot.format import check_file, read_tables
from perfdata.snapshot.required import required_check
from perfdata.snapshot.store import find_snapshot

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from perfdata.database.catalog import Catalog
    from perfdata.database.link import Link, Rows
    from perfdata.database.migrate import History
    from perfdata.progress import Report
    from perfdata.snapshot.format import Manifest, TableBody
    from perfdata.snapshot.store import Snapshot


@dataclass(frozen=True)
class Restored:
    """What a restore did: rows by table, how, in how many seconds, what a user should know."""

    name: str
    rows: dict[str, int]
    strategy: str
    duration_s: float
    notes: tuple[str, ...]


def restore_snapshot(
    database: object,
    name: str,
    clean_existing: bool = True,
    *,
    settings: Settings | None = None,
    report: Report = silent,
) -> Restored:
    """Replace a database's flagged rows by a snapshot's, in one transaction.

    ``database`` is a URL, a SQLAlchemy Engine, Connection or Session, or a psycopg connection; a
    caller's open transaction is joined: nothing is committed or vacuumed. Unflagged rows are
    afterwards as they were. ``clean_existing`` False adds to the flagged rows that are there.

    Before the first change these are checked, and each raises an error of its own: the file
    (SnapshotDamagedError), the guard (GuardError), the migrations (SnapshotStaleError), the tables
    (SchemaError), the boundary (BoundaryError), the rows that it requires (RefusedError).
    """
    settings = settings or Settings.load()
    snapshot = find_snapshot(name, settings)
    with open_link(database) as link:
        return restore(link, snapshot, settings, clean_existing=clean_existing, report=report)


def restore(
    link: Link, snapshot: Snapshot, settings: Settings, *, clean_existing: bool, report: Report
) -> Restored:
    """Restore a snapshot over an open link (see restore_snapshot)."""
    began = time.perf_counter()
    manifest, offset = check_file(snapshot.path)
    plan = prepare(link, manifest, settings, clean_existing=clean_existing)
    loaded = load(link, plan, table_loads(snapshot.path, offset, manifest, plan.catalog), report)
    duration = time.perf_counter() - began
    return Restored(snapshot.name, loaded.rows, loaded.strategy.value, duration, loaded.notes)


def prepare(link: Link, manifest: Manifest, settings: Settings, *, clean_existing: bool) -> Plan:
    """Check that a snapshot may go into a database and fits it; return how it is to be loaded."""
    check_guard(link, settings)
    project = project_of(link, settings)
    history = read_history(project)

    with link.transaction(reading=True):
        present = _migrations_check(manifest, history, version_tables(link))
        run_checks(link, [present])
        catalog = read_catalog(link)
    _check_schema(manifest, catalog)
    flag = project.flag_column if project else FLAG_COLUMN
    if manifest.flag_column not in (None, flag):
        raise SchemaError(
            f"snapshot {manifest.name} holds the rows with {manifest.flag_column}, and here the "
            f"flag is {flag}; nothing was touched"
        )
    return _plan(manifest, catalog, flag, present, clean_existing=clean_existing)


def _migrations_check(manifest: Manifest, history: History, tables: Rows) -> Check:
    """Check that the database stands on the snapshot's migrations, now and under the locks."""

    def judge(answers: Sequence[Rows]) -> None:
        still, *heads = answers
        if still != tables:
            raise SchemaError("the tables changed while the load waited for them; run it again")
        check_migrations(manifest.name, manifest.migrations, history.led_to(stood_on(heads)))

    return Check((VERSION_TABLES, *version_queries(tables)), judge)


def table_loads(
    path: Path, offset: int, manifest: Manifest, catalog: Catalog
) -> Iterator[TableLoad]:
    """Yield a checked snapshot's tables for the loader, in the order of the file."""
    for body in read_tables(path, offset, manifest.body):
        yield _table_load(manifest, catalog, body)


def _check_schema(manifest: Manifest, catalog: Catalog) -> None:
    tables = [catalog.by_key[key] for key in manifest.schema if key in catalog.by_key]
    present = described_schema(tables)
    differences = []
    for key, columns in manifest.schema.items():
        if key not in present:
            differences.append(f"table {key} is missing")
            continue
        for column in {**columns, **present[key]}:
            wanted, found = columns.get(column), present[key].get(column)
            if found is None:
                differences.append(f"{key}.{column} is missing")
            elif wanted is None:
                differences.append(f"{key}.{column} ({found}) is not in the snapshot")
            elif wanted != found:
                differences.append(f"{key}.{column} is {found}, in the snapshot {wanted}")
    if differences:
        raise SchemaError(
            f"snapshot {manifest.name} does not fit the database, nothing was touched: "
            f"{first(differences, 20)}"
        )


def _plan(
    manifest: Manifest,
    catalog: Catalog,
    flag: str,
    present: Check,
    *,
    clean_existing: bool,
) -> Plan:
    existing, tables = Existing.KEEP, [catalog.table(key) for key in manifest.stats]
    if manifest.all_rows:
        if not clean_existing:
            raise RefusedError(
                f"refused: {manifest.name} is a snapshot of all rows, and is restored into empty "
                "tables only"
            )
        existing = Existing.NONE
    elif clean_existing:
        existing = Existing.REPLACE
        tables = list(catalog.flagged(flag))
    return Plan(
        catalog,
        tables,
        existing,
        flag,
        manifest.stats,
        flagged=not manifest.all_rows,
        checks=(present, required_check(catalog, manifest.requires, flag)),
    )


def _table_load(manifest: Manifest, catalog: Catalog, body: TableBody) -> TableLoad:
    table = catalog.table(body.key)
    if list(body.columns) != list(manifest.schema.get(body.key, ())):
        raise SnapshotDamagedError(f"table {body.key}: the body's columns are not the manifest's")
    return TableLoad(table, body.columns, _csv(body), JSON_CSV)


def _csv(body: TableBody) -> Iterator[bytes]:
    for block in body.blocks:
        try:
            yield rows_to_csv(block)
        except UnicodeDecodeError as error:
            raise SnapshotDamagedError(f"table {body.key}: {error}") from error

"""Import a plain JSON document: load its rows into a scratch database, and save them from there.

So each value is written as PostgreSQL writes it, and every constraint has been checked.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass
from dataclasses import replace as replace_fields
from pathlib import Path
from typing import TYPE_CHECKING

from perfdata.config import Settings
from perfdata.errors import SnapshotError
from perfdata.load.loader import load
from perfdata.load.plan import Existing, Plan
from perfdata.load.selection import flagged_selection
from perfdata.postgres.connection import conninfo_of, open_link
from perfdata.postgres.locks import LOCK_TIMEOUT_S
from perfdata.postgres.reflection import read_catalog
from perfdata.progress import silent
from perfdata.project import Migrations, find_project, flag_of
from perfdata.snapshot.clone import scratch_clone
from perfdata.snapshot.create import create, writable_path
from perfdata.snapshot.options import CreateOptions
from perfdata.snapshot.plain.document import PlainDocument
from perfdata.snapshot.plain.rows import fit
from perfdata.snapshot.project_template import keep_unflagged, remove_flagged
from perfdata.snapshot.store import check_free
from perfdata.snapshot.template import connect_target
from perfdata.snapshot.upgrade import check_server
from perfdata.target.target import make_tables
from perfdata.templates.new_database import scratch_database

if TYPE_CHECKING:
    from collections.abc import Iterator

    from perfdata.postgres.link import Link
    from perfdata.progress import Report
    from perfdata.snapshot.plain.rows import PlainRows
    from perfdata.snapshot.store import Snapshot


@dataclass(frozen=True)
class Imported:
    """A finished import; ``created_at`` is what the file says, empty where it says nothing."""

    snapshot: Snapshot
    file: Path
    created_at: str
    notes: tuple[str, ...]
    duration_s: float


def import_snapshot(
    database: object,
    file: str | Path,
    name: str = "",
    description: str = "",
    *,
    replace: bool = False,
    terminate: bool = False,
    as_superuser: bool = False,
    lock_timeout_s: float = LOCK_TIMEOUT_S,
    settings: Settings | None = None,
    report: Report = silent,
) -> Imported:
    """Make a snapshot of the rows of a plain JSON file.

    The file holds ``{name, created_at, description, stats, tables: {table: [{column: value}]}}``;
    it may be compressed with gzip or zstd.

    Args:
        database: a URL or an Engine. The rows are loaded into a scratch database on its server, in
            which the project's migrations make the tables; without a project of which Alembic or
            the metadata makes them, into a clone of the database. It is dropped at the end.
        file: the path.
        name: the snapshot's name, by default the file's.
        description: a sentence to store, by default the file's.
        replace: replace a snapshot of that name, once the new file is complete.
        terminate: end the sessions that are open in the database, if it has to be cloned.

    The other arguments are those of create_snapshot. Columns that the file lacks take their
    defaults, and the flag is set. Raises SnapshotDamagedError for a file of another form,
    SnapshotExistsError without ``replace``, SchemaError for tables or columns that the database
    does not have, GuardError, NoClonesError, RefusedError for open sessions, and LoadError for rows
    that the server refuses. No snapshot is changed then.
    """
    settings = settings or Settings.load()
    options = CreateOptions(
        name=name,
        description=description,
        replace=replace,
        as_superuser=as_superuser,
        lock_timeout_s=lock_timeout_s,
    )
    document = read_document(file, options, settings, report)
    conninfo = conninfo_of(database)
    return import_document(conninfo, document, options, settings, report, terminate=terminate)


def import_document(
    conninfo: str,
    document: PlainDocument,
    options: CreateOptions,
    settings: Settings,
    report: Report,
    *,
    terminate: bool,
) -> Imported:
    """Make a snapshot of a document that was read (see import_snapshot)."""
    began = time.perf_counter()
    writable_path(options.name or document.name, settings)
    with _scratch(conninfo, settings, report, terminate=terminate) as link:
        plan, rows = plan_import(link, document, options, settings)
        remove_flagged(link, plan)
        loaded = load(link, plan, rows, report)
        named = replace_fields(
            options,
            name=options.name or document.name,
            description=options.description or document.description,
            expected=loaded.rows,
        )
        saved = create(link, named, settings, report)
    duration_s = time.perf_counter() - began
    notes = (*rows.notes, *loaded.notes)
    return Imported(saved, document.path, document.created_at, notes, duration_s)


def read_document(
    file: str | Path, options: CreateOptions, settings: Settings, report: Report
) -> PlainDocument:
    """Read a file to its end, and check the name that its snapshot will have."""
    if options.name:
        check_free(options.name, settings, replace=options.replace)
    document = PlainDocument.read(Path(file), report)
    if not (options.name or document.name):
        raise SnapshotError(f"{file} has no name", remedy="Give the snapshot a name")
    check_free(options.name or document.name, settings, replace=options.replace)
    return document


def plan_import(
    link: Link, document: PlainDocument, options: CreateOptions, settings: Settings
) -> tuple[Plan, PlainRows]:
    """Check that a document fits a database; return how its rows are loaded into one like it."""
    flag = flag_of(find_project(settings), settings)
    catalog = read_catalog(link)
    rows = fit(document, catalog, flag)
    selection = flagged_selection(catalog, flag, settings).with_unflagged(catalog, rows.counts)
    plan = Plan(
        catalog,
        selection.tables(catalog),
        Existing.ALL,
        selection,
        counts=rows.counts,
        application_name=f"perfdata import {options.name or document.name}",
        lock_timeout_s=options.lock_timeout_s,
        as_superuser=options.as_superuser,
    )
    return keep_unflagged(link, plan), rows


@contextmanager
def _scratch(
    conninfo: str, settings: Settings, report: Report, *, terminate: bool
) -> Iterator[Link]:
    """Connect to a new database with the project's tables, or else to a clone of the database."""
    project = find_project(settings)
    if project is None or not project.makes_tables or isinstance(project.migrations, Migrations):
        with scratch_clone(conninfo, settings, report, terminate=terminate) as link:
            yield link
        return
    check_server(conninfo, settings)
    with (
        connect_target(conninfo, settings, report) as target,
        scratch_database(target) as scratch,
    ):
        make_tables(scratch, project, report)
        with open_link(scratch) as link:
            yield link

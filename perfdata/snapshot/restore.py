"""Restore: a snapshot file into a database, checked whole before the first change."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from perfdata.config import Settings
from perfdata.database.audit import log_change
from perfdata.database.guard import check_guard
from perfdata.database.loading import Existing, Loaded, Plan, TableLoad, load
from perfdata.database.migrate import read_history
from perfdata.database.ownership import is_owned
from perfdata.database.sequences import SequenceState, sequences_check
from perfdata.database.space import space_check
from perfdata.database.target import project_of
from perfdata.errors import ConfigError, RefusedError, SchemaError, SnapshotDamagedError
from perfdata.postgres.connection import conninfo_of, open_link
from perfdata.postgres.copy import JSON_CSV, csv_blocks
from perfdata.postgres.link import run_checks
from perfdata.postgres.locks import LOCK_TIMEOUT_S
from perfdata.postgres.reflection import read_catalog
from perfdata.postgres.user_code import OTHER_ROLES, refuse_user_code_in_load
from perfdata.progress import silent
from perfdata.project import flag_of
from perfdata.snapshot.consent import check_consent
from perfdata.snapshot.drift import Drift
from perfdata.snapshot.format import check_file, read_tables
from perfdata.snapshot.required import required_check
from perfdata.snapshot.selection import Selection
from perfdata.snapshot.shape import check_columns
from perfdata.snapshot.store import find_snapshot
from perfdata.snapshot.whole import check_whole
from perfdata.text import first

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from perfdata.postgres.catalog import Catalog
    from perfdata.postgres.link import Link
    from perfdata.postgres.statistics import Statistics
    from perfdata.progress import Report
    from perfdata.snapshot.format import Manifest, TableBody
    from perfdata.snapshot.store import Snapshot


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a snapshot is restored (see restore_snapshot)."""

    clean_existing: bool = True
    fresh: bool = False
    terminate: bool = False
    allow_drift: bool = False
    rebuild_indexes: bool = False
    unflagged_rows: bool = False
    as_superuser: bool = False
    lock_timeout_s: float = LOCK_TIMEOUT_S

    @property
    def in_place(self) -> Options:
        """The same, for a restore that does not replace the database."""
        return replace(self, fresh=False, terminate=False)

    def __post_init__(self) -> None:
        """Raise ConfigError for what does not go together."""
        if self.fresh and not self.clean_existing:
            raise ConfigError("a fresh database keeps nothing: --fresh or --keep-existing")
        if self.terminate and not self.fresh:
            raise ConfigError("--terminate goes with --fresh: else no session has to end")


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
    fresh: bool = False,
    terminate: bool = False,
    allow_drift: bool = False,
    rebuild_indexes: bool = False,
    unflagged_rows: bool = False,
    as_superuser: bool = False,
    lock_timeout_s: float = LOCK_TIMEOUT_S,
    settings: Settings | None = None,
    report: Report = silent,
) -> Restored:
    """Replace a database's flagged rows by a snapshot's, in one transaction.

    ``database`` is a URL, a SQLAlchemy Engine, Connection or Session, or a psycopg connection; a
    caller's open transaction is joined: nothing is committed or vacuumed. Unflagged rows are
    afterwards as they were. ``clean_existing`` False adds to the flagged rows that are there.
    ``allow_drift`` lets migrations and columns pass that came since, where every row still fits.
    ``rebuild_indexes`` drops indexes and builds them again also beside other data, which is faster
    from a million rows on; it is refused (RefusedError) while pg_dump reads the database.
    ``unflagged_rows`` lets the file bring rows without the flag: of tables that it has whole and
    the setting ``whole_tables`` does not name, and all rows beside those of other tables.
    ``as_superuser`` lets code run that other roles wrote (checks, defaults, index expressions):
    with it they may do whatever the role of this connection may.
    Locks are waited for ``lock_timeout_s`` at most: then LoadError names who holds them.

    ``fresh`` replaces the whole database, which is to be given as a URL or an Engine, by the clone
    of a template with the snapshot's rows in it. Owner, grants, settings and comment stay, and what
    was replaced is kept beside it. Sessions that are open in it are named in a RefusedError, or
    ended where ``terminate``. A role that may not do that restores in the ordinary way, and the
    notes say why.

    Before the first change these are checked, and each raises an error of its own: the file
    (SnapshotDamagedError), the guard (GuardError), the migrations (SnapshotStaleError), the tables
    (SchemaError), the boundary (BoundaryError), code of roles that may not act as this one
    (UserCodeError), what it brings beside flagged rows, the rows that it requires, the role's
    privileges and, where the server's disk can be seen, its room (RefusedError).
    """
    settings = settings or Settings.load()
    snapshot = find_snapshot(name, settings)
    options = Options(
        clean_existing=clean_existing,
        fresh=fresh,
        terminate=terminate,
        allow_drift=allow_drift,
        rebuild_indexes=rebuild_indexes,
        unflagged_rows=unflagged_rows,
        as_superuser=as_superuser,
        lock_timeout_s=lock_timeout_s,
    )
    return restore_into(database, snapshot, settings, options, report)


def restore_into(
    database: object, snapshot: Snapshot, settings: Settings, options: Options, report: Report
) -> Restored:
    """Restore a snapshot into what a caller gave (see restore_snapshot)."""
    if options.fresh:
        from perfdata.snapshot.fresh import restore_fresh

        return restore_fresh(conninfo_of(database), snapshot, settings, options, report)
    began = time.perf_counter()
    checked = check_file(snapshot.path)
    with open_link(database) as link:
        done = restore(link, snapshot, checked, settings, options, report)
    return replace(done, duration_s=time.perf_counter() - began)


def restore(
    link: Link,
    snapshot: Snapshot,
    checked: tuple[Manifest, int],
    settings: Settings,
    options: Options,
    report: Report,
) -> Restored:
    """Restore a snapshot, of which check_file told ``checked``, over an open link."""
    began = time.perf_counter()
    manifest, offset = checked
    plan = prepare_load(link, snapshot, checked, settings, options)
    loaded = load_body(link, plan, snapshot.path, offset, manifest, report)
    duration = time.perf_counter() - began
    notes = (*loaded.notes, *log_restore(link, manifest, loaded.strategy.value))
    return Restored(snapshot.name, loaded.rows, loaded.strategy.value, duration, notes)


def log_restore(
    link: Link, manifest: Manifest, strategy: str, database: str | None = None
) -> tuple[str, ...]:
    """Have the server's log say what was restored (see log_change)."""
    done = f"restored snapshot {manifest.name} (sha256 of its rows {manifest.body.sha256})"
    return log_change(link, done, manifest.rows, strategy, database)


def application_name(name: str) -> str:
    """Return what sessions are called that restore a snapshot; the server cuts it to 63 bytes."""
    return f"perfdata restore {name}"


def load_body(
    link: Link, plan: Plan, path: Path, offset: int, manifest: Manifest, report: Report
) -> Loaded:
    """Load the tables of a checked file, and the planner's statistics where it has them."""
    known: list[Statistics] = []
    loads = table_loads(path, offset, manifest, plan.catalog, known.append)
    plan = replace(plan, statistics=lambda: known[0] if known else None)
    return load(link, plan, loads, report)


def prepare_load(
    link: Link,
    snapshot: Snapshot,
    checked: tuple[Manifest, int],
    settings: Settings,
    options: Options,
) -> Plan:
    """Check that a checked file fits; return how to load it, with what the loader is to check."""
    manifest, offset = checked
    plan = prepare(link, manifest, settings, options)
    if manifest.whole_tables:
        whole = partial(
            check_whole, catalog=plan.catalog, manifest=manifest, path=snapshot.path, offset=offset
        )
        plan = replace(plan, last_check=whole)
    return plan


def prepare(link: Link, manifest: Manifest, settings: Settings, options: Options) -> Plan:
    """Check that a snapshot may go into a database and fits it; return how it is to be loaded."""
    check_guard(link, settings)
    project = project_of(link, settings)
    drift = Drift(manifest, allowed=options.allow_drift)
    with link.transaction(reading=True):
        others = link.later(OTHER_ROLES)
        catalog = read_catalog(link)
        present = drift.migrations_check(read_history(project), catalog)
        room = space_check(link, manifest.body.bytes, manifest.rows)
        run_checks(link, [present, sequences_check(manifest.sequences), room])
    drift.check_schema(catalog)
    flag = flag_of(project, settings)
    if manifest.flag_column not in (None, flag):
        raise SchemaError(
            f"snapshot {manifest.name} holds the rows with {manifest.flag_column}, and here the "
            f"flag is {flag}; nothing was touched"
        )
    plan = replace(
        _plan(manifest, catalog, flag, clean_existing=options.clean_existing),
        checks=(present, required_check(catalog, manifest.requires, flag)),
        lock_timeout_s=options.lock_timeout_s,
        owned=is_owned(link),
        rebuild_indexes=options.rebuild_indexes,
        notes=drift.notes(),
        brought=manifest.schema,
        as_superuser=options.as_superuser,
        application_name=application_name(manifest.name),
    )
    refuse_user_code_in_load(link, others.rows, plan)
    check_consent(link, others.rows, plan, manifest, settings, options)
    return plan


def table_loads(
    path: Path,
    offset: int,
    manifest: Manifest,
    catalog: Catalog,
    tell_statistics: Callable[[Statistics], None] = lambda _found: None,
) -> Iterator[TableLoad]:
    """Yield the tables of a snapshot that check_file passed, in the order of the file.

    ``tell_statistics`` is given the planner's statistics, where there are any, after the last one.
    """
    for body in read_tables(path, offset, manifest.body, tell_statistics, checked=True):
        yield table_load(path, manifest, catalog, body)


def table_load(path: Path, manifest: Manifest, catalog: Catalog, body: TableBody) -> TableLoad:
    """Make of a table of a snapshot what the loader takes.

    Raises SnapshotDamagedError where it has not the manifest's columns.
    """
    check_columns(path, manifest, body)
    return TableLoad(catalog.table(body.key), body.columns, _csv(body), JSON_CSV)


def _plan(manifest: Manifest, catalog: Catalog, flag: str, *, clean_existing: bool) -> Plan:
    taken = {table.key: table for table in Selection.of(manifest).tables(catalog)}
    if other := [key for key in manifest.stats if key not in taken]:
        raise SchemaError(
            f"snapshot {manifest.name} has rows of {first(other)}, which has no column {flag} and "
            "is not among its whole tables: they may not be filled; nothing was touched. Build or "
            "create it again"
        )
    existing, tables = Existing.KEEP, [taken[key] for key in manifest.stats]
    if manifest.all_rows:
        if not clean_existing:
            raise RefusedError(
                f"refused, nothing was touched: {manifest.name} is a snapshot of all rows, and is "
                "restored into empty tables only, where there is nothing to keep: leave out "
                "--keep-existing"
            )
        existing = Existing.NONE
    elif clean_existing:
        existing = Existing.REPLACE
        tables = list(taken.values())
    return Plan(
        catalog,
        tables,
        existing,
        flag,
        manifest.stats,
        flagged=not manifest.all_rows,
        whole=frozenset(catalog.table(key).oid for key in manifest.whole_tables),
        sequences={key: SequenceState(*one) for key, one in manifest.sequences.items()},
        populated=manifest.populated_views,
    )


def _csv(body: TableBody) -> Iterator[bytes]:
    for block in body.blocks:
        try:
            yield from csv_blocks(block)
        except UnicodeDecodeError as error:
            raise SnapshotDamagedError(f"table {body.key}: {error}") from error
        del block  # a row may be of any size: it is not held while the next is read

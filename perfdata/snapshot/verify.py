"""Verify a snapshot file against its manifest, and against the rows of a database."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perfdata.config import Settings
from perfdata.errors import SnapshotDiffersError
from perfdata.postgres.connection import open_link
from perfdata.postgres.locks import LOCK_TIMEOUT_S, consistent_read
from perfdata.progress import silent
from perfdata.snapshot.diff.difference import common_columns, read_digests
from perfdata.snapshot.diff.sides import DatabaseSide, FileSide
from perfdata.snapshot.store import find_snapshot
from perfdata.text import join_first

if TYPE_CHECKING:
    from perfdata.postgres.link import Link
    from perfdata.progress import Report
    from perfdata.snapshot.diff.sides import Side
    from perfdata.snapshot.store import Snapshot


def verify_snapshot(
    name: str,
    settings: Settings | None = None,
    *,
    database: object = None,
    as_superuser: bool = False,
    lock_timeout_s: float = LOCK_TIMEOUT_S,
    report: Report = silent,
) -> Snapshot:
    """Check every byte and row of a snapshot against its manifest, and return the snapshot.

    With ``database``, also compare the snapshot with what it would hold if it were created now:
    each table's row count and an order-independent digest of its rows. A caller's open transaction
    is joined; ``as_superuser`` is that of create_snapshot.

    Raises SnapshotNotFoundError, SnapshotDamagedError, SnapshotDiffersError if the database's rows
    differ (diff_snapshots shows which), and LoadError, which names the holder of a lock that was
    not free within ``lock_timeout_s`` seconds.
    """
    snapshot = verify_file(name, settings or Settings.load())
    if database is not None:
        with open_link(database) as link:
            verify_against(link, snapshot, lock_timeout_s, report, as_superuser=as_superuser)
    return snapshot


def verify_against(
    link: Link,
    snapshot: Snapshot,
    lock_timeout_s: float = LOCK_TIMEOUT_S,
    report: Report = silent,
    *,
    as_superuser: bool = False,
) -> None:
    """Raise SnapshotDiffersError if a database's rows differ from a snapshot's."""
    saved = FileSide(snapshot)
    with consistent_read(link, lock_timeout_s):
        present = DatabaseSide(link, saved.manifest, as_superuser=as_superuser)
        differing = _differing_tables(saved, present, report)
    if differing:
        tables = join_first([f"{key} ({reason})" for key, reason in differing.items()], 20)
        raise SnapshotDiffersError(
            f"{snapshot.name} and the database differ: {tables}",
            differing,
            remedy=f"snapshot.diff --name {snapshot.name} shows the rows",
        )


def _differing_tables(saved: Side, present: Side, report: Report) -> dict[str, str]:
    """Return how each table differs, by its key."""
    reasons: dict[str, str] = {}
    for key in {**saved.columns, **present.columns}:
        if key not in present.columns:
            reasons[key] = "not in the database"
        elif key not in saved.columns:
            reasons[key] = "not in the snapshot"
        elif unshared := sorted(set(saved.columns[key]) ^ set(present.columns[key])):
            reasons[key] = f"only one of them has {join_first(unshared)}"
    common = {
        key: columns
        for key, columns in common_columns(saved, present).items()
        if key not in reasons
    }
    digests = read_digests(saved, common, report), read_digests(present, common, report)
    for key in common:
        old, new = (digest[key] for digest in digests)
        if old.rows != new.rows:
            reasons[key] = f"{old.rows:,} rows in the snapshot, {new.rows:,} in the database"
        elif old != new:
            reasons[key] = f"{old.rows:,} rows in both, not all the same"
    return reasons


def verify_file(name: str, settings: Settings) -> Snapshot:
    """Check a snapshot's file against its own checksums and counts."""
    snapshot = find_snapshot(name, settings)
    snapshot.open().check()
    return snapshot

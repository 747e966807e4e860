"""Verify: a snapshot file against what its manifest says, and against the rows of a database."""

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
from perfdata.text import first

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
    """Read every byte and row of a snapshot; return it when all is as its manifest says.

    With ``database`` also compare each table's rows with those that the snapshot would hold now:
    their number and an order-independent digest. A caller's open transaction is joined;
    ``as_superuser`` is that of create_snapshot.
    Locks are waited for ``lock_timeout_s`` at most: then LoadError names who holds them.

    Raises SnapshotDamagedError, SnapshotNotFoundError, and SnapshotDiffersError for a database
    that holds something else; diff_snapshots tells which rows.
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
    """Raise SnapshotDiffersError where a database's rows are not a snapshot's."""
    ours = FileSide(snapshot)
    with consistent_read(link, lock_timeout_s):
        theirs = DatabaseSide(link, ours.manifest, as_superuser=as_superuser)
        differing = _differing(ours, theirs, report)
    if differing:
        said = first([f"{key} ({reason})" for key, reason in differing.items()], 20)
        raise SnapshotDiffersError(
            f"{snapshot.name} and the database differ: {said}. "
            f"snapshot.diff --name {snapshot.name} shows the rows",
            differing,
        )


def _differing(ours: Side, theirs: Side, report: Report) -> dict[str, str]:
    """Say for each table that differs how it does."""
    reasons: dict[str, str] = {}
    for key in (*ours.columns, *(key for key in theirs.columns if key not in ours.columns)):
        if key not in theirs.columns:
            reasons[key] = "not in the database"
        elif key not in ours.columns:
            reasons[key] = "not in the snapshot"
        elif other := sorted(set(ours.columns[key]) ^ set(theirs.columns[key])):
            reasons[key] = f"only one of them has {first(other)}"
    common = {key: one for key, one in common_columns(ours, theirs).items() if key not in reasons}
    digests = read_digests(ours, common, report), read_digests(theirs, common, report)
    for key in common:
        old, new = (digest[key] for digest in digests)
        if old.rows != new.rows:
            reasons[key] = f"{old.rows:,} rows in the snapshot, {new.rows:,} in the database"
        elif old != new:
            reasons[key] = f"{old.rows:,} rows in both, not all the same"
    return reasons


def verify_file(name: str, settings: Settings) -> Snapshot:
    """Read a snapshot's file whole against its own checksums and counts."""
    snapshot = find_snapshot(name, settings)
    snapshot.open().check()
    return snapshot

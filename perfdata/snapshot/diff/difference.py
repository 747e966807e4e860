"""Diff: which rows differ between two snapshots, or between one and the database.

A first pass compares digests of tables. Only of those that differ each row's key and row are
hashed, kept on disk and matched; a last pass reads the rows that are shown.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from perfdata.config import Settings
from perfdata.errors import ConfigError
from perfdata.postgres.connection import open_link
from perfdata.postgres.locks import LOCK_TIMEOUT_S, consistent_read
from perfdata.progress import Event, silent
from perfdata.snapshot.diff.matching import Found, find_rows
from perfdata.snapshot.diff.sides import DatabaseSide, FileSide
from perfdata.snapshot.store import find_snapshot

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from perfdata.postgres.link import Link
    from perfdata.progress import Report
    from perfdata.snapshot.diff.matching import RowSample
    from perfdata.snapshot.diff.sides import Columns, Side
    from perfdata.snapshot.store import Snapshot

LIMIT = 5
_MASK = (1 << 64) - 1


@dataclass(frozen=True)
class TableDifference:
    """How a table differs; rows are None on the side that does not have it.

    Rows are compared by the columns that both sides have; of a table that only one has all were
    added or removed. ``samples`` are of each kind, by
    ``added``, ``removed`` and ``changed``.
    """

    table: str
    rows_before: int | None
    rows_after: int | None
    columns_added: Sequence[str]
    columns_removed: Sequence[str]
    added: int
    removed: int
    changed: int
    samples: Mapping[str, Sequence[RowSample]]

    @property
    def otherwise_built(self) -> bool:
        """Tell whether the table is missing on a side, or has other columns there."""
        missing = None in (self.rows_before, self.rows_after)
        return missing or bool(self.columns_added or self.columns_removed)


@dataclass(frozen=True)
class Difference:
    """What is compared, and the tables that differ, by name."""

    before: str
    after: str
    tables: tuple[TableDifference, ...]

    @property
    def same(self) -> bool:
        """Tell whether nothing differs."""
        return not self.tables


@dataclass(frozen=True)
class Digest:
    """A table's rows in any order: how many, and the sum of their hashes (of this process)."""

    rows: int = 0
    total: int = 0


def diff_snapshots(
    name: str,
    other: str | None = None,
    *,
    database: object = None,
    limit: int = LIMIT,
    as_superuser: bool = False,
    lock_timeout_s: float = LOCK_TIMEOUT_S,
    settings: Settings | None = None,
    report: Report = silent,
) -> Difference:
    """Compare a snapshot with another, or with the rows of a database that it would hold now.

    What was added is only in the other one. At most ``limit`` rows of a kind are shown for a
    table. Nothing is changed; a caller's open transaction is joined. Memory stays flat.
    ``as_superuser`` is that of create_snapshot.
    Locks are waited for ``lock_timeout_s`` at most: then LoadError names who holds them.

    Raises SnapshotNotFoundError, SnapshotDamagedError, ConnectError, SchemaError, and ConfigError
    unless either ``other`` or ``database`` is given.
    """
    settings = settings or Settings.load()
    if (other is None) == (database is None):
        raise ConfigError("a snapshot is compared with another one or with a database: name one")
    snapshot = find_snapshot(name, settings)
    if other is not None:
        after = FileSide(find_snapshot(other, settings))
        return compare(FileSide(snapshot), after, limit, report)
    with open_link(database) as link:
        return diff_with_database(
            link, snapshot, limit, lock_timeout_s, report, as_superuser=as_superuser
        )


def diff_with_database(
    link: Link,
    snapshot: Snapshot,
    limit: int = LIMIT,
    lock_timeout_s: float = LOCK_TIMEOUT_S,
    report: Report = silent,
    *,
    as_superuser: bool = False,
) -> Difference:
    """Compare a snapshot with what it would hold now, over an open link (see diff_snapshots)."""
    before = FileSide(snapshot)
    with consistent_read(link, lock_timeout_s):
        after = DatabaseSide(link, before.manifest, as_superuser=as_superuser)
        return compare(before, after, limit, report)


def compare(before: Side, after: Side, limit: int, report: Report) -> Difference:
    """Compare two sides."""
    common = common_columns(before, after)
    digests = [read_digests(side, common, report) for side in (before, after)]
    differing = {key: one for key, one in common.items() if digests[0][key] != digests[1][key]}
    found = find_rows(before, after, differing, limit)
    tables = (
        _difference(before, after, key, found.get(key, Found()))
        for key in sorted({*before.columns, *after.columns})
    )
    kept = (one for one in tables if one.table in differing or one.otherwise_built)
    return Difference(before.name, after.name, tuple(kept))


def _difference(before: Side, after: Side, key: str, found: Found) -> TableDifference:
    ours, theirs = before.columns.get(key), after.columns.get(key)
    both = ours is not None and theirs is not None
    return TableDifference(
        key,
        None if ours is None else before.rows(key),
        None if theirs is None else after.rows(key),
        [one for one in theirs or () if both and one not in (ours or ())],
        [one for one in ours or () if both and one not in (theirs or ())],
        after.rows(key) if ours is None else found.counts["added"],
        before.rows(key) if theirs is None else found.counts["removed"],
        found.counts["changed"],
        found.samples,
    )


def common_columns(before: Side, after: Side) -> Columns:
    """Return the columns that both sides have, by the tables that both have."""
    return {
        key: [one for one in columns if one in after.columns[key]]
        for key, columns in before.columns.items()
        if key in after.columns
    }


def read_digests(side: Side, wanted: Columns, report: Report) -> dict[str, Digest]:
    """Read tables once, and add the hashes of their rows up."""
    digests = dict.fromkeys(wanted, Digest())

    def take(key: str, lines: list[bytes]) -> None:
        # Python's own hash of bytes: a tenth of a microsecond, where other digests take a whole.
        total = digests[key].total + sum(map(hash, lines))
        digests[key] = Digest(digests[key].rows + len(lines), total & _MASK)
        report(Event(f"{side.name}: {key}", digests[key].rows))

    side.read(wanted, take)
    return digests

"""Compare two snapshots, or a snapshot and a database, row by row.

A first pass compares digests of tables. In tables that differ, a second pass hashes each row and
its key, and matches the hashes on disk. A last pass reads the rows that are shown.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from perfdata.config import Settings
from perfdata.errors import ConfigError
from perfdata.postgres.connection import open_link
from perfdata.postgres.locks import LOCK_TIMEOUT_S, consistent_read
from perfdata.progress import Event, silent
from perfdata.snapshot.diff.matching import RowDifferences, find_rows
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
    """How a table differs; its row count is None on a side without the table.

    Rows are compared by the columns that both sides have. All rows of a table that only one side
    has were added or removed. ``samples`` has the keys ``added``, ``removed`` and ``changed``.
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
        """Whether the table is missing on a side, or has other columns there."""
        missing = None in (self.rows_before, self.rows_after)
        return missing or bool(self.columns_added or self.columns_removed)


@dataclass(frozen=True)
class Difference:
    """The names of the two sides, and the tables that differ."""

    before: str
    after: str
    tables: tuple[TableDifference, ...]

    @property
    def same(self) -> bool:
        """Whether nothing differs."""
        return not self.tables


@dataclass(frozen=True)
class Digest:
    """A table's row count and the sum of its rows' hashes, which hold in this process only."""

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
    """Compare a snapshot with another, or with what it would hold if it were created now.

    Rows that only the other side has were added. At most ``limit`` rows of each kind are returned
    for a table. Nothing is changed; a caller's open transaction is joined; memory use does not grow
    with the number of rows. ``as_superuser`` is that of create_snapshot.

    Raises SnapshotNotFoundError, SnapshotDamagedError, ConnectError, SchemaError, LoadError, which
    names the holder of a lock that was not free within ``lock_timeout_s`` seconds, and ConfigError
    unless either ``other`` or ``database`` is given.
    """
    settings = settings or Settings.load()
    if (other is None) == (database is None):
        raise ConfigError(
            "a snapshot is compared either with another one or with a database", remedy="Name one"
        )
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
    """Compare a snapshot with a database over an open link (see diff_snapshots)."""
    before = FileSide(snapshot)
    with consistent_read(link, lock_timeout_s):
        after = DatabaseSide(link, before.manifest, as_superuser=as_superuser)
        return compare(before, after, limit, report)


def compare(before: Side, after: Side, limit: int, report: Report) -> Difference:
    """Compare two sides."""
    common = common_columns(before, after)
    old, new = (read_digests(side, common, report) for side in (before, after))
    differing = {key: columns for key, columns in common.items() if old[key] != new[key]}
    found = find_rows(before, after, differing, limit)
    tables = (
        _difference(before, after, key, found.get(key, RowDifferences()))
        for key in sorted({*before.columns, *after.columns})
    )
    kept = (table for table in tables if table.table in differing or table.otherwise_built)
    return Difference(before.name, after.name, tuple(kept))


def _difference(before: Side, after: Side, key: str, found: RowDifferences) -> TableDifference:
    old, new = before.columns.get(key), after.columns.get(key)
    both = old is not None and new is not None
    return TableDifference(
        key,
        None if old is None else before.rows(key),
        None if new is None else after.rows(key),
        [name for name in new or () if both and name not in (old or ())],
        [name for name in old or () if both and name not in (new or ())],
        after.rows(key) if old is None else found.counts["added"],
        before.rows(key) if new is None else found.counts["removed"],
        found.counts["changed"],
        found.samples,
    )


def common_columns(before: Side, after: Side) -> Columns:
    """Return the columns that both sides have, by the tables that both have."""
    return {
        key: [name for name in columns if name in after.columns[key]]
        for key, columns in before.columns.items()
        if key in after.columns
    }


def read_digests(side: Side, wanted: Columns, report: Report) -> dict[str, Digest]:
    """Read tables once, and add up the hashes of their rows."""
    digests = dict.fromkeys(wanted, Digest())

    def take(key: str, lines: list[bytes]) -> None:
        # Python's hash of bytes takes 0.1 µs a row; other digests take 1 µs.
        total = digests[key].total + sum(map(hash, lines))
        digests[key] = Digest(digests[key].rows + len(lines), total & _MASK)
        report(Event(f"{side.name}: {key}", digests[key].rows))

    side.read(wanted, take)
    return digests

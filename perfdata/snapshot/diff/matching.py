"""Find the rows that differ: hash each row and its key, store both on disk, match them by key."""

from __future__ import annotations

import json
import re
from array import array
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from hashlib import blake2b
from tempfile import TemporaryFile
from typing import TYPE_CHECKING

from perfdata.errors import SnapshotDamagedError
from perfdata.snapshot.format.reader import VALUE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import IO

    from perfdata.snapshot.diff.sides import Columns, Side

    Row = dict[str, str | None]

# 16 million rows are 63,000 pairs in each bucket: a dictionary of 7 MB.
BUCKETS = 256
# How many numbers of a bucket are buffered before they are written, 8 bytes each: 2 MB for all.
_BUFFERED = 1024


@dataclass(frozen=True)
class RowSample:
    """A row that differs: its key, and each changed column's value before and after.

    Without a primary key, the key is the whole row.
    """

    key: Mapping[str, str | None]
    changed: Mapping[str, tuple[str | None, str | None]]


@dataclass(frozen=True)
class RowDifferences:
    """How many rows of a table were added, removed and changed, and samples of each."""

    counts: Counter[str] = field(default_factory=Counter)
    samples: Mapping[str, Sequence[RowSample]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Pair:
    """The hashes of a row on both sides; None on a side without the row."""

    before: int | None
    after: int | None

    @property
    def kind(self) -> str:
        if self.before is None:
            return "added"
        return "removed" if self.after is None else "changed"


@dataclass
class _Table:
    """A table's columns, those of its key, and the differences found so far."""

    columns: Sequence[str]
    key: Sequence[str]
    counts: Counter[str] = field(default_factory=Counter)
    samples: list[_Pair] = field(default_factory=list)

    def pattern(self) -> re.Pattern[bytes]:
        """Match a line up to its key's last value, with each value of the key as a group."""
        last = max(list(self.columns).index(name) for name in self.key)
        parts = [
            b"(%b)" % VALUE if name in self.key else VALUE for name in self.columns[: last + 1]
        ]
        return re.compile(rb"\[" + b",".join(parts))


def find_rows(before: Side, after: Side, wanted: Columns, limit: int) -> dict[str, RowDifferences]:
    """Find the rows of tables that differ, and at most ``limit`` samples of each kind.

    Rows of a table without a primary key are compared as a multiset: they are added or removed.
    """
    if not wanted:
        return {}
    tables = {
        key: _Table(columns, _key(before, after, key, columns)) for key, columns in wanted.items()
    }
    with TemporaryFile() as old_file, TemporaryFile() as new_file:
        old = {key: _Buckets(old_file) for key in tables}
        new = {key: _Buckets(new_file) for key in tables}
        _hash_rows(before, tables, old)
        _hash_rows(after, tables, new)
        for key, table in tables.items():
            match = _match_keys if table.key else _match_rows
            for bucket in range(BUCKETS):
                for pair in match(old[key].pairs(bucket), new[key].pairs(bucket)):
                    table.counts[pair.kind] += 1
                    if table.counts[pair.kind] <= limit:
                        table.samples.append(pair)
    samples = {key: table.samples for key, table in tables.items()}
    old_hashes = {key: {pair.before for pair in pairs} for key, pairs in samples.items()}
    new_hashes = {key: {pair.after for pair in pairs} for key, pairs in samples.items()}
    old_rows, new_rows = _rows(before, wanted, old_hashes), _rows(after, wanted, new_hashes)
    return {
        key: RowDifferences(table.counts, _samples(table, old_rows[key], new_rows[key]))
        for key, table in tables.items()
    }


def _key(before: Side, after: Side, key: str, columns: Sequence[str]) -> Sequence[str]:
    """Return the columns of the primary key, or none if a side lacks one of them."""
    for side in (before, after):
        names = side.primary_keys.get(key, ())
        if names and set(names) <= set(columns):
            return names
    return ()


def _hash_rows(side: Side, tables: Mapping[str, _Table], buckets: Mapping[str, _Buckets]) -> None:
    patterns = {key: table.pattern() for key, table in tables.items() if table.key}

    def take(key: str, lines: list[bytes]) -> None:
        pattern, add = patterns.get(key), buckets[key].add
        for line in lines:
            row = hash64(line)
            if pattern is None:
                add(row, row)
                continue
            match = pattern.match(line)
            if match is None:
                raise SnapshotDamagedError(f"{side.name}: a row of {key} is not an array of texts")
            add(hash64(b",".join(match.groups())), row)

    side.read({key: table.columns for key, table in tables.items()}, take)


def _match_keys(old: Iterator[tuple[int, int]], new: Iterator[tuple[int, int]]) -> Iterator[_Pair]:
    unmatched = dict(old)
    for key, row in new:
        before = unmatched.pop(key, None)
        if before != row:
            yield _Pair(before, row)
    for row in unmatched.values():
        yield _Pair(row, None)


def _match_rows(old: Iterator[tuple[int, int]], new: Iterator[tuple[int, int]]) -> Iterator[_Pair]:
    unmatched = Counter(row for _, row in old)
    for _, row in new:
        if unmatched[row] > 0:
            unmatched[row] -= 1
        else:
            yield _Pair(None, row)
    for row in unmatched.elements():
        yield _Pair(row, None)


def _rows(
    side: Side, columns: Columns, wanted: Mapping[str, set[int | None]]
) -> dict[str, dict[int, Row]]:
    """Read the rows that have these hashes, by table; None stands for no row."""
    found: dict[str, dict[int, Row]] = defaultdict(dict)

    def take(key: str, lines: list[bytes]) -> None:
        for line in lines:
            if (row := hash64(line)) in wanted[key]:
                found[key][row] = dict(zip(columns[key], json.loads(line), strict=True))

    side.read({key: columns[key] for key, hashes in wanted.items() if hashes - {None}}, take)
    return found


def _samples(
    table: _Table, before: Mapping[int, Row], after: Mapping[int, Row]
) -> dict[str, list[RowSample]]:
    samples: dict[str, list[RowSample]] = {}
    for pair in table.samples:
        old = before[pair.before] if pair.before is not None else None
        new = after[pair.after] if pair.after is not None else None
        row = old or new or {}
        changed = {}
        if old is not None and new is not None:
            changed = {name: (old[name], new[name]) for name in old if old[name] != new[name]}
        key = {name: row[name] for name in table.key or table.columns}
        samples.setdefault(pair.kind, []).append(RowSample(key, changed))
    return samples


def hash64(data: bytes) -> int:
    """Hash to 64 bits: two of 10 million rows have the same hash once in 370,000 times."""
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "little", signed=True)


class _Buckets:
    """Pairs (key, row) of hashes, stored by key in a file."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._places: list[list[tuple[int, int]]] = [[] for _ in range(BUCKETS)]
        self._buffers = [array("q") for _ in range(BUCKETS)]

    def add(self, key: int, row: int) -> None:
        """Store one pair."""
        numbers = self._buffers[key % BUCKETS]
        numbers.append(key)
        numbers.append(row)
        if len(numbers) >= _BUFFERED:
            data = numbers.tobytes()
            self._places[key % BUCKETS].append((self._file.seek(0, 2), len(data)))
            self._file.write(data)
            del numbers[:]

    def pairs(self, bucket: int) -> Iterator[tuple[int, int]]:
        """Yield a bucket's pairs in the order in which they were added."""
        for place, size in self._places[bucket]:
            self._file.seek(place)
            numbers = array("q", self._file.read(size))
            yield from zip(numbers[::2], numbers[1::2], strict=True)
        numbers = self._buffers[bucket]
        yield from zip(numbers[::2], numbers[1::2], strict=True)

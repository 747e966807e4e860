"""Rows that differ: each row's key and whole are hashed, kept on disk and matched by key."""

from __future__ import annotations

import json
import re
from array import array
from collections import Counter, defaultdict
from contextlib import ExitStack
from dataclasses import dataclass, field
from hashlib import blake2b
from tempfile import TemporaryFile
from typing import TYPE_CHECKING

from perfdata.errors import SnapshotDamagedError
from perfdata.snapshot.format.reader import VALUE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from types import TracebackType
    from typing import Self

    from perfdata.snapshot.diff.sides import Columns, Side

    Row = dict[str, str | None]

# 1.6 million rows are 6,300 pairs a bucket, 16 million 63,000: a dictionary of 7 MB.
BUCKETS = 256
# Numbers of a bucket that are gathered before they are written, 8 bytes each: 2 MB for all.
_GATHERED = 1024


@dataclass(frozen=True)
class RowSample:
    """One row that differs: its key, and before and after of each column that changed.

    Where a table has no primary key the key is the whole row.
    """

    key: Mapping[str, str | None]
    changed: Mapping[str, tuple[str | None, str | None]]


@dataclass(frozen=True)
class Found:
    """How many rows of a table were added, removed and changed, and some of each."""

    counts: Counter[str] = field(default_factory=Counter)
    samples: Mapping[str, Sequence[RowSample]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Pair:
    """The hashes of one row on both sides; None on the one that lacks it."""

    before: int | None
    after: int | None

    @property
    def kind(self) -> str:
        if self.before is None:
            return "added"
        return "removed" if self.after is None else "changed"


@dataclass
class _Table:
    """One table: what tells its rows apart, and what is found of it."""

    columns: Sequence[str]
    key: Sequence[str]
    counts: Counter[str] = field(default_factory=Counter)
    chosen: list[_Pair] = field(default_factory=list)

    def pattern(self) -> re.Pattern[bytes]:
        """Match a line up to its key's last value, with each value of the key as a group."""
        last = max(list(self.columns).index(name) for name in self.key)
        parts = [
            b"(%b)" % VALUE if name in self.key else VALUE for name in self.columns[: last + 1]
        ]
        return re.compile(rb"\[" + b",".join(parts))


def find_rows(before: Side, after: Side, wanted: Columns, limit: int) -> dict[str, Found]:
    """Find the rows of tables that differ, and at most ``limit`` samples of each kind.

    Rows of a table without a primary key are compared as a multiset: they are added or removed.
    """
    if not wanted:
        return {}
    tables = {
        key: _Table(columns, _key(before, after, key, columns)) for key, columns in wanted.items()
    }
    with ExitStack() as stack:
        ours, theirs = (
            {key: stack.enter_context(Buckets()) for key in tables} for _ in (before, after)
        )
        _hash_rows(before, tables, ours)
        _hash_rows(after, tables, theirs)
        for key, table in tables.items():
            for pair in _matched(ours[key], theirs[key], by_key=bool(table.key)):
                table.counts[pair.kind] += 1
                if table.counts[pair.kind] <= limit:
                    table.chosen.append(pair)
    hashes = {
        key: [{pair.before for pair in table.chosen}, {pair.after for pair in table.chosen}]
        for key, table in tables.items()
    }
    rows = [
        _rows(side, wanted, {key: one[number] - {None} for key, one in hashes.items()})
        for number, side in enumerate((before, after))
    ]
    return {
        key: Found(table.counts, _samples(table, rows[0][key], rows[1][key]))
        for key, table in tables.items()
    }


def _key(before: Side, after: Side, key: str, columns: Sequence[str]) -> Sequence[str]:
    """Return the columns of the primary key; none where a side lacks one of them."""
    for side in (before, after):
        names = side.primary_keys.get(key, ())
        if names and set(names) <= set(columns):
            return names
    return ()


def _hash_rows(side: Side, tables: Mapping[str, _Table], buckets: Mapping[str, Buckets]) -> None:
    patterns = {key: table.pattern() for key, table in tables.items() if table.key}

    def take(key: str, lines: list[bytes]) -> None:
        pattern, add = patterns.get(key), buckets[key].add
        for line in lines:
            row = hashed(line)
            if pattern is None:
                add(row, row)
                continue
            match = pattern.match(line)
            if match is None:
                raise SnapshotDamagedError(f"{side.name}: a row of {key} is no array of texts")
            add(hashed(b",".join(match.groups())), row)

    side.read({key: table.columns for key, table in tables.items()}, take)


def _matched(ours: Buckets, theirs: Buckets, *, by_key: bool) -> Iterator[_Pair]:
    match = _match_keys if by_key else _match_rows
    for bucket in range(BUCKETS):
        yield from match(ours.pairs(bucket), theirs.pairs(bucket))


def _match_keys(
    ours: Iterator[tuple[int, int]], theirs: Iterator[tuple[int, int]]
) -> Iterator[_Pair]:
    waiting = dict(ours)
    for key, row in theirs:
        before = waiting.pop(key, None)
        if before != row:
            yield _Pair(before, row)
    for row in waiting.values():
        yield _Pair(row, None)


def _match_rows(
    ours: Iterator[tuple[int, int]], theirs: Iterator[tuple[int, int]]
) -> Iterator[_Pair]:
    waiting = Counter(row for _, row in ours)
    for _, row in theirs:
        if waiting[row] > 0:
            waiting[row] -= 1
        else:
            yield _Pair(None, row)
    for row in waiting.elements():
        yield _Pair(row, None)


def _rows(
    side: Side, columns: Columns, wanted: Mapping[str, set[int | None]]
) -> dict[str, dict[int, Row]]:
    """Read the rows of these hashes, by table."""
    found: dict[str, dict[int, Row]] = defaultdict(dict)

    def take(key: str, lines: list[bytes]) -> None:
        for line in lines:
            if (row := hashed(line)) in wanted[key]:
                found[key][row] = dict(zip(columns[key], json.loads(line), strict=True))

    side.read({key: columns[key] for key, hashes in wanted.items() if hashes}, take)
    return found


def _samples(
    table: _Table, before: Mapping[int, Row], after: Mapping[int, Row]
) -> dict[str, list[RowSample]]:
    samples: dict[str, list[RowSample]] = {}
    for pair in table.chosen:
        old = before[pair.before] if pair.before is not None else None
        new = after[pair.after] if pair.after is not None else None
        row = old or new or {}
        changed = {}
        if old is not None and new is not None:
            changed = {name: (old[name], new[name]) for name in old if old[name] != new[name]}
        key = {name: row[name] for name in table.key or table.columns}
        samples.setdefault(pair.kind, []).append(RowSample(key, changed))
    return samples


def hashed(data: bytes) -> int:
    """Hash to a number of 64 bits: among 10 million rows two are alike once in 370,000 times."""
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "little", signed=True)


class Buckets:
    """Pairs (key, row) of hashes, kept by key; a context whose file is gone at its end."""

    def __init__(self) -> None:
        self._file = TemporaryFile()  # noqa: SIM115  this is a context itself
        self._places: list[list[tuple[int, int]]] = [[] for _ in range(BUCKETS)]
        self._gathered = [array("q") for _ in range(BUCKETS)]

    def add(self, key: int, row: int) -> None:
        """Keep one pair."""
        numbers = self._gathered[key % BUCKETS]
        numbers.append(key)
        numbers.append(row)
        if len(numbers) >= _GATHERED:
            data = numbers.tobytes()
            self._places[key % BUCKETS].append((self._file.seek(0, 2), len(data)))
            self._file.write(data)
            del numbers[:]

    def pairs(self, bucket: int) -> Iterator[tuple[int, int]]:
        """Yield a bucket's pairs in the order in which they came."""
        for place, size in self._places[bucket]:
            self._file.seek(place)
            numbers = array("q", self._file.read(size))
            yield from zip(numbers[::2], numbers[1::2], strict=True)
        numbers = self._gathered[bucket]
        yield from zip(numbers[::2], numbers[1::2], strict=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()

"""What a table's columns hold, counted from what COPY would send, text or binary."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from perfdata.errors import ProjectCodeError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    Row = Sequence[bytes | None]

# Distinct values are kept up to here: 2 MB a column.
EXACT_DISTINCT = 20_000
# Of more, the smallest hashes: the standard error of the estimate is 1 / sqrt(4,094) = 1.6 %.
_HASHES, _HASH_BYTES = 4096, 8
_NULL = rb"\N"
# The binary format: a signature, flags and the length of an extension, then the rows.
# https://www.postgresql.org/docs/current/sql-copy.html, "Binary Format"
_SIGNATURE_BYTES = 11
_WIDTH, _LENGTH = struct.Struct(">h"), struct.Struct(">i")


@dataclass(frozen=True)
class DistinctValues:
    """How many different values there are, null aside; ``error`` is relative, 0 if it is exact."""

    count: int
    error: float


@dataclass(frozen=True)
class ColumnDescription:
    """A column's name, the number of its nulls, and its distinct values."""

    name: str
    nulls: int
    distinct: DistinctValues


def text_rows(blocks: Iterable[bytes]) -> Iterator[list[Row]]:
    """Yield the rows of each block of COPY text, which has whole lines."""
    for block in filter(None, blocks):
        rows = [line.split(b"\t") for line in block.removesuffix(b"\n").split(b"\n")]
        yield [[None if value == _NULL else value for value in row] for row in rows]


def binary_rows(blocks: Iterable[bytes]) -> Iterator[list[Row]]:
    """Yield the rows that end in each block of binary COPY; the first one has the whole header."""
    data = b""
    for number, block in enumerate(blocks):
        data += block
        begin = 0
        if number == 0:
            begin = _SIGNATURE_BYTES + _LENGTH.size * 2
            begin += _LENGTH.unpack_from(data, begin - _LENGTH.size)[0]
        rows, end = _whole_rows(data, begin)
        yield rows
        data = data[end:]


def _whole_rows(data: bytes, begin: int) -> tuple[list[Row], int]:
    """Return the rows that are whole, and where they end."""
    rows: list[Row] = []
    at = end = begin
    while at + _WIDTH.size <= len(data) and (width := _WIDTH.unpack_from(data, at)[0]) >= 0:
        at += _WIDTH.size
        row: list[bytes | None] = []
        while len(row) < width and at + _LENGTH.size <= len(data):
            length = _LENGTH.unpack_from(data, at)[0]
            at += _LENGTH.size
            row.append(None if length < 0 else data[at : at + length])
            at += max(length, 0)
        if len(row) < width or at > len(data):
            break
        rows.append(row)
        end = at
    return rows, end


class TableCounter:
    """Counts the rows, nulls and distinct values of a table, block by block.

    Without ``columns`` they are numbered.
    """

    def __init__(self, columns: Sequence[str], what: str) -> None:
        self.rows = 0
        self._columns = list(columns)
        self._what = what
        self._counters: list[_ColumnCounter] = [_ColumnCounter() for _ in columns]

    def add(self, rows: Sequence[Row]) -> None:
        """Count rows; raise ProjectCodeError for one of another width."""
        if not self._counters and rows:
            self._columns = [f"column {number + 1}" for number in range(len(rows[0]))]
            self._counters = [_ColumnCounter() for _ in self._columns]
        width = len(self._counters)
        for number, row in enumerate(rows, self.rows + 1):
            if len(row) != width:
                raise ProjectCodeError(
                    f"{self._what}: row {number:,} has {len(row)} values for {width} columns"
                )
        self.rows += len(rows)
        for counter, values in zip(self._counters, zip(*rows, strict=True), strict=True):
            counter.add(values)

    def described(self) -> tuple[ColumnDescription, ...]:
        """Return what was counted."""
        return tuple(
            ColumnDescription(name, counter.nulls, counter.distinct())
            for name, counter in zip(self._columns, self._counters, strict=True)
        )


class _ColumnCounter:
    """Counts values exactly, or from the smallest of their hashes once there are many."""

    def __init__(self) -> None:
        self.nulls = 0
        self._seen: set[bytes] = set()
        self._smallest: list[int] = []

    def add(self, values: Sequence[bytes | None]) -> None:
        self.nulls += values.count(None)
        different = {value for value in values if value is not None}
        if self._smallest:
            self._keep_smallest(different)
            return
        self._seen |= different
        if len(self._seen) > EXACT_DISTINCT:
            self._smallest = [1 << (8 * _HASH_BYTES)]
            self._keep_smallest(self._seen)
            self._seen = set()

    def _keep_smallest(self, values: Iterable[bytes]) -> None:
        bound = self._smallest[-1]
        found = {number for number in map(_hash, values) if number < bound}
        if found:
            self._smallest = sorted(found.union(self._smallest))[:_HASHES]

    def distinct(self) -> DistinctValues:
        if not self._smallest:
            return DistinctValues(len(self._seen), 0.0)
        estimate = ((_HASHES - 1) << (8 * _HASH_BYTES)) // self._smallest[-1]
        return DistinctValues(estimate, (_HASHES - 2) ** -0.5)


def _hash(value: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(value, digest_size=_HASH_BYTES).digest(), "big")

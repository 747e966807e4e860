r"""What a table's columns hold, counted from COPY text."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from perfdata.errors import ProjectCodeError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# Distinct values are kept up to here: 2 MB a column.
EXACT_DISTINCT = 20_000
# Of more, the smallest hashes: the standard error of the estimate is 1 / sqrt(4,094) = 1.6 %.
_HASHES, _HASH_BYTES = 4096, 8
_NULL = rb"\N"


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


class TableCounter:
    """Counts the rows, nulls and distinct values of a table, block by block.

    Without ``columns`` they are numbered.
    """

    def __init__(self, columns: Sequence[str], what: str) -> None:
        self.rows = 0
        self._columns = list(columns)
        self._what = what
        self._counters: list[_ColumnCounter] = [_ColumnCounter() for _ in columns]

    def add(self, block: bytes) -> None:
        """Count a block of whole lines; raise ProjectCodeError for a line of another width."""
        lines = block.removesuffix(b"\n").split(b"\n")
        if not self._counters:
            width = lines[0].count(b"\t") + 1
            self._columns = [f"column {number + 1}" for number in range(width)]
            self._counters = [_ColumnCounter() for _ in self._columns]
        width = len(self._counters)
        rows = [line.split(b"\t") for line in lines]
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

    def add(self, values: Sequence[bytes]) -> None:
        self.nulls += values.count(_NULL)
        if self._smallest:
            self._keep_smallest(set(values) - {_NULL})
            return
        self._seen.update(values)
        self._seen.discard(_NULL)
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

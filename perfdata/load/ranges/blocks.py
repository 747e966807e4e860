"""Ranges: consecutive blocks of a generated table, loaded in one transaction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from perfdata.generate.streams import BLOCK_ROWS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from perfdata.generate.tables import GeneratedRows

# 65,536 rows: about 0.2 s of generating, where connecting takes 5 ms.
RANGE_BLOCKS = 16


@dataclass(frozen=True)
class BlockRange:
    """Blocks ``first`` to ``end`` - 1 of a part of a table's rows, which have ``rows`` rows.

    ``part`` counts the tables that a dataset yields under this name, usually one, from 0.
    """

    table: str
    part: int
    first: int
    end: int
    rows: int

    def __str__(self) -> str:
        begin = self.first * BLOCK_ROWS
        part = f"part {self.part + 1}, " if self.part else ""
        return f"{self.table}, {part}rows {begin + 1:,} to {begin + self.rows:,}"


def split(table: str, parts: Sequence[GeneratedRows]) -> Iterator[BlockRange]:
    """Yield the ranges of a table's rows."""
    for number, rows in enumerate(parts):
        for first in range(0, rows.block_count, RANGE_BLOCKS):
            end = min(first + RANGE_BLOCKS, rows.block_count)
            count = min(end * BLOCK_ROWS, rows.count) - first * BLOCK_ROWS
            yield BlockRange(table, number, first, end, count)

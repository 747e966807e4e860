"""Rows of a table that other rows belong or refer to."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")


@dataclass(frozen=True)
class Places:
    """Rows of a table, counted from 0; the same row may come several times."""

    rows: Sequence[int]
    ascending: bool = False

    @cached_property
    def least(self) -> int:
        """The first row."""
        return self.rows[0] if self.ascending else min(self.rows)

    @cached_property
    def most(self) -> int:
        """The last row."""
        return self.rows[-1] if self.ascending else max(self.rows)

    def values_of(self, read: Callable[[Sequence[int]], Sequence[T]]) -> Sequence[T]:
        """Return what ``read`` returns for these rows, which it reads once where they recur."""
        rows = self.rows
        if not rows or isinstance(rows, range) or self.most - self.least >= len(rows):
            return read(rows)
        values, least = read(range(self.least, self.most + 1)), self.least
        return [values[row - least] for row in rows]

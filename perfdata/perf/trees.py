"""Plan trees side by side: which node of the one stands for which of the other."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import zip_longest
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


@dataclass(frozen=True)
class Pair:
    """A node of the old tree beside its like in the new one; None where it has none.

    Both are lines of a plan's signature, indented as they stand there.
    """

    old: str | None
    new: str | None
    changed: bool


def side_by_side(old: Sequence[str], new: Sequence[str]) -> list[Pair]:
    """Put two plans' signatures beside each other, with what changed marked.

    A node that only lies deeper, as another was put above it, is not changed; where nothing but
    depths differ, those that lie elsewhere are.
    """
    pairs = list(_paired(old, new))
    if any(pair.changed for pair in pairs) or list(old) == list(new):
        return pairs
    return [Pair(pair.old, pair.new, pair.old != pair.new) for pair in pairs]


def _paired(old: Sequence[str], new: Sequence[str]) -> Iterator[Pair]:
    one, other = ([line.lstrip() for line in tree] for tree in (old, new))
    matcher = SequenceMatcher(None, one, other, autojunk=False)
    for kind, low, high, start, end in matcher.get_opcodes():
        for left, right in zip_longest(old[low:high], new[start:end]):
            yield Pair(left, right, changed=kind != "equal")

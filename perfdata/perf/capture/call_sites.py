"""Call sites: the lines of the application that sent a statement, and the loops around them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise, takewhile
from typing import TYPE_CHECKING

from perfdata.perf.model import Source

if TYPE_CHECKING:
    from perfdata.callers import AppFrame, Caller
    from perfdata.perf.capture.statements import Values


@dataclass
class CallSite:
    """The calls from one line of the application, their values, and the frames that led to them."""

    values: set[Values] = field(default_factory=set)
    stacks: list[tuple[int, tuple[AppFrame, ...]]] = field(default_factory=list)

    def add(self, number: int, stack: tuple[AppFrame, ...], values: Values) -> None:
        """Add a call; ``number`` orders the calls of all statements."""
        self.stacks.append((number, stack))
        self.values.add(values)

    def merge(self, other: CallSite) -> None:
        """Add the calls of the same line with other values."""
        self.values |= other.values
        self.stacks = sorted([*self.stacks, *other.stacks], key=lambda call: call[0])

    def source(self, caller: Caller) -> Source:
        """Return the site's counts."""
        loop = _loop([stack for _, stack in self.stacks])
        calls, different = len(self.stacks), len(self.values)
        return Source(*caller, calls, different, self._parts, str(loop) if loop else "")

    @property
    def _parts(self) -> int:
        """How many value sets differ from an earlier one only in their long lists."""
        outside = [value.outside for value in self.values if value.outside is not None]
        return len(outside) - len(set(outside))


def _loop(stacks: list[tuple[AppFrame, ...]]) -> Caller | None:
    """Return the line that repeated the calls; None if that is the line that sent them.

    It is in the innermost frame that two successive calls have in common. Of nested loops the one
    that repeated most calls counts.
    """
    found: Counter[Caller] = Counter()
    for before, now in pairwise(stacks):
        marks = {frame.mark for frame in before if frame.mark}
        known = takewhile(lambda frame: frame.mark is not None, now)
        common = next((frame.caller for frame in known if frame.mark in marks), None)
        if common is not None:
            found[common] += 1
    loop = max(found, key=found.__getitem__, default=None)
    return None if loop in {stack[0].caller for stack in stacks} else loop

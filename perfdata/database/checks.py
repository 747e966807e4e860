"""Checks: what is asked of the server before the first change, all of it in one round trip."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from perfdata.database.link import Asked, Link, Rows


@dataclass(frozen=True)
class Check:
    """Queries, and what judges their rows: it raises an error where something is in the way."""

    asked: Sequence[Asked]
    judge: Callable[[Sequence[Rows]], None]


def run_checks(link: Link, checks: Iterable[Check], *more: Asked) -> list[Rows]:
    """Ask everything at once, judge in the order given, and return the rows of ``more``."""
    checks = list(checks)
    answers = iter(link.together([*(one for check in checks for one in check.asked), *more]))
    for check in checks:
        check.judge([next(answers) for _ in check.asked])
    return list(answers)

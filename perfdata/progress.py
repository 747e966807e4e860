"""How the library tells a caller what it is doing: values to a callback, never prints."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Event:
    """Something to tell a user: a line, or how far a piece of work has come.

    ``done`` and ``total`` count rows; both None means that ``text`` is a plain line.
    """

    text: str
    done: int | None = None
    total: int | None = None


Report = Callable[[Event], None]


def silent(_event: Event) -> None:
    """Tell nobody."""

"""How the library tells a caller what it is doing: values to a callback, never prints."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from perfdata.text import make_printable


@dataclass(frozen=True)
class Event:
    """Something to tell a user: a line, or how far a piece of work has come.

    ``done`` and ``total`` count rows; both None means that ``text`` is a plain line, which is made
    printable.
    """

    text: str
    done: int | None = None
    total: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", make_printable(self.text))


Report = Callable[[Event], None]


def silent(_event: Event) -> None:
    """Tell nobody."""

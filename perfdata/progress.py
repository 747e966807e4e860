"""Progress: events that the library reports to a caller's callback; the library never prints."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from perfdata.text import make_printable


@dataclass(frozen=True)
class Event:
    """A message, or the progress of a piece of work, such as one table.

    ``done`` counts rows and is None for a message. ``total`` is the expected number of rows, None
    where it is unknown; the last event of a piece of work has ``done == total``. Control characters
    in ``text`` are replaced.
    """

    text: str
    done: int | None = None
    total: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", make_printable(self.text))

    @property
    def finished(self) -> bool:
        """Tell whether this is the last event of a piece of work."""
        return self.done is not None and self.done == self.total


Report = Callable[[Event], None]


def silent(_event: Event) -> None:
    """Ignore an event."""

"""What a planner knew of tables, as it is carried from one database to another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

# As json_build_object writes it; within a value its quotes are escaped.
_COLUMNS = b', "columns" : '


@dataclass(frozen=True)
class Statistics:
    """The planner's statistics: where they hold, and JSON objects, one a table or index."""

    environment: str
    relations: Sequence[bytes]

    @property
    def sizes(self) -> list[bytes]:
        """The relations without what is known of their columns, which stands last in each."""
        return [
            head + b"}" if found else line
            for line in self.relations
            for head, found, _ in [line.partition(_COLUMNS)]
        ]

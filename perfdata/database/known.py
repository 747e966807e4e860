"""What a planner knew of tables, as it is carried from one database to another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Statistics:
    """The planner's statistics: where they hold, and JSON objects, one a table or index."""

    environment: str
    relations: Sequence[bytes]

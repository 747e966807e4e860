"""The first dataset: a table whose rows need no others, and values for its columns."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from perfdata.project import FLAG_COLUMN

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from perfdata.scaffold.columns import ModelColumn
    from perfdata.scaffold.models import ModelTable

ROWS = 1000
_DIGITS = len(str(ROWS))
# Values as Python expressions; ``n`` is the number of the row.
_VALUES = {
    "integer": "n",
    "text": 'f"{n}"',
    "boolean": "False",
    "date": "dataset.as_of",
    "timestamp": "dataset.as_of",
    "number": "n % 10",
    "uuid": 'f"00000000-0000-4000-8000-{n:012}"',
    "json": "{}",
}


@dataclass(frozen=True)
class FirstTable:
    """The table of the first dataset: its name, and the value of each column for row ``n``."""

    name: str
    values: Mapping[str, str]

    @property
    def noun(self) -> str:
        """The table's name without its schema, as a parameter of the dataset."""
        return self.name.rpartition(".")[2]

    @property
    def dataset(self) -> str:
        """The dataset's name."""
        return f"{ROWS}_{re.sub(r'[^A-Za-z0-9_-]', '_', self.noun)}"[:100]


def choose_table(tables: Sequence[ModelTable]) -> FirstTable | None:
    """Return a table that can be filled alone, None if none can.

    Tables with the flag come first, then those that most others reference.
    """
    references = [column.references for table in tables for column in table.columns]
    fillable = [table for table in tables if _is_fillable(table)]
    fillable.sort(key=lambda table: (not _has_flag(table), -references.count(table.name)))
    if not fillable:
        return None
    table = fillable[0]
    columns = [column for column in table.columns if column.required or column.name == FLAG_COLUMN]
    return FirstTable(table.name, {column.name: _value(column) for column in columns})


def _has_flag(table: ModelTable) -> bool:
    return any(column.name == FLAG_COLUMN for column in table.columns)


def _is_fillable(table: ModelTable) -> bool:
    required = [column for column in table.columns if column.required]
    return (
        bool(required)
        and not table.constrained
        and all(column.kind in _VALUES and not column.references for column in required)
        and all((column.length or _DIGITS) >= _DIGITS for column in required)
    )


def _value(column: ModelColumn) -> str:
    if column.name == FLAG_COLUMN:
        return "True"
    worded = f'f"{column.name} {{n}}"'
    longest = len(column.name) + 1 + _DIGITS
    if column.kind == "text" and (column.length is None or longest <= column.length):
        return worded
    return _VALUES[column.kind]

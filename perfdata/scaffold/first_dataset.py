"""The first dataset: a table whose rows need no others, and values for its columns."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from perfdata.draft.checks import ColumnRules
from perfdata.draft.code import column_lines
from perfdata.draft.model import ColumnDraft
from perfdata.draft.values import draft_value
from perfdata.postgres.catalog import Column
from perfdata.project import FLAG_COLUMN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perfdata.scaffold.columns import ModelColumn
    from perfdata.scaffold.models import ModelTable

ROWS = 1000
_TYPES = {
    "integer": "integer",
    "text": "text",
    "boolean": "boolean",
    "date": "date",
    "timestamp": "timestamp with time zone",
    "number": "numeric",
    "uuid": "uuid",
    "json": "jsonb",
}
# Models don't show every unique index.
_UNIQUE = {"integer", "text", "uuid"}


@dataclass(frozen=True)
class FirstTable:
    """The table of the first dataset, and its columns as arguments of ``g.table``."""

    name: str
    columns: tuple[str, ...]

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
    drafts = [ColumnDraft(column.name, _code(column)) for column in columns]
    return FirstTable(table.name, tuple(column_lines(drafts)))


def _has_flag(table: ModelTable) -> bool:
    return any(column.name == FLAG_COLUMN for column in table.columns)


def _is_fillable(table: ModelTable) -> bool:
    required = [column for column in table.columns if column.required]
    return (
        bool(required)
        and not table.constrained
        and all(_code(column) and not column.references for column in required)
    )


def _code(column: ModelColumn) -> str:
    """Return the code of a column's values, "" where there are too few or none is known."""
    if column.name == FLAG_COLUMN:
        return "True"
    base = _TYPES.get(column.kind, "")
    length = f"character varying({column.length})" if column.length else base
    described = Column(
        column.name,
        type=length,
        base=base,
        not_null=True,
        generated=False,
        output="cast",
        labels=(),
        has_default=False,
        detail=(),
    )
    value = draft_value(described, ColumnRules(), unique=column.kind in _UNIQUE)
    return value.code if value is not None and (value.most or ROWS) >= ROWS else ""

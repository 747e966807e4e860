"""The text of a draft: a module with one dataset."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perfdata.draft.values import is_plain, quoted
from perfdata.text import blank_out

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import date

    from perfdata.draft.model import ColumnDraft, TableDraft

_WIDTH = 100


def module_text(drafts: Sequence[TableDraft], name: str, as_of: date) -> str:
    """Write a module that defines the dataset ``dataset`` of these tables."""
    body = [line for draft in drafts for line in _table(draft)]
    imports = ["from datetime import date"]
    if any("timedelta(" in line for line in body):
        imports = ["from datetime import date, timedelta"]
    parameters = "".join(
        f'        "{draft.variable}": {draft.count},\n'
        for draft in drafts
        if draft.count is not None
    )
    variables = "".join(f"        {draft.variable},\n" for draft in drafts)
    lines = [
        '"""A first draft of a dataset: change what is not realistic."""',
        "",
        *imports,
        "",
        "from perfdata import Dataset",
        "from perfdata import generate as g",
        "",
        "",
        "def draft(dataset):",
        f'    """Return the rows of {len(drafts)} table{"" if len(drafts) == 1 else "s"}."""',
        *(f"    {line}".rstrip() for line in body),
        f"    return [\n{variables}    ]",
        "",
        "",
        "dataset = Dataset(",
        f"    name={quoted(name)},",
        "    generate=draft,",
        f"    parameters={{\n{parameters}    }},",
        f"    as_of=date({as_of.year}, {as_of.month}, {as_of.day}),",
        ")",
        "",
    ]
    return "\n".join(lines)


def _table(draft: TableDraft) -> Iterator[str]:
    yield from (f"# {_one_line(comment)}" for comment in draft.comments)
    yield from draft.before
    yield f"{draft.variable} = g.table("
    yield "    dataset,"
    yield f"    {quoted(draft.table.key)},"
    yield f"    {draft.rows},"
    yield from (f"    {line}" for line in column_lines(list(draft.columns.values())))
    yield ")"


def column_lines(columns: Sequence[ColumnDraft]) -> Iterator[str]:
    """Yield the arguments of ``g.table`` for columns; those that are no names come last."""
    plain = [column for column in columns if is_plain(column.name)]
    yield from map(_column, plain)
    if others := [column for column in columns if column not in plain]:
        yield "**{"
        yield from (f"    {_column(column)}" for column in others)
        yield "},"


def _column(column: ColumnDraft) -> str:
    comment = f"# {_one_line(column.comment)}"
    if not column.code:
        return comment
    named = f"{column.name}=" if is_plain(column.name) else f"{quoted(column.name)}: "
    return f"{named}{column.code},{f'  {comment}' if column.comment else ''}"


def _one_line(text: str) -> str:
    return " ".join(blank_out(text).split())

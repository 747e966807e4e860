"""What tasks print: tables, JSON, and sizes, durations and counts as people read them.

Data goes to stdout. Tables are rich's on a terminal and plain aligned text elsewhere: there is
never a colour code in a pipe.
"""

from __future__ import annotations

import json
import re
import sys
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perfdata.text import blank_out, make_printable

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

_UNPRINTABLE = re.compile(r"[^ -~\n]")  # all that may be unprintable, and is to be looked at
_MINUTE_S = 60
# From 0.9 of a unit on it is used, so that a list's sizes compare at a glance; from ten of it
# a decimal tells nothing.
_UNIT_FROM = 0.9
_WHOLE_FROM = 10


def print_json(value: Any) -> None:
    """Print a value as JSON; what JSON does not know (paths, dates) as its text.

    What can't be printed is escaped, and so is what GitHub's runner takes for a command.
    """
    text = json.dumps(value, indent=2, ensure_ascii=False, default=str)
    print(_UNPRINTABLE.sub(_escaped, text).replace("##[", "#\\u0023["))


def _escaped(found: re.Match[str]) -> str:
    return found[0] if found[0].isprintable() else json.dumps(found[0])[1:-1]


def show(text: str) -> None:
    """Print a text that may come from anywhere: lines without control characters or commands."""
    print(make_printable(text))


def print_table(
    headings: Sequence[str], rows: Sequence[Sequence[object]], right: Collection[str] = ()
) -> None:
    """Print rows under their headings; the columns headed by a name in ``right`` align right."""
    cells = [[one_line(str(value)) for value in row] for row in rows]
    if sys.stdout.isatty():
        _print_rich(headings, cells, right)
    else:
        for line in aligned([list(headings), *cells], [heading in right for heading in headings]):
            show(line)


def print_facts(facts: Mapping[str, object]) -> None:
    """Print names and values, one a line."""
    for line in aligned([[name, one_line(str(value))] for name, value in facts.items()]):
        show(line)


def print_notes(notes: Iterable[str]) -> None:
    """Print what a user should know besides the result, below it."""
    for note in notes:
        show(f"  {note}")


def aligned(rows: Sequence[Sequence[str]], right: Sequence[bool] = ()) -> list[str]:
    """Lay rows out in columns two blanks apart; wide (Japanese) characters count as two."""
    columns = list(zip(*rows, strict=True))
    widths = [max(map(text_width, column)) for column in columns]
    sides = [*right, *[False] * (len(columns) - len(right))]

    def pad(text: str, width: int, *, right: bool) -> str:
        blanks = " " * (width - text_width(text))
        return blanks + text if right else text + blanks

    return [
        "  ".join(
            pad(text, width, right=side)
            for text, width, side in zip(row, widths, sides, strict=True)
        ).rstrip()
        for row in rows
    ]


def text_width(text: str) -> int:
    """Count the columns that a text takes on a screen."""
    return sum(
        0 if unicodedata.combining(char) else 1 + (unicodedata.east_asian_width(char) in "WF")
        for char in text
    )


def one_line(text: str) -> str:
    """Make one line of a text, for a cell: a snapshot's description may come from anywhere."""
    return blank_out(text)


def _print_rich(
    headings: Sequence[str], rows: Sequence[Sequence[str]], right: Collection[str]
) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in headings:
        table.add_column(heading, justify="right" if heading in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    Console(highlight=False).print(table)


def human_size(size_bytes: int) -> str:
    """Write a number of bytes in decimal units: ``532 B``, ``0.9 MB``, ``45 MB``."""
    units = (("GB", 1e9), ("MB", 1e6), ("kB", 1e3))
    for unit, factor in units:
        size = size_bytes / factor
        if size >= _UNIT_FROM:
            return f"{size:.1f} {unit}" if size < _WHOLE_FROM else f"{size:,.0f} {unit}"
    return f"{size_bytes} B"


def human_duration(duration_s: float) -> str:
    """Write seconds with what matters of them: ``0.19 s``, ``3.4 s``, ``2 min 5 s``."""
    if duration_s < 1:
        return f"{round(duration_s, 3):.2g} s"
    if duration_s < _MINUTE_S:
        return f"{duration_s:.1f} s"
    minutes, seconds = divmod(round(duration_s), _MINUTE_S)
    return f"{minutes} min {seconds} s"


def human_rows(rows: int) -> str:
    """Write a number of rows: ``1 row``, ``32,101 rows``."""
    return f"{rows:,} row{'' if rows == 1 else 's'}"


def shown_path(path: Path) -> str:
    """Write a path as one would type it here: relative where it lies below this folder."""
    folder = Path.cwd()
    return str(path.relative_to(folder) if path.is_relative_to(folder) else path)

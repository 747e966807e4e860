"""Output on stdout: tables, JSON, and sizes, durations and counts in readable units.

A table is drawn by rich on a terminal; in a pipe it is aligned text of any width, without colour
codes.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perfdata.errors import OPTIONS
from perfdata.text import blank_out, make_printable

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

_MAYBE_UNPRINTABLE = re.compile(r"[^ -~\n]")
_MINUTE_S = 60
# A unit is used from 0.9 of it on, so that the sizes in a list share units; from 10 of it on a
# decimal adds nothing.
_UNIT_FROM = 0.9
_WHOLE_FROM = 10
# In narrower columns rich breaks numbers apart; below 3 it leaves columns out.
_MIN_COLUMN_WIDTH = 8
_KEYWORDS = re.compile(rf"\b({'|'.join(OPTIONS)})\b")


def print_json(value: Any) -> None:
    """Print a value as JSON; types that JSON lacks (paths, dates) become strings.

    Unprintable characters are escaped, and so are the commands of GitHub's runner.
    """
    text = json.dumps(value, indent=2, ensure_ascii=False, default=str)
    print(_MAYBE_UNPRINTABLE.sub(_escaped, text).replace("##[", "#\\u0023["))


def _escaped(found: re.Match[str]) -> str:
    return found[0] if found[0].isprintable() else json.dumps(found[0])[1:-1]


def show(text: str) -> None:
    """Print text from an untrusted source, without control characters or runner commands."""
    print(make_printable(text))


def print_table(
    headings: Sequence[str], rows: Sequence[Sequence[object]], right: Collection[str] = ()
) -> None:
    """Print rows under their headings; columns whose heading is in ``right`` are right-aligned.

    No cell is cut off: on a terminal long ones are folded, and a terminal too narrow for that wraps
    whole lines.
    """
    cells = [[one_line(str(value)) for value in row] for row in rows]
    width = shutil.get_terminal_size().columns
    if sys.stdout.isatty() and width >= _MIN_COLUMN_WIDTH * len(headings):
        _print_rich(headings, cells, right)
    else:
        for line in aligned([list(headings), *cells], [heading in right for heading in headings]):
            show(line)


def print_facts(facts: Mapping[str, object]) -> None:
    """Print names and values in two columns."""
    for line in aligned([[name, one_line(str(value))] for name, value in facts.items()]):
        show(line)


def print_notes(notes: Iterable[str]) -> None:
    """Print notes on a result, indented below it."""
    for note in notes:
        show(f"  {options_for_keywords(note)}")


def options_for_keywords(text: str) -> str:
    """Replace keyword arguments named in a message, such as ``fresh=True``, with their options."""
    return _KEYWORDS.sub(lambda match: OPTIONS[match[0]], text)


def aligned(rows: Sequence[Sequence[str]], right: Sequence[bool] = ()) -> list[str]:
    """Return rows as lines with aligned columns; wide (Japanese) characters take two places."""
    columns = list(zip(*rows, strict=True))
    widths = [max(map(text_width, column)) for column in columns]
    sides = [*right, *[False] * (len(columns) - len(right))]

    def pad(text: str, width: int, *, right: bool) -> str:
        padding = " " * (width - text_width(text))
        return padding + text if right else text + padding

    return [
        "  ".join(
            pad(text, width, right=side)
            for text, width, side in zip(row, widths, sides, strict=True)
        ).rstrip()
        for row in rows
    ]


def text_width(text: str) -> int:
    """Return how many places a text takes on a terminal."""
    return sum(
        0 if unicodedata.combining(char) else 1 + (unicodedata.east_asian_width(char) in "WF")
        for char in text
    )


def one_line(text: str) -> str:
    """Return a text of untrusted source, such as a snapshot's description, as one line."""
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
    """Return a number of bytes in decimal units: ``532 B``, ``0.9 MB``, ``45 MB``."""
    units = (("GB", 1e9), ("MB", 1e6), ("kB", 1e3))
    for unit, factor in units:
        size = size_bytes / factor
        if size >= _UNIT_FROM:
            return f"{size:.1f} {unit}" if size < _WHOLE_FROM else f"{size:,.0f} {unit}"
    return f"{size_bytes} B"


def human_duration(duration_s: float) -> str:
    """Return seconds in a readable unit: ``0.19 s``, ``3.4 s``, ``2 min 5 s``."""
    if duration_s < 1:
        return f"{round(duration_s, 3):.2g} s"
    if duration_s < _MINUTE_S:
        return f"{duration_s:.1f} s"
    minutes, seconds = divmod(round(duration_s), _MINUTE_S)
    return f"{minutes} min {seconds} s"


def human_rows(rows: int) -> str:
    """Return a number of rows: ``1 row``, ``32,101 rows``."""
    return f"{rows:,} row{'' if rows == 1 else 's'}"


def shown_path(path: Path) -> str:
    """Return a path relative to the current folder if it is below it."""
    folder = Path.cwd()
    return str(path.relative_to(folder) if path.is_relative_to(folder) else path)

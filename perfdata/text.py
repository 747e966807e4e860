"""Foreign text made printable: what a file or a server says reaches terminals and CI logs.

A snapshot's description, a table's name or a server's message may hold a terminal's escape
sequences, signs that turn the direction of writing, or commands of GitHub's runner, which reads
them in every line that a job prints: ``::error::`` where a line begins, ``##[error]`` anywhere.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_COMMAND = re.compile(r"^([ \t]*):(?=:)|#(?=#\[)", re.MULTILINE)


def blank_out(text: str, keep: str = "") -> str:
    """Put a blank in the place of each character that can't be printed, but for those in ``keep``.

    Those are control and format characters, line separators, surrogates, and blanks of other kinds.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char in keep else " " for char in text)


def make_printable(text: str) -> str:
    """Return lines of text without control characters, in which GitHub's runner finds no command.

    A blank parts the signs that it looks for: ``: :error::``, ``# #[error]``.
    """
    return _COMMAND.sub(r"\g<0> ", blank_out(text, "\n\t"))


def first(values: Sequence[object], limit: int = 5) -> str:
    """List the first values for an error, and say how many more there are."""
    shown = ", ".join(str(value) for value in values[:limit])
    more = len(values) - limit
    return f"{shown} and {more:,} more" if more > 0 else shown

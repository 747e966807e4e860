"""Text for terminals and CI logs: made printable, and lists cut short.

A snapshot's description, a table's name or a server's message may contain terminal escape
sequences, characters that reverse the writing direction, or workflow commands, which GitHub's
runner executes in whatever a job prints: ``::error::`` at the start of a line, ``##[error]``
anywhere.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_COMMAND = re.compile(r"^([ \t]*):(?=:)|#(?=#\[)", re.MULTILINE)


def blank_out(text: str, keep: str = "") -> str:
    """Replace each unprintable character that is not in ``keep`` by a space.

    Unprintable are control and format characters, line separators, surrogates, and all white space
    but the ordinary space.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char in keep else " " for char in text)


def make_printable(text: str) -> str:
    """Return text without unprintable characters or GitHub workflow commands.

    Newlines and tabs stay. Commands are broken up by a space: ``: :error::``, ``# #[error]``.
    """
    return _COMMAND.sub(r"\g<0> ", blank_out(text, "\n\t"))


def join_first(values: Sequence[object], limit: int = 5) -> str:
    """Join the first values with commas, and count the rest: ``a, b and 1,234 more``."""
    shown = ", ".join(str(value) for value in values[:limit])
    more = len(values) - limit
    return f"{shown} and {more:,} more" if more > 0 else shown

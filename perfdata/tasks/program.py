"""The console script's own Program: what is misspelt is an error, never an answer."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING

from invoke.exceptions import Exit, ParseError
from invoke.program import Program

from perfdata.tasks.task import Code

if TYPE_CHECKING:
    from collections.abc import Iterable

_UNKNOWN = re.compile("No idea what '(.+)' is!")


class StrictProgram(Program):
    """Invoke's Program, but for usage errors: exit code 2, and the near name of a task or option.

    Invoke itself gives 1 for them, which is the answer no of ``snapshot.exists``.
    """

    def parse_tasks(self) -> None:
        """Parse what was typed."""
        try:
            super().parse_tasks()
        except ParseError as error:
            known = [*self.parser.contexts, *(error.context.flags if error.context else ())]
            raise Exit(f"error: {error}{_near(str(error), known)}", code=Code.ERROR) from error


def _near(said: str, known: Iterable[str]) -> str:
    unknown = _UNKNOWN.fullmatch(said)
    near = difflib.get_close_matches(unknown[1], known, n=1) if unknown else ()
    return f" Did you mean {near[0]}?" if near else ""

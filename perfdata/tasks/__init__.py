"""Invoke tasks over the library, one module a namespace, and the program ``perfdata``.

A project adds the namespaces to its own tasks.py::

    from invoke import Collection
    from perfdata.tasks import dataset, db, perf, snapshot

    ns = Collection(dataset, db, perf, snapshot)
"""

from __future__ import annotations

import difflib
import re
import sys
from typing import TYPE_CHECKING

from invoke.exceptions import Exit, ParseError
from invoke.program import Program

from perfdata.tasks.task import Code, discard_output

if TYPE_CHECKING:
    from collections.abc import Iterable

_UNKNOWN = re.compile("No idea what '(.+)' is!")
# 128 + SIGPIPE: the status that a shell reports for a program which wrote to a closed pipe.
_PIPE_CLOSED = 141


def main() -> None:
    """Run the console script ``perfdata``."""
    from importlib.metadata import version

    from invoke.collection import Collection

    from perfdata.tasks import dataset, db, perf, snapshot

    namespace = Collection(dataset, db, perf, snapshot)
    StrictProgram(
        name="perfdata", binary="perfdata", version=version("perfdata"), namespace=namespace
    ).run()


class StrictProgram(Program):
    """Invoke's Program, except that usage errors exit with 2 and suggest the closest name.

    Invoke's own code for them, 1, means the answer no here, for example of ``snapshot.exists``.
    """

    def run(self, argv: list[str] | None = None, exit: bool = True) -> None:  # noqa: A002  Invoke's name
        """Run the program; exit quietly if the reader of its output is gone (``| head``)."""
        try:
            try:
                super().run(argv, exit)
            finally:
                sys.stdout.flush()
        except BrokenPipeError:
            discard_output()
            sys.exit(_PIPE_CLOSED)

    def parse_tasks(self) -> None:
        """Parse the command line; raise Exit for an unknown task or option."""
        try:
            super().parse_tasks()
        except ParseError as error:
            known = [*self.parser.contexts, *(error.context.flags if error.context else ())]
            raise Exit(
                f"error: {error}{_suggestion(str(error), known)}", code=Code.ERROR
            ) from error


def _suggestion(message: str, known: Iterable[str]) -> str:
    unknown = _UNKNOWN.fullmatch(message)
    close = difflib.get_close_matches(unknown[1], known, n=1) if unknown else ()
    return f" Did you mean {close[0]}?" if close else ""

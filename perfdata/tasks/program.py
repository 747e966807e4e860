"""The program ``perfdata``: invoke's Program with perfdata's own options, help and exit codes."""

from __future__ import annotations

import difflib
import inspect
import os
import re
import sys

from invoke.exceptions import Exit, ParseError
from invoke.parser.argument import Argument
from invoke.parser.context import ParserContext
from invoke.program import Program

from perfdata.tasks.task import Code, discard_output

_UNKNOWN = re.compile("No idea what '(.+)' is!")
# 128 + SIGPIPE: the status that a shell reports for a program which wrote to a closed pipe.
_PIPE_CLOSED = 141
# The options before a task that --help shows. Invoke's others are about shell commands, which
# perfdata's tasks don't run; they are accepted, and do nothing.
_OPTIONS = {
    "dry": "make a task's checks, print what it would do, and change nothing",
    "help": "show this text or, with the name of a task, its options",
    "list": "list the tasks, or those of one namespace",
    "print-completion-script": "print the completion script for bash, zsh or fish",
    "project": "use this Project (package.module:name) instead of the one in pyproject.toml; "
    "perfdata.welfare is the bundled sample",
    "version": "print the version",
}


class StrictProgram(Program):
    """Invoke's Program, except that usage errors exit with 2 and suggest the closest name.

    Invoke's own code for them, 1, means the answer no here, for example of ``snapshot.exists``.
    """

    def core_args(self) -> list[Argument]:
        """Return the options that may precede a task: invoke's, and ``--project``."""
        arguments = [*super().core_args(), Argument(name="project")]
        for argument in arguments:
            argument.help = _OPTIONS.get(argument.name or "", argument.help)
        return arguments

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
            raise Exit(f"error: {error}{self._suggestion(error)}", code=Code.ERROR) from error
        if project := self.args.project.value:
            os.environ["PERFDATA_PROJECT"] = project  # also for the processes that tasks start

    def print_help(self) -> None:
        """Print the options that make sense before a task, and the tasks."""
        print(f"Usage: {self.binary} [--dry] TASK [--OPTION VALUE] ...\n\nOptions:\n")
        shown = [argument for argument in self.core_args() if argument.name in _OPTIONS]
        self.print_columns(ParserContext(args=shown).help_tuples())
        self.list_tasks()

    def print_task_help(self, name: str) -> None:
        """Print what a task does, and its options."""
        print(f"Usage: {self.binary} [--dry] {name} [--OPTION VALUE] ...\n")
        print(f"{inspect.getdoc(self.collection[name]) or ''}\n")
        if options := self.parser.contexts[name].help_tuples():
            print("Options:\n")
            self.print_columns(options)

    def task_list_opener(self, extra: str = "") -> str:
        """Return the heading of the tasks."""
        return f"Tasks ({extra})" if extra else "Tasks"

    def _suggestion(self, error: ParseError) -> str:
        """Say what may be meant by an unknown word, or nothing."""
        unknown = _UNKNOWN.fullmatch(str(error))
        if unknown is None:
            return ""
        word, flags = unknown[1], error.context.flags if error.context else {}
        if word in self.collection.collections:
            return f" {self.binary} --list {word} lists its tasks"
        if close := difflib.get_close_matches(word, [*self.parser.contexts, *flags], n=1):
            return f" Did you mean {close[0]}?"
        return f" Did you mean --name {word}?" if "--name" in flags else ""

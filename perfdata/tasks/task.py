"""The one Task class: how a task takes its options, and how it ends.

Exit codes: 0 yes or done, 1 the answer is no, 2 an error or a refusal, 130 interrupted. A bug is
none of these: it ends in its traceback.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import invoke.tasks
from invoke.exceptions import Exit

from perfdata.errors import (
    ConfigError,
    ElsewhereError,
    PerfdataError,
    PrivilegesError,
    RefusedError,
)
from perfdata.temporary import FULL

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from invoke.context import Context

EXAMPLE_NAME = "100_offices"


class Code(IntEnum):
    """What a task's exit code says."""

    NO = 1
    ERROR = 2
    INTERRUPTED = 130


class Task(invoke.tasks.Task[Callable[..., None]]):
    """An invoke task whose errors are one line on stderr and an exit code.

    ``required`` names the options that must be given, each with a value for the error's example.
    No argument is positional: else ``invoke snapshot.restore --help`` would take ``--help`` for a
    name. No option has a short flag: invoke would give letters away that change with the options.
    """

    def __init__(
        self,
        body: Callable[..., None],
        *,
        required: Mapping[str, str] | None = None,
        **options: Any,
    ) -> None:
        """Take the body and invoke's own options of a task."""
        super().__init__(body, positional=[], auto_shortflags=False, **options)
        self.required = dict(required or {})

    @property
    def full_name(self) -> str:
        """The name with its namespace, which is the body's module."""
        return f"{self.body.__module__.rpartition('.')[2]}.{self.name}"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the body; raise invoke's Exit for what a user may meet."""
        # invoke turns bytecode files off for its whole process; SQLAlchemy, compiled anew by each
        # command, takes over a second.
        sys.dont_write_bytecode = bool(sys.flags.dont_write_bytecode)
        with _exit_codes():
            self._check_required(kwargs)
            result = super().__call__(*args, **kwargs)
            sys.stdout.flush()
            return result

    def _check_required(self, given: Mapping[str, Any]) -> None:
        missing = [option for option in self.required if not given.get(option)]
        if missing:
            example = " ".join(f"--{option} {self.required[option]}" for option in self.required)
            raise ConfigError(
                f"{self.full_name} needs --{' and --'.join(missing)}, "
                f"for example: {program_name()} {self.full_name} {example}"
            )


def task(
    *,
    name: str | None = None,
    options: Mapping[str, str] | None = None,
    required: Mapping[str, str] | None = None,
) -> Callable[[Callable[..., None]], Task]:
    """Make a Task of a function; ``options`` holds the help text of each of its options."""

    def decorate(body: Callable[..., None]) -> Task:
        return Task(body, name=name, help=dict(options or {}), required=required)

    return decorate


@contextmanager
def _exit_codes() -> Iterator[None]:
    # psycopg logs that it could not end a COPY on a lost connection; the error says it better.
    logging.getLogger("psycopg").addHandler(logging.NullHandler())
    try:
        yield
    except PerfdataError as error:
        raise Exit(f"error: {_in_one_line(error)}", code=Code.ERROR) from error
    except KeyboardInterrupt:
        raise Exit("interrupted", code=Code.INTERRUPTED) from None
    except BrokenPipeError:
        # Whoever read our output has enough. Python would complain when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        if error.errno not in FULL:
            raise
        where = f"{error.filename}: " if error.filename else ""
        message = f"error: {where}{error.strerror}; make room on that disk, and run it again"
        raise Exit(message, code=Code.ERROR) from error


def _in_one_line(error: PerfdataError) -> str:
    """Put a message into one line; below it stand the lines that mend it, where it has any."""
    if isinstance(error, (ElsewhereError, PrivilegesError)):
        return str(error)
    return " ".join(str(error).split())


def program_name() -> str:
    """Return what the user typed to get here: ``invoke`` or ``perfdata``."""
    return "perfdata" if Path(sys.argv[0]).stem == "perfdata" else "invoke"


def answer_no(message: str | None = None) -> Exit:
    """Make the exit of a task whose answer is no; the message goes to stderr."""
    return Exit(message, code=Code.NO)


def would_fail(error: PerfdataError) -> Exit:
    """Say under ``--dry`` how the task would end, and make the exit with the code it would have."""
    print(f"would {'be' if isinstance(error, RefusedError) else 'fail:'} {error}")
    return Exit(code=Code.ERROR)


def is_dry(context: Context) -> bool:
    """Tell whether ``--dry`` asks only to be told what would be done."""
    return bool(context.config.run.dry)

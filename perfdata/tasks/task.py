"""What every task shares: the Task class, options with values, settings, and exit codes.

Exit codes: 0 yes or done, 1 the answer is no, 2 an error or a refusal, 130 interrupted. A bug ends
in its traceback.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
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
    ProjectCodeError,
    RefusedError,
)
from perfdata.tasks.output import options_for_keywords
from perfdata.temporary import FULL
from perfdata.tracebacks import VARIABLE as TRACEBACK

if TYPE_CHECKING:
    from collections.abc import Iterator

    from invoke.context import Context

    from perfdata.config import Settings
    from perfdata.project import Project
    from perfdata.target.target import Target

    # An option's value in an error's example: the value itself, or a function that lists values.
    Example = str | Callable[[Settings], Sequence[str]]

LOCK_TIMEOUT = "how long to wait for locks held by others: 10s (the default), 500ms, 1min"
AS_SUPERUSER = "run code of other roles (checks, defaults, indexes) with this role's rights"

_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)(ms|s|min)?", re.ASCII)
_SECONDS = {"ms": 0.001, "s": 1.0, "min": 60.0}
# Variables that send libpq to another server and that neither a conninfo nor a URL overrides. The
# embedded server's own processes work without them.
_LIBPQ_VARIABLES = ("PGSERVICE", "PGHOSTADDR", "PGTZ", "PGDATESTYLE", "PGGEQO")


class Code(IntEnum):
    """The exit codes of tasks, apart from 0."""

    NO = 1
    ERROR = 2
    INTERRUPTED = 130


class Task(invoke.tasks.Task[Callable[..., None]]):
    """An invoke task whose errors are one line on stderr and an exit code.

    ``required`` maps each option that must be given to an example of its value, or to a function
    that lists the possible values. No argument is positional, otherwise
    ``invoke snapshot.restore --help`` would take ``--help`` as a name. No option has a short flag,
    as Invoke would assign letters that change whenever an option is added.
    """

    def __init__(
        self,
        body: Callable[..., None],
        *,
        required: Mapping[str, Example] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(body, positional=[], auto_shortflags=False, **options)
        self.required = dict(required or {})

    @property
    def full_name(self) -> str:
        """The name with its namespace: the body's module, or what its name begins with."""
        module = self.body.__module__.rpartition(".")[2]
        namespace = module.removesuffix(f"_{self.name}")
        return f"{namespace}.{self.name}" if namespace != self.name else str(self.name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the body; raise invoke's Exit for every PerfdataError."""
        # invoke disables bytecode files for its process; compiling SQLAlchemy in every command
        # takes over a second.
        sys.dont_write_bytecode = bool(sys.flags.dont_write_bytecode)
        with _exit_codes():
            self._check_required(kwargs)
            result = super().__call__(*args, **kwargs)
            sys.stdout.flush()
            return result

    def _check_required(self, given: Mapping[str, Any]) -> None:
        for option, example in self.required.items():
            if given.get(option):
                continue
            needed = f"{self.full_name} needs --{option}"
            if isinstance(example, str):
                names: Sequence[str] = [example]
            else:
                names = example(settings := load_settings())
                if not names:
                    raise _nothing_to_name(needed, settings)
            hint = f"; there are: {', '.join(names)}" if len(names) > 1 else ""
            command = f"{program_name()} {self.full_name} --{option} {names[0]}"
            raise ConfigError(f"{needed}, for example: {command}{hint}")


def _nothing_to_name(needed: str, settings: Settings) -> ConfigError:
    from perfdata.project import NO_PROJECT_REMEDY, no_project_reason

    if settings.project is not None:
        return ConfigError(f"{needed}, and there is none yet")
    return ConfigError(f"{needed}, and {no_project_reason(settings)}", remedy=NO_PROJECT_REMEDY)


def task(
    *,
    name: str | None = None,
    options: Mapping[str, str] | None = None,
    required: Mapping[str, Example] | None = None,
) -> Callable[[Callable[..., None]], Task]:
    """Turn a function into a Task; ``options`` maps each option to its help text."""

    def decorate(body: Callable[..., None]) -> Task:
        return Task(body, name=name, help=dict(options or {}), required=required)

    return decorate


@contextmanager
def _exit_codes() -> Iterator[None]:
    # psycopg logs that it could not end a COPY on a lost connection; our error says so already.
    logging.getLogger("psycopg").addHandler(logging.NullHandler())
    try:
        yield
    except PerfdataError as error:
        if isinstance(error, ProjectCodeError) and os.environ.get(TRACEBACK):
            print(error.traceback, file=sys.stderr)
        raise Exit(f"error: {_in_one_line(error)}", code=Code.ERROR) from error
    except KeyboardInterrupt:
        raise Exit("interrupted", code=Code.INTERRUPTED) from None
    except BrokenPipeError:
        discard_output()
    except OSError as error:
        if error.errno not in FULL:
            raise
        where = f"{error.filename}: " if error.filename else ""
        message = f"error: {where}{error.strerror}; free some space on that disk and try again"
        raise Exit(message, code=Code.ERROR) from error


def discard_output() -> None:
    """Send what is still to be printed nowhere, once the reader of a pipe has closed it.

    Otherwise Python complains when it flushes stdout at exit.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _in_one_line(error: PerfdataError) -> str:
    """Join a message to one line; statements to copy keep their lines."""
    text = options_for_keywords(str(error))
    return text if isinstance(error, (ElsewhereError, PrivilegesError)) else " ".join(text.split())


def program_name() -> str:
    """Return the program that the user typed: ``invoke`` or ``perfdata``."""
    return "perfdata" if Path(sys.argv[0]).stem == "perfdata" else "invoke"


def answer_no(message: str | None = None) -> Exit:
    """Return the exit of a task whose answer is no; the message goes to stderr."""
    return Exit(message, code=Code.NO)


def would_fail(error: PerfdataError) -> Exit:
    """Print how the task would fail without ``--dry``, and return the exit it would end with."""
    verb = "be" if isinstance(error, RefusedError) else "fail:"
    print(f"would {verb} {options_for_keywords(str(error))}")
    return Exit(code=Code.ERROR)


def is_dry(context: Context) -> bool:
    """Tell whether ``--dry`` was given: report what would be done, and change nothing."""
    return bool(context.config.run.dry)


def read_duration(option: str, text: str) -> float:
    """Return seconds from ``10s``, ``500ms``, ``1min`` or a number; raise ConfigError otherwise."""
    match = _DURATION.fullmatch(text)
    if not match:
        raise ConfigError(f"--{option} takes a duration such as 10s, 500ms or 1min, not {text!r}")
    return float(match[1]) * _SECONDS[match[2] or "s"]


def read_lock_timeout(text: str) -> float:
    """Return the seconds of ``--lock-timeout``, the default where it was not given."""
    from perfdata.postgres.locks import LOCK_TIMEOUT_S, lock_timeout

    seconds = read_duration("lock-timeout", text) if text else LOCK_TIMEOUT_S
    lock_timeout(seconds)
    return seconds


def read_whole_number(option: str, text: str) -> int:
    """Return an option's whole number from 0; raise ConfigError for anything else."""
    if not text.isascii() or not text.isdigit():
        raise ConfigError(f"--{option} takes a whole number, not {text!r}")
    return int(text)


def load_settings() -> Settings:
    """Return the settings of the current folder; warn of unknown PERFDATA_* variables.

    With the embedded server, variables that would send libpq elsewhere are removed from this
    process's environment.
    """
    from perfdata.config import Settings, unknown_variables

    for warning in unknown_variables(os.environ):
        print(f"warning: {warning}", file=sys.stderr)
    settings = Settings.load()
    if settings.database_url is None:
        for variable in _LIBPQ_VARIABLES:
            os.environ.pop(variable, None)
    return settings


def untouched_target(settings: Settings) -> Target:
    """Return the target of the settings without connecting to it or starting a server."""
    from perfdata.postgres.url import normalise_url
    from perfdata.target.target import Target

    if settings.database_url is None:
        return Target(settings, conninfo="", embedded=True)
    return Target(settings, normalise_url(settings.database_url), embedded=False)


def configured_project(target: Target, purpose: str) -> Project:
    """Return the target's project; without one raise a ConfigError that names ``purpose``."""
    from perfdata.project import NO_PROJECT_REMEDY, no_project_reason

    if target.project is None:
        raise ConfigError(
            f"{purpose} needs a project: {no_project_reason(target.settings)}",
            remedy=NO_PROJECT_REMEDY,
        )
    return target.project


def dataset_names(settings: Settings) -> list[str]:
    """Return the names of the project's datasets."""
    project = untouched_target(settings).project
    return [dataset.name for dataset in project.datasets] if project else []


def snapshot_names(settings: Settings) -> list[str]:
    """Return the names of the snapshots."""
    from perfdata.snapshot.store import list_snapshots

    return [snapshot.name for snapshot in list_snapshots(settings)]


def restorable_names(settings: Settings) -> list[str]:
    """Return the names of the project's datasets, then those of the other snapshots."""
    return list(dict.fromkeys([*dataset_names(settings), *snapshot_names(settings)]))

"""Run a project's own code in a child process, which can connect to the target only.

The parent needs neither Alembic nor SQLAlchemy.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perfdata import errors
from perfdata.config import program
from perfdata.errors import MigrationError, PerfdataError, ProjectCodeError
from perfdata.migrations.inputs import Inputs
from perfdata.progress import Event, silent

if TYPE_CHECKING:
    from collections.abc import Mapping

    from perfdata.progress import Report
    from perfdata.project import Project

# How long an interrupted statement may take to end before the child is killed.
GRACE_S = 5


@dataclass(frozen=True)
class Job:
    """A task of the child process; ``task`` is a key of worker.TASKS.

    ``conninfo`` may contain a password; if it is None, the task may connect to no database.
    ``loopback`` is the database's URL on the embedded server's port, ``variables`` are those of the
    application (see server.environment). ``program`` runs perfdata's tasks (see Settings.command).
    ``revisions`` are those to migrate to, or to be stamped, which ``dry`` only checks; without any,
    the heads.
    """

    task: str
    project: str
    migrations: str | None = None
    metadata: str | None = None
    conninfo: str | None = field(default=None, repr=False)
    loopback: str | None = field(default=None, repr=False)
    variables: Mapping[str, str] = field(default_factory=dict, repr=False)
    program: str = "perfdata"
    revisions: tuple[str, ...] = ()
    dry: bool = False

    @classmethod
    def of(cls, task: str, project: Project, conninfo: str | None = None, **fields: Any) -> Job:
        """Make a job of a project's code, with the variables that it reads."""
        variables, settings = project.variables(conninfo), project.settings
        return cls(
            task,
            project.name,
            conninfo=conninfo,
            loopback=variables.loopback if conninfo else None,
            variables=variables.values,
            program=program(settings.root) if settings else "perfdata",
            **fields,
        )

    @property
    def code(self) -> str:
        """Name the code that runs, for error messages."""
        return f"the {'migrations' if self.migrations else 'metadata'} of project {self.project}"


def run_job(job: Job, report: Report = silent) -> Any:
    """Run a job in a child process and return its answer.

    Raises ElsewhereError if the project's code connects to anything but the target, and
    MigrationError (of the project's code MigrationFailedError) if it fails in any other way.
    """
    return run_job_with_inputs(job, report)[0]


def run_job_with_inputs(job: Job, report: Report = silent) -> tuple[Any, Inputs]:
    """Run a job as run_job does; return its answer and what that was made from."""
    python = Path(sys.executable or "")
    if "python" not in python.name.lower():  # a program that embeds Python
        python = Path(sys.prefix, "bin", "python")
    paths = [path or str(Path.cwd()) for path in sys.path]
    try:
        process = subprocess.Popen(
            [python, "-P", "-m", "perfdata.migrations.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        )
    except OSError as error:
        raise MigrationError(
            f"{python}, in which {job.code} would run, can't be started ({error.strerror})"
        ) from error
    try:
        return _follow(process, job, report)
    finally:
        _end(process)


def _follow(process: subprocess.Popen[str], job: Job, report: Report) -> tuple[Any, Inputs]:
    if process.stdin is not None and process.stdout is not None:
        with suppress(BrokenPipeError):  # the exit code below says how the child ended
            process.stdin.write(json.dumps(asdict(job)) + "\n")
            process.stdin.flush()
        for line in process.stdout:
            message = json.loads(line)
            if "event" in message:
                report(Event(**message["event"]))
            elif "error" in message:
                raise error_from(**message["error"])
            else:
                return message["answer"], Inputs(**message["inputs"])
    raise MigrationError(
        f"the process that runs {job.code} exited with code {process.wait()} before it was done"
    )


def _end(process: subprocess.Popen[str]) -> None:
    """End the child: closing its input interrupts it like Ctrl-C."""
    try:
        process.communicate(timeout=GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()


class ChildTraceback(Exception):  # noqa: N818  the cause of an error
    """The traceback of an exception in the child process, as text."""


def error_fields(error: PerfdataError) -> dict[str, object]:
    """Return an error as plain data; a class of the project's own becomes its nearest of ours."""
    kind = next(kind for kind in type(error).__mro__ if kind.__module__ == errors.__name__)
    # A class of the project's own may not have called our constructor.
    defaults = {**vars(kind()), "reason": str(error)}
    fields = {name: getattr(error, name, default) for name, default in defaults.items()}
    return {"kind": kind.__name__, "fields": fields}


def error_from(kind: str, fields: dict[str, Any]) -> PerfdataError:
    """Make the error that error_fields described."""
    error: PerfdataError = getattr(errors, kind)()
    for name, value in fields.items():
        setattr(error, name, tuple(value) if isinstance(value, list) else value)
    error.args = (error.reason,)
    if isinstance(error, ProjectCodeError):
        error.__cause__ = ChildTraceback(f"\n{error.traceback}")
    return error

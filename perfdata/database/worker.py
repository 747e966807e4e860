"""A process of its own for a project's migrations and metadata, which reach the target alone.

``python -m perfdata.database.worker``, for perfdata itself. It reads its job as one line of JSON
(no password stands in an argument list), and writes events and its answer as lines to a pipe that
the project's code does not have: what that prints goes to stderr. It ends when its parent does.
"""

from __future__ import annotations

import _thread
import json
import os
import re
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO
from urllib.parse import quote

from perfdata import errors
from perfdata.errors import ElsewhereError, MigrationError, PerfdataError, PrivilegesError
from perfdata.progress import Event, silent

if TYPE_CHECKING:
    from collections.abc import Callable

    from perfdata.progress import Report

# As long as an interrupted statement may take to end.
_GRACE_S = 5
_INTERRUPTED = 130


@dataclass(frozen=True)
class Job:
    """What is asked for; ``task`` is a key of _TASKS.

    ``conninfo`` may hold a password; None where the task needs no database, and so reaches none.
    """

    task: str
    project: str
    migrations: str | None = None
    metadata: str | None = None
    conninfo: str | None = None
    stop_command: str = ""


def run_job(job: Job, report: Report = silent) -> Any:
    """Run a job in a process of its own; raise what it raises, as MigrationError what is not ours.

    Raises ElsewhereError where the project's code connects to anything but the target.
    """
    python = Path(sys.executable or "")
    if "python" not in python.name.lower():  # a program that embeds Python
        python = Path(sys.prefix, "bin", "python")
    paths = [one or str(Path.cwd()) for one in sys.path]
    try:
        process = subprocess.Popen(
            [python, "-P", "-m", "perfdata.database.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        )
    except OSError as error:
        raise MigrationError(
            f"{python} can't be started ({error.strerror}): a project's migrations and metadata "
            "run in a process of their own"
        ) from error
    try:
        return _follow(process, job, report)
    finally:
        _end(process)


def _follow(process: subprocess.Popen[str], job: Job, report: Report) -> Any:
    if process.stdin is not None and process.stdout is not None:
        with suppress(BrokenPipeError):  # its code tells how it ended
            process.stdin.write(json.dumps(asdict(job)) + "\n")
            process.stdin.flush()
        for line in process.stdout:
            message = json.loads(line)
            if "event" in message:
                report(Event(**message["event"]))
            elif "error" in message:
                raise _rebuilt(**message["error"])
            else:
                return message["answer"]
    raise MigrationError(
        f"the process that runs the code of project {job.project} ended with code "
        f"{process.wait()}, before it was done"
    )


def _end(process: subprocess.Popen[str]) -> None:
    """Have it gone: the end of its input interrupts it, as the keyboard would."""
    try:
        process.communicate(timeout=_GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()


def _rebuilt(kind: str, message: str, statements: list[str]) -> PerfdataError:
    made: Callable[..., PerfdataError] = getattr(errors, kind)
    return made(message, statements) if statements else made(message)


def _described(error: PerfdataError) -> dict[str, object]:
    """Describe an error by its class and what that is made of."""
    if isinstance(error, (ElsewhereError, PrivilegesError)):
        message, statements = error.message, list(error.statements)
    else:
        message, statements = str(error), []
    # Of those with more to them than a message, the class above says enough.
    own = (one for one in type(error).__mro__ if "__init__" not in vars(one))
    kind = type(error) if statements else next(own)
    return {"kind": kind.__name__, "message": message, "statements": statements}


def main() -> None:
    """Do the job that comes over standard input."""
    requests = os.fdopen(os.dup(0), encoding="utf-8")
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    with open(os.devnull) as nothing:  # noqa: PTH123
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    line = requests.readline()
    if not line:
        return
    done = threading.Event()
    threading.Thread(target=_end_with_parent, args=(requests, done), daemon=True).start()
    try:
        message = _answer(
            Job(**json.loads(line)), lambda event: _send(answers, event=asdict(event))
        )
    except KeyboardInterrupt:
        os._exit(_INTERRUPTED)
    done.set()
    sys.stdout.flush()
    _send(answers, **message)
    # Threads of the project's own, such as a pool's, would go on.
    os._exit(0)


def _send(answers: TextIO, **message: object) -> None:
    answers.write(json.dumps(message) + "\n")
    answers.flush()


def _end_with_parent(requests: TextIO, done: threading.Event) -> None:
    """Wait for the end of the requests, which are open as long as the parent waits."""
    requests.read()
    if not done.is_set():
        _thread.interrupt_main()
    time.sleep(_GRACE_S)
    os._exit(_INTERRUPTED)


def _answer(job: Job, report: Report) -> dict[str, object]:
    """Do a job where nothing but the target can be connected to; describe what went wrong."""
    from perfdata.driver_hooks import ENV_PY, confined
    from perfdata.libpq import clear_environment

    clear_environment()  # what libpq's variables say of the target stands in its conninfo
    fix = ENV_PY if job.migrations else ()
    what = "migrations" if job.migrations else "metadata"
    with confined(f"the {what} of project {job.project}", job.conninfo, fix) as confinement:
        try:
            return {"answer": _TASKS[job.task](job, report)}
        except (Exception, SystemExit) as error:  # noqa: BLE001  whatever a project's code raises
            # What came of a refusal, such as a pool's time-out, would say less.
            found = confinement.refused or error
            if not isinstance(found, PerfdataError):
                found = _failure(job, what, found)
            return {"error": _described(found)}


def _failure(job: Job, what: str, error: BaseException) -> MigrationError:
    """Put an exception of a project's code into one sentence, with its line and no password."""
    from alembic.util import CommandError
    from sqlalchemy.exc import DBAPIError

    if isinstance(error, DBAPIError):
        said = str(error.orig)
    elif isinstance(error, CommandError):
        said = str(error)
    else:
        said = f"{type(error).__name__}: {error}"
    text = f"the {what} of project {job.project} failed: {said}{_place(error)}"
    return MigrationError(_without_password(text, job.conninfo))


def _place(error: BaseException) -> str:
    """Name the innermost line of the project's own that an exception came through."""
    import traceback

    from perfdata.callers import Callers

    callers, found = Callers(Path.cwd()), ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        if (file := callers.shown(frame.f_code.co_filename)) is not None:
            found = f" ({file}, line {line})"
    return found


def _without_password(text: str, conninfo: str | None) -> str:
    from psycopg.conninfo import conninfo_to_dict

    text = re.sub(r"(://[^\s:/@]*):[^\s@]+@", r"\1:***@", text)
    password = str(conninfo_to_dict(conninfo or "").get("password") or "")
    for secret in {password, quote(password, safe="")} - {""}:
        text = text.replace(secret, "***")
    return text


def _read_history(job: Job, _report: Report) -> object:
    from perfdata.database.revisions import read_scripts

    return read_scripts(job)


def _migrate(job: Job, report: Report) -> object:
    from perfdata.database.revisions import upgrade

    return upgrade(job, report)


def _hash_tables(job: Job, _report: Report) -> object:
    from perfdata.database.tables import hash_tables

    return hash_tables(job)


def _create_tables(job: Job, report: Report) -> object:
    from perfdata.database.tables import create_all

    return create_all(job, report)


_TASKS: dict[str, Callable[[Job, Report], object]] = {
    "read_history": _read_history,
    "migrate": _migrate,
    "hash_tables": _hash_tables,
    "create_tables": _create_tables,
}

if __name__ == "__main__":
    main()

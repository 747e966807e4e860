"""The child process that runs a project's code: ``python -m perfdata.migrations.worker``.

It reads one Job as a line of JSON from standard input, so that no password appears in an argument
list. It writes events and the answer as lines of JSON to a pipe that the project's code can't
reach; what that code prints goes to stderr. It exits when its parent does.
"""

from __future__ import annotations

import _thread
import json
import os
import sys
import threading
import time
import traceback
from dataclasses import asdict
from typing import TYPE_CHECKING, TextIO

from perfdata.driver_hooks import confined
from perfdata.errors import PerfdataError
from perfdata.migrations.environment import read_scripts, stamp, upgrade
from perfdata.migrations.inputs import Reads, loaded_inputs
from perfdata.migrations.job import GRACE_S, Job, error_fields
from perfdata.migrations.metadata import create_all, hash_tables, record_tables
from perfdata.migrations.steps import describe_failure, failure
from perfdata.tracebacks import raised_by_perfdata

if TYPE_CHECKING:
    from collections.abc import Callable

    from perfdata.progress import Report

_INTERRUPTED = 130
# For an env.py made by ``alembic init``.
ENV_PY = (
    "Put these first in run_migrations_online() of env.py:",
    '    if connection := config.attributes.get("connection"):',
    "        context.configure(connection=connection, target_metadata=target_metadata)",
    "        with context.begin_transaction(): return context.run_migrations()",
)
TASKS: dict[str, Callable[[Job, Report], object]] = {
    "read_history": read_scripts,
    "migrate": upgrade,
    "stamp": stamp,
    "hash_tables": hash_tables,
    "create_tables": create_all,
    "record_tables": record_tables,
}


def main() -> None:
    """Run the job that standard input names."""
    requests = os.fdopen(os.dup(0), encoding="utf-8")
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    with open(os.devnull) as nothing:  # noqa: PTH123
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    line = requests.readline()
    if not line:
        return
    done = threading.Event()
    threading.Thread(target=_exit_with_parent, args=(requests, done), daemon=True).start()
    try:
        message = _run(Job(**json.loads(line)), lambda event: _send(answers, event=asdict(event)))
    except KeyboardInterrupt:
        os._exit(_INTERRUPTED)
    done.set()
    sys.stdout.flush()
    _send(answers, **message)
    # Threads of the project's code, such as a pool's, would keep the process alive.
    os._exit(0)


def _send(answers: TextIO, **message: object) -> None:
    answers.write(json.dumps(message) + "\n")
    answers.flush()


def _exit_with_parent(requests: TextIO, done: threading.Event) -> None:
    """Wait until the parent closes the pipe of requests, or is gone; then exit."""
    requests.read()
    if not done.is_set():
        _thread.interrupt_main()
    time.sleep(GRACE_S)
    os._exit(_INTERRUPTED)


def _run(job: Job, report: Report) -> dict[str, object]:
    """Run a job confined to its target; return its answer, or its error."""
    from perfdata.libpq import clear_environment

    clear_environment()  # the conninfo holds all that libpq's variables say about the target
    os.environ.update(job.variables)
    fix = ENV_PY if job.migrations else ()
    reads = Reads()
    with confined(job.code, job.conninfo, fix, job.loopback) as confinement:
        try:
            answer = TASKS[job.task](job, report)
            return {"inputs": asdict(loaded_inputs(answer, reads)), "answer": answer}
        except (Exception, SystemExit) as error:  # noqa: BLE001  a project's code may raise any
            # A refused connection may surface as something vaguer, such as a pool's time-out.
            found = confinement.refused or error
            if not isinstance(found, PerfdataError):
                if raised_by_perfdata(found):
                    traceback.print_exception(found)
                    os._exit(1)
                found = failure(job, found, describe_failure(found))
            return {"error": error_fields(found)}


if __name__ == "__main__":
    main()

"""A second process that fills tables: ``python -m perfdata.snapshot.helper``, for perfdata itself.

It reads its job as one line of JSON (no password stands in an argument list), writes its result as
one line, and ends at once when whoever started it is gone or ends it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from perfdata.errors import (
    ConnectError,
    LoadError,
    PerfdataError,
    SchemaError,
    SnapshotDamagedError,
    SnapshotError,
)
from perfdata.progress import silent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from perfdata.snapshot.filling import Job

_GONE = 3
_KINDS = {one.__name__: one for one in (SchemaError, SnapshotDamagedError, SnapshotError)}


class Helper:
    """The other end: a process that was started, and can be given a job."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def give(self, job: Job) -> None:
        """Send the job; a helper that is gone already has none, and all is done here."""
        if self._process.stdin is not None:
            try:
                self._process.stdin.write(job.to_json() + "\n")
                self._process.stdin.flush()
            except OSError:
                return

    def result(self) -> dict[str, int]:
        """Wait for it, end it, and return the rows by table; raise what it ran into."""
        line = self._process.stdout.readline() if self._process.stdout else ""
        self.end()
        try:
            answer = json.loads(line)
        except ValueError:
            return {}  # it did not even begin, or died: what is missing is found by its absence
        if "error" in answer:
            raise _KINDS.get(answer["kind"], LoadError)(answer["error"])
        return dict(answer["rows"])

    def end(self) -> None:
        """Have it gone, whatever it does."""
        if self._process.returncode is None:
            self._process.kill()
            self._process.communicate()


@contextmanager
def helper() -> Iterator[Helper | None]:
    """Start a helper, which is gone after the block; None where this Python can't be started anew.

    A program that embeds Python has another executable: nobody knows what starting it would do.
    """
    program = Path(sys.executable or "")
    if (os.cpu_count() or 1) < 2 or "python" not in program.name.lower():  # noqa: PLR2004  two at once
        yield None
        return
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    try:
        process = subprocess.Popen(
            [program, "-m", "perfdata.snapshot.helper"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            encoding="utf-8",
            env=environment,
        )
    except OSError:
        yield None
        return
    started = Helper(process)
    try:
        yield started
    finally:
        started.end()


def main() -> None:
    """Do the job that comes over standard input."""
    import psycopg  # noqa: F401  loaded before the job comes: that takes a tenth of a second

    from perfdata.postgres.reflection import read_catalog
    from perfdata.snapshot.filling import Job, fill_tables, open_room

    line = sys.stdin.readline()
    if not line:
        return
    parent = threading.Thread(target=_end_with_parent, daemon=True)
    parent.start()
    job = Job.from_json(line)
    with ExitStack() as stack:
        try:
            link = stack.enter_context(open_room(job.conninfo, job.search_path))
            rows = fill_tables(link, job, read_catalog(link), silent).rows
            answer: dict[str, object] = {"rows": rows}
        except ConnectError:  # this role may have no second connection: all is done there
            answer = {"rows": {}}
        except PerfdataError as error:
            answer = {"error": str(error), "kind": type(error).__name__}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
        # What was claimed here would be free again without the connection: it lasts until the end,
        # which comes from whoever started this.
        parent.join()


def _end_with_parent() -> None:
    """Wait for the end of standard input, which is open as long as the parent lives."""
    sys.stdin.read()
    os._exit(_GONE)


if __name__ == "__main__":
    main()

"""The postmaster: started detached, found by its process, asked who it is, stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perfdata.driver_hooks import own_connection
from perfdata.errors import ServerError
from perfdata.server.accounts import is_private, run_as
from perfdata.server.cluster import SUPERUSER

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psycopg

    from perfdata.server.binaries import Binaries
    from perfdata.server.cluster import Cluster
    from perfdata.server.sockets import Socket

START_LIMIT_S, STOP_LIMIT_S, _CONNECT_LIMIT_S = 60.0, 60.0, 10
_POLL_S, _RETRY_S = 0.005, 0.1
_TAIL_LINES = 10
_PROC = Path("/proc")
# The shell ends at once: the server is nobody's child but init's, so that no zombie is left in a
# starter that lives long. Its output goes where the shell's errors go: to the log.
_DETACHED = 'exec "$@" </dev/null >&2 & echo $!'
# Backends that outlived a killed postmaster hold its shared memory until they notice.
_PASSING = "pre-existing shared memory block"
_FULL = "No space left on device"
# What libpq and the server say where nobody takes connections, yet or any more.
_NOBODY = (
    "Connection refused", "No such file", "Not a directory", "server closed the connection",
    "is starting up", "is shutting down", "not yet accepting connections", "in recovery mode",
)  # fmt: skip
# The settings on which times depend.
SHOWN = (
    "fsync", "synchronous_commit", "full_page_writes", "wal_level", "autovacuum", "jit",
    "shared_buffers", "max_wal_size",
)  # fmt: skip
# to_jsonb, because the column of the locale's name is another in each version.
_QUESTION = """
SELECT (SELECT system_identifier FROM pg_catalog.pg_control_system()),
       split_part(pg_read_file('postmaster.pid'), E'\\n', 1)::int,
       split_part(current_setting('server_version'), ' ', 1),
       (SELECT json_object_agg(name, current_setting(name)) FROM unnest(%s::text[]) AS s (name)),
       json_build_object(
           'lc_collate', d.datcollate,
           'lc_ctype', d.datctype,
           'locale_provider',
           CASE d.datlocprovider WHEN 'b' THEN 'builtin' WHEN 'i' THEN 'icu' ELSE 'libc' END,
           'locale', coalesce(to_jsonb(d) ->> 'datlocale', d.datcollate),
           'server_encoding', pg_encoding_to_char(d.encoding))
FROM pg_database d WHERE d.datname = current_database()
"""


def is_running(pid: int) -> bool:
    """Tell whether the process is there; a zombie is not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        state = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return not _PROC.joinpath("self").exists() and _ps(pid, "stat")[:1] not in ("Z", "")
    return state.rpartition(")")[2].split()[:1] != ["Z"]


def works_in(pid: int, folder: Path) -> bool:
    """Tell whether the process has that folder as its own, as a postmaster has its data folder."""
    try:
        return (_PROC / str(pid) / "cwd").samefile(folder)
    except FileNotFoundError:
        if _PROC.joinpath("self").exists():
            return False
    except OSError:  # another user's process: not a server of ours
        return False
    return str(folder) in _ps(pid, "command")


def _ps(pid: int, column: str) -> str:
    """Ask ps for a column of a process, on systems without /proc."""
    command = ["ps", "-ww", "-o", f"{column}=", "-p", str(pid)]
    return subprocess.run(command, capture_output=True, check=False, text=True).stdout.strip()


def postmaster_of(cluster: Cluster) -> int | None:
    """Return the id of a postmaster that really works in the cluster's data folder.

    A recorded id alone proves nothing: after a kill it may be another process's, or a zombie's.
    """
    pid, _ = cluster.postmaster() or (None, "")
    return pid if pid and is_running(pid) and works_in(pid, cluster.data) else None


def find_postmaster(cluster: Cluster, socket: Socket) -> int | None:
    """Return the postmaster that listens on our socket, or that works in our data folder."""
    pid = socket.listener()
    if pid == 0:
        raise ServerError(
            f"the embedded server in {cluster.folder} runs in another container: stop it there"
        )
    # Whoever else listens there is none of ours, and not to be signalled. (One whose data were
    # removed works nowhere, but only its own account can have made its socket.)
    if pid and (works_in(pid, cluster.data) or is_private(socket.folder, cluster.account)):
        return pid
    return postmaster_of(cluster)


def launch(cluster: Cluster, binaries: Binaries, log: Path) -> None:
    """Start the server and return when it is ready.

    Raises ServerError with the end of its log where it dies, or takes over a minute.
    """
    deadline = time.monotonic() + START_LIMIT_S
    if log.exists():
        log.replace(log.with_name(f"{log.name}.old"))
    while True:
        before = log.stat().st_size if log.exists() else 0
        pid = _spawn(cluster, binaries, log)
        if wait_until_ready(cluster, pid, log, deadline):
            return
        said = _said(log, before)
        if time.monotonic() > deadline or _PASSING not in said:
            why = ": its disk is full, make room on it" if _FULL in said else ""
            raise ServerError(
                f"the embedded server did not start{why}; the last lines of {log}:\n{said}"
            )
        time.sleep(_RETRY_S)


def wait_until_ready(cluster: Cluster, pid: int, log: Path, deadline: float | None = None) -> bool:
    """Wait for a postmaster; False when it has ended. ``deadline`` is in monotonic seconds."""
    deadline = deadline or time.monotonic() + START_LIMIT_S
    while cluster.postmaster() != (pid, "ready"):
        if not is_running(pid):
            return False
        if time.monotonic() > deadline:
            raise ServerError(
                f"the embedded server (process {pid}) is still not ready after "
                f"{START_LIMIT_S:.0f} s, and still at it: try again later, or see {log}"
            )
        time.sleep(_POLL_S)
    return True


def _spawn(cluster: Cluster, binaries: Binaries, log: Path) -> int:
    command = [binaries.postgres, "-D", cluster.data, f"--config-file={cluster.configuration}"]
    recorded = cluster.postmaster()
    # Who comes here has found no postmaster of ours under the recorded id. PostgreSQL looks only
    # whether a process has it, unless it is told that this one is a relative of its own; removing
    # the file instead would also remove its check of the shared memory.
    environment = {"PG_GRANDPARENT_PID": str(recorded[0])} if recorded else {}
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "ab") as file:
        shell = ["/bin/sh", "-c", _DETACHED, "sh", *command]
        done = run_as(cluster.account, shell, stderr=file, environment=environment)
    if done.returncode != 0:
        raise ServerError(f"{binaries.postgres} can't be run: {_said(log, 0)}")
    return int(done.stdout)


def _said(log: Path, start: int) -> str:
    """Return the last lines that were logged from this position on."""
    text = log.read_bytes()[start:].decode(errors="replace")
    return "\n".join(f"  {line}" for line in text.splitlines()[-_TAIL_LINES:])


def stop_postmaster(pid: int, how: signal.Signals = signal.SIGINT) -> None:
    """Send the signal and wait until the process is gone; ServerError after a minute."""
    deadline = time.monotonic() + STOP_LIMIT_S
    try:
        os.kill(pid, how)
    except ProcessLookupError:
        return
    while is_running(pid):
        if time.monotonic() > deadline:
            raise ServerError(
                f"the embedded server (process {pid}) did not stop within {STOP_LIMIT_S:.0f} s; "
                "it may still be writing: try again"
            )
        time.sleep(_POLL_S)


@dataclass(frozen=True)
class Answer:
    """What a running server says of itself; ``pid`` is its postmaster's."""

    identifier: int
    pid: int
    version: str
    settings: dict[str, str]


def ask(socket: Socket) -> Answer | None:
    """Ask the server on that socket; None where none takes connections (yet, or any more).

    Raises ServerError where one is there but can't answer.
    """
    if not socket.path.exists():
        return None
    try:
        with _connected(socket) as connection:
            row = connection.execute(_QUESTION, [list(SHOWN)]).fetchone()
    except ConnectionError:
        return None
    if row is None:
        return None
    identifier, pid, version, settings, locale = row
    # The server's own word on its process id is true only outside containers.
    return Answer(identifier, socket.listener() or pid, version, {**settings, **locale})


def set_password(socket: Socket, password: str) -> None:
    """Give the superuser its password; the server and its log see only the hash."""
    from psycopg import sql

    with _connected(socket) as connection:
        hashed = connection.pgconn.encrypt_password(
            password.encode(), SUPERUSER.encode(), b"scram-sha-256"
        )
        query = sql.SQL("ALTER ROLE {} PASSWORD {}")
        connection.execute(query.format(sql.Identifier(SUPERUSER), sql.Literal(hashed.decode())))


@contextmanager
def _connected(socket: Socket) -> Iterator[psycopg.Connection[Any]]:
    """Connect to the database that every cluster has; ConnectionError where nobody answers.

    Every other error, also of the block, is raised as a ServerError.
    """
    import psycopg

    options: dict[str, Any] = {"autocommit": True, "connect_timeout": _CONNECT_LIMIT_S}
    try:
        with own_connection():
            connection = psycopg.connect(socket.conninfo("postgres"), **options)
        with connection:
            yield connection
    except psycopg.errors.ConnectionTimeout as error:
        raise ServerError(
            f"the embedded server does not answer on {socket.folder} within {_CONNECT_LIMIT_S} s"
        ) from error
    except psycopg.Error as error:
        text = str(error)
        if "too many clients" in text or "connection slots are reserved" in text:
            raise ServerError(
                "the embedded server runs, but all its connections are taken: end some"
            ) from error
        if not any(sign in text for sign in _NOBODY):
            reason = " ".join(text.split())
            remedy = "; unset PGSERVICE" if "PGSERVICE" in os.environ else ""
            raise ServerError(f"the embedded server can't be asked: {reason}{remedy}") from error
        raise ConnectionError(text) from error

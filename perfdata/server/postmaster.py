"""The embedded server's postmaster: start it, find it, read its settings, stop it."""

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
_HAS_PROC = (_PROC / "self").exists()
# The shell exits at once, so that the server is init's child and leaves no zombie in the process
# that started it. Its output goes to the shell's stderr, which is the log.
_DETACHED = 'exec "$@" </dev/null >&2 & echo $!'
# Backends that outlive a killed postmaster hold its shared memory for a moment.
_STILL_IN_USE = "pre-existing shared memory block"
_FULL = "No space left on device"
# What libpq and the server report while the server does not accept connections, or accepts no more.
_NOT_ACCEPTING = (
    "Connection refused", "No such file", "Not a directory", "server closed the connection",
    "is starting up", "is shutting down", "not yet accepting connections", "in recovery mode",
)  # fmt: skip
# The server's settings that timings depend on.
TIMING_SETTINGS = (
    "fsync", "synchronous_commit", "full_page_writes", "wal_level", "autovacuum", "jit",
    "shared_buffers", "max_wal_size",
)  # fmt: skip
# to_jsonb, because the column of the locale's name differs between versions.
_INFO_QUERY = """
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
    """Return whether the process exists and is not a zombie."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    if not _HAS_PROC:
        return _ps(pid, "stat")[:1] not in ("Z", "")
    try:
        state = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return False
    return state.rpartition(")")[2].split()[:1] != ["Z"]


def works_in(pid: int, folder: Path) -> bool:
    """Return whether the process works in the folder, as a postmaster does in its data."""
    if not _HAS_PROC:
        return str(folder) in _ps(pid, "command")
    try:
        return (_PROC / str(pid) / "cwd").samefile(folder)
    except OSError:  # it has exited, or is another user's: not a server of ours
        return False


def _ps(pid: int, column: str) -> str:
    """Return a column of ps for the process, for systems without /proc."""
    command = ["ps", "-ww", "-o", f"{column}=", "-p", str(pid)]
    return subprocess.run(command, capture_output=True, check=False, text=True).stdout.strip()


def recorded_postmaster(cluster: Cluster) -> int | None:
    """Return the process id in postmaster.pid if that process works in the data directory.

    After a kill, the recorded id may be that of another process, or of a zombie.
    """
    pid, _ = cluster.postmaster() or (None, "")
    return pid if pid and is_running(pid) and works_in(pid, cluster.data) else None


def find_postmaster(cluster: Cluster, socket: Socket) -> int | None:
    """Return the id of the postmaster that listens on the socket or works in the data directory."""
    pid = socket.listener()
    if pid == 0:
        raise ServerError(
            f"the embedded server in {cluster.folder} runs in another container: stop it there"
        )
    # Any other listener is not ours and must not be signalled. A postmaster whose data were removed
    # has no working directory, but only the account can have created a socket in a private folder.
    if pid and (works_in(pid, cluster.data) or is_private(socket.folder, cluster.account)):
        return pid
    return recorded_postmaster(cluster)


def start_postmaster(cluster: Cluster, binaries: Binaries, log: Path) -> None:
    """Start the server and wait until it accepts connections.

    Raises ServerError with the end of the log if it exits, or is not ready after a minute.
    """
    deadline = time.monotonic() + START_LIMIT_S
    if log.exists():
        log.replace(log.with_name(f"{log.name}.old"))
    while True:
        before = log.stat().st_size if log.exists() else 0
        pid = _spawn(cluster, binaries, log)
        if wait_until_ready(cluster, pid, log, deadline):
            return
        output = _read_tail(log, before)
        if time.monotonic() > deadline or _STILL_IN_USE not in output:
            reason = ": its disk is full, free space on it" if _FULL in output else ""
            raise ServerError(
                f"the embedded server did not start{reason}; the last lines of {log}:\n{output}"
            )
        time.sleep(_RETRY_S)


def wait_until_ready(cluster: Cluster, pid: int, log: Path, deadline: float | None = None) -> bool:
    """Wait until a postmaster is ready; return False if it exits. ``deadline`` is monotonic."""
    deadline = deadline or time.monotonic() + START_LIMIT_S
    while cluster.postmaster() != (pid, "ready"):
        if not is_running(pid):
            return False
        if time.monotonic() > deadline:
            raise ServerError(
                f"the embedded server (process {pid}) is not ready after {START_LIMIT_S:.0f} s, "
                f"but still starting: try again later, or see {log}"
            )
        time.sleep(_POLL_S)
    return True


def _spawn(cluster: Cluster, binaries: Binaries, log: Path) -> int:
    command = [binaries.postgres, "-D", cluster.data, f"--config-file={cluster.configuration}"]
    recorded = cluster.postmaster()
    # The recorded id is not a postmaster of this cluster (the caller has checked), but PostgreSQL
    # refuses to start while any process has it, unless it is told that this is its grandparent.
    # Removing postmaster.pid instead would also disable the check of the shared memory.
    environment = {"PG_GRANDPARENT_PID": str(recorded[0])} if recorded else {}
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "ab") as file:
        shell = ["/bin/sh", "-c", _DETACHED, "sh", *command]
        done = run_as(cluster.account, shell, stderr=file, environment=environment)
    if done.returncode != 0:
        raise ServerError(f"{binaries.postgres} can't be run: {_read_tail(log, 0)}")
    return int(done.stdout)


def _read_tail(log: Path, start: int) -> str:
    """Return the last lines after this position in the log, indented."""
    text = log.read_bytes()[start:].decode(errors="replace")
    return "\n".join(f"  {line}" for line in text.splitlines()[-_TAIL_LINES:])


def stop_postmaster(pid: int, stop_signal: signal.Signals = signal.SIGINT) -> None:
    """Send the signal and wait for the process to exit. Raises ServerError after a minute."""
    deadline = time.monotonic() + STOP_LIMIT_S
    try:
        os.kill(pid, stop_signal)
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
class ServerInfo:
    """What a running server reports; ``pid`` is its postmaster's."""

    identifier: int
    pid: int
    version: str
    settings: dict[str, str]


def read_info(socket: Socket) -> ServerInfo | None:
    """Query the server on a socket; return None if none accepts connections (yet, or any more).

    Raises ServerError if the query fails for another reason.
    """
    if not socket.path.exists():
        return None
    try:
        with _connected(socket) as connection:
            (row,) = connection.execute(_INFO_QUERY, [list(TIMING_SETTINGS)]).fetchall()
    except ConnectionError:
        return None
    identifier, pid, version, settings, locale = row
    # A server in a container reports its id in that container.
    return ServerInfo(identifier, socket.listener() or pid, version, {**settings, **locale})


def set_password(socket: Socket, password: str) -> None:
    """Set the superuser's password; only its hash is sent, and can be logged."""
    from psycopg import sql

    with _connected(socket) as connection:
        hashed = connection.pgconn.encrypt_password(
            password.encode(), SUPERUSER.encode(), b"scram-sha-256"
        )
        query = sql.SQL("ALTER ROLE {} PASSWORD {}")
        connection.execute(query.format(sql.Identifier(SUPERUSER), sql.Literal(hashed.decode())))


@contextmanager
def _connected(socket: Socket) -> Iterator[psycopg.Connection[Any]]:
    """Connect to the database postgres, which every cluster has.

    Raises ConnectionError if no connections are accepted. Any other error of psycopg, also in the
    block, is raised as a ServerError.
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
                "the embedded server runs, but all its connections are in use: close some"
            ) from error
        if not any(message in text for message in _NOT_ACCEPTING):
            reason = " ".join(text.split())
            remedy = "; unset PGSERVICE" if "PGSERVICE" in os.environ else ""
            raise ServerError(f"the embedded server can't be queried: {reason}{remedy}") from error
        raise ConnectionError(text) from error

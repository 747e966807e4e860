"""Start a postmaster, detached from whoever starts it, and wait until it takes connections."""

from __future__ import annotations

import os
import socket
import time
from typing import TYPE_CHECKING

from perfdata.database.accounts import is_private, run_as
from perfdata.database.processes import is_running, listener_of, works_in
from perfdata.errors import ConfigError, ServerError

if TYPE_CHECKING:
    from pathlib import Path

    from perfdata.database.binaries import Binaries
    from perfdata.database.cluster import Cluster

START_LIMIT_S = 60.0
_POLL_S, _RETRY_S = 0.005, 0.1
_TAIL_LINES = 10
# Those below are for root, as which the server never runs.
PORTS = range(1024, 65_536)
# The shell ends at once: the server is nobody's child but init's, so that no zombie is left in a
# starter that lives long. Its output goes where the shell's errors go: to the log.
_DETACHED = 'exec "$@" </dev/null >&2 & echo $!'
# Backends that outlived a killed postmaster hold its shared memory until they notice.
_PASSING = ("pre-existing shared memory block",)
_FULL = "No space left on device"


def check_port(port: int) -> None:
    """Raise ServerError where nobody can listen on this port of 127.0.0.1."""
    if port not in PORTS:
        raise ConfigError(f"a port is a number from {PORTS[0]} to {PORTS[-1]}, not {port}")
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise ServerError(
                f"the embedded server can't listen on port {port} of 127.0.0.1 "
                f"({error.strerror}): choose another one"
            ) from error


def postmaster_of(cluster: Cluster) -> int | None:
    """Return the id of a postmaster that really works in the cluster's data folder.

    A recorded id alone proves nothing: after a kill it may be another process's, or a zombie's.
    """
    recorded = cluster.postmaster()
    if recorded is None:
        return None
    pid = recorded[0]
    return pid if is_running(pid) and works_in(pid, cluster.data) else None


def find_postmaster(cluster: Cluster, socket_folder: Path, port: int) -> int | None:
    """Return the postmaster that listens on our socket, or that works in our data folder."""
    pid = listener_of(socket_folder / f".s.PGSQL.{port}")
    if pid == 0:
        raise ServerError(
            f"the embedded server in {cluster.folder} runs in another container: stop it there"
        )
    # Whoever else listens there is none of ours, and not to be signalled. (One whose data were
    # removed works nowhere, but only its own account can have made its socket.)
    ours = pid is not None and (
        works_in(pid, cluster.data) or is_private(socket_folder, cluster.account)
    )
    return pid if ours else postmaster_of(cluster)


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
        if time.monotonic() > deadline or not any(sign in said for sign in _PASSING):
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

"""Processes by their id, and the boot that they belong to."""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import time
from pathlib import Path

from perfdata.errors import ServerError

_PROC = Path("/proc")
_POLL_S = 0.005
STOP_LIMIT_S = 60.0


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
    command = ["ps", "-ww", "-o", f"{column}=", "-p", str(pid)]
    return subprocess.run(command, capture_output=True, check=False, text=True).stdout.strip()


def stop_process(pid: int, how: signal.Signals = signal.SIGINT) -> None:
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


def listener_of(path: Path) -> int | None:
    """Return the id of the process that listens on a Unix socket, as the kernel knows it.

    0 is a process of another container. None: nobody listens, or this kernel does not tell.
    """
    if not hasattr(socket, "SO_PEERCRED") or not path.exists():
        return None
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as end:
        try:
            end.connect(os.fspath(path))
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        size = struct.calcsize("3i")
        raw = end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    return int(struct.unpack("3i", raw)[0])


def boot_id() -> str:
    """Return what is the same until the operating system starts again; empty where unknown."""
    try:
        return (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        pass
    command = ["sysctl", "-n", "kern.bootsessionuuid"]
    try:
        return subprocess.run(command, capture_output=True, check=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""

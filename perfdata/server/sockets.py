"""Where the embedded server listens: a Unix socket, and on request a port of 127.0.0.1.

The socket lies in the cluster's folder. Where that path is longer than a socket's may be, it lies
in a temporary folder, marked with the home that it was made for.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from perfdata.errors import ConfigError, ServerError
from perfdata.server.accounts import can_reach, is_private, make_folder
from perfdata.server.cluster import SUPERUSER

if TYPE_CHECKING:
    from perfdata.server.cluster import Cluster

# Those below are for root, as which the server never runs.
PORTS = range(1024, 65_536)
# What sun_path holds, without its closing zero.
_PATH_LIMIT = 107 if sys.platform == "linux" else 103
# A temporary folder for a socket, and the file in it that names the home that it was made for.
_PREFIX, _MARK = "perfdata-", "perfdata-home"
# Given in every conninfo, or of no effect on a server that asks for no password.
_NOT_NEUTRAL = {
    "service", "host", "port", "user", "dbname", "application_name", "password", "passfile",
}  # fmt: skip
# Where libpq has no default of its own, and takes no empty value for it. Options that are empty
# would be dropped from a URL.
_NEUTRAL = {
    "connect_timeout": "0",
    "max_protocol_version": "3.0",
    "min_protocol_version": "3.0",
    "options": " ",
    "sslcertmode": "disable",
}


@dataclass(frozen=True)
class Socket:
    """A server's Unix socket, in a folder; ``port`` is the number in its name."""

    folder: Path
    port: int

    @property
    def path(self) -> Path:
        """The socket itself."""
        return self.folder / f".s.PGSQL.{self.port}"

    def conninfo(self, database: str) -> str:
        """Write the libpq string for a database behind the socket, whatever its name holds.

        What the environment says for other servers (PGOPTIONS, PGHOSTADDR, …) is overruled.
        """
        from psycopg.conninfo import make_conninfo

        return make_conninfo(
            host=str(self.folder),
            port=self.port,
            user=SUPERUSER,
            dbname=database,
            **_neutral_parameters(),
        )

    def listener(self) -> int | None:
        """Return the id of the process that listens, as the kernel knows it.

        0 is a process of another container. None: nobody listens, or this kernel does not tell.
        """
        if not hasattr(socket, "SO_PEERCRED") or not self.path.exists():
            return None
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            try:
                client.connect(os.fspath(self.path))
            except (FileNotFoundError, ConnectionRefusedError):
                return None
            size = struct.calcsize("3i")
            credentials = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
        return int(struct.unpack("3i", credentials)[0])


def _neutral_parameters() -> dict[str, str]:
    """State each parameter that libpq would take from a variable that is set, or from a service."""
    from psycopg import pq

    service = "PGSERVICE" in os.environ
    found = {}
    for parameter in pq.Conninfo.get_defaults():
        name, variable = parameter.keyword.decode(), (parameter.envvar or b"").decode()
        if name not in _NOT_NEUTRAL and variable and (service or variable in os.environ):
            found[name] = _NEUTRAL.get(name, (parameter.compiled or b"").decode())
    return found


def check_port(port: int) -> None:
    """Raise ServerError where nobody can listen on this port of 127.0.0.1."""
    if port not in PORTS:
        raise ConfigError(f"a port is a number from {PORTS[0]} to {PORTS[-1]}, not {port}")
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError as error:
            raise ServerError(
                f"the embedded server can't listen on port {port} of 127.0.0.1 "
                f"({error.strerror}): choose another one"
            ) from error


def socket_fits(folder: Path) -> bool:
    """Tell whether a socket in this folder can be named: by the kernel, and in a libpq conninfo."""
    name = os.fsencode(folder / ".s.PGSQL.65535")
    if len(name) > _PATH_LIMIT or b"," in name:
        return False
    try:
        str(folder).encode()
    except UnicodeEncodeError:
        return False
    return True


@dataclass(frozen=True)
class SocketFolders:
    """The folders in which the cluster's socket may lie: its own, and temporary ones.

    A temporary folder is private to the server's account, and marked with the home that it was made
    for: a path that is recorded for it is no right to a folder, since it may be damaged or edited.
    """

    cluster: Cluster
    home: Path

    def recorded(self, path: str | None) -> Path | None:
        """Return the temporary folder at a path; None where it was not made for this home."""
        return Path(path) if path and self._owns(Path(path)) else None

    def make(self, path: str | None) -> Path:
        """Return an empty folder for the socket.

        It is a temporary one where the path of the cluster's own is too long; the recorded one is
        used again where it is still private.
        """
        folder = self.cluster.folder / "socket"
        if socket_fits(folder):
            make_folder(folder, self.cluster.account)
        else:
            folder = self.recorded(path) or self._make_temporary()
        _remove_sockets(folder)  # of a killed server, whose process id may be in use again
        return folder

    def find_strays(self, path: str | None) -> list[Path]:
        """Return the temporary folders of this home but the recorded one, sorted."""
        found = sorted(Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"))
        return [folder for folder in found if str(folder) != path and self._owns(folder)]

    def _owns(self, folder: Path) -> bool:
        if not (folder.name.startswith(_PREFIX) and is_private(folder, self.cluster.account)):
            return False
        try:
            return (folder / _MARK).read_bytes() == self._mark
        except OSError:
            return False

    def _make_temporary(self) -> Path:
        for parent in (None, "/tmp"):  # noqa: S108 - mkdtemp makes a private folder there
            folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
            if socket_fits(folder) and can_reach(self.cluster.account, folder.parent):
                make_folder(folder, self.cluster.account)
                (folder / _MARK).write_bytes(self._mark)
                return folder
            folder.rmdir()
        raise ServerError(f"no socket can be made: the path of {tempfile.gettempdir()} is too long")

    @property
    def _mark(self) -> bytes:
        return os.fsencode(self.home.resolve())


def remove_temporary_folder(folder: Path) -> None:
    """Remove a temporary folder for a socket, but not what somebody else put there."""
    _remove_sockets(folder)
    (folder / _MARK).unlink()
    with suppress(OSError):
        folder.rmdir()


def _remove_sockets(folder: Path) -> None:
    for left in folder.glob(".s.PGSQL.*"):
        left.unlink()

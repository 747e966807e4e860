"""Where the embedded server listens: on a Unix socket, and on request on a port of 127.0.0.1.

The socket is in the cluster's folder. If its path would be too long for a socket, it is in a
temporary folder that holds a file with the path of PERFDATA_HOME.
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

# Lower ports need root, and the server never runs as root.
PORTS = range(1024, 65_536)
# The size of sun_path in bytes, without the terminating zero.
_PATH_LIMIT = 107 if sys.platform == "linux" else 103
# Names of the temporary folder, and of the file in it that names the home.
_PREFIX, _MARK = "perfdata-", "perfdata-home"
# The parameters that libpq's environment variables can't override: those set in every conninfo, and
# those without effect because the server asks for no password.
_NOT_OVERRIDDEN = {
    "service", "host", "port", "user", "dbname", "application_name", "password", "passfile",
}  # fmt: skip
# For parameters without a compiled-in default for which libpq refuses an empty value. Empty options
# would be dropped from a URL.
_DEFAULTS = {
    "connect_timeout": "0",
    "max_protocol_version": "3.0",
    "min_protocol_version": "3.0",
    "options": " ",
    "sslcertmode": "disable",
}


@dataclass(frozen=True)
class Socket:
    """A Unix socket in a folder; ``port`` is the number in its name."""

    folder: Path
    port: int

    @property
    def path(self) -> Path:
        """The path of the socket."""
        return self.folder / f".s.PGSQL.{self.port}"

    def conninfo(self, database: str) -> str:
        """Return the libpq key=value string of a database, of any name.

        The string overrides PGOPTIONS, PGHOSTADDR and the like, which are meant for other servers.
        """
        from psycopg.conninfo import make_conninfo

        return make_conninfo(
            host=str(self.folder),
            port=self.port,
            user=SUPERUSER,
            dbname=database,
            **_override_environment(),
        )

    def answers(self) -> bool:
        """Tell whether a process listens."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            try:
                client.connect(os.fspath(self.path))
            except OSError:
                return False
        return True

    def listener(self) -> int | None:
        """Return the id of the process that listens, as the kernel reports it.

        0 is a process in another container; None if nobody listens, or the kernel can't report it.
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


def _override_environment() -> dict[str, str]:
    """Return defaults for the parameters that libpq would take from a variable or a service."""
    from psycopg import pq

    service = "PGSERVICE" in os.environ
    found = {}
    for parameter in pq.Conninfo.get_defaults():
        name, variable = parameter.keyword.decode(), (parameter.envvar or b"").decode()
        if name not in _NOT_OVERRIDDEN and variable and (service or variable in os.environ):
            found[name] = _DEFAULTS.get(name, (parameter.compiled or b"").decode())
    return found


def check_port(port: int) -> None:
    """Raise ServerError if this port of 127.0.0.1 is taken, ConfigError if it is not a port."""
    if port not in PORTS:
        raise ConfigError(f"a port must be a number from {PORTS[0]} to {PORTS[-1]}, not {port}")
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError as error:
            raise ServerError(
                f"the embedded server can't listen on port {port} of 127.0.0.1 "
                f"({error.strerror}): choose another port"
            ) from error


def socket_fits(folder: Path) -> bool:
    """Return whether the kernel, and a libpq conninfo, can name a socket in this folder."""
    try:
        str(folder).encode()
    except UnicodeEncodeError:
        return False
    name = os.fsencode(folder / ".s.PGSQL.65535")
    return len(name) <= _PATH_LIMIT and b"," not in name


@dataclass(frozen=True)
class SocketFolders:
    """The folders where a cluster's socket can be: ``socket`` in the cluster's, or a temporary one.

    A temporary folder is private to the server's account, and a file in it names the home. Its path
    is recorded in the state, which may be damaged or edited: a folder without that file is neither
    used nor removed.
    """

    cluster: Cluster
    home: Path

    def recorded(self, path: str | None) -> Path | None:
        """Return the recorded temporary folder; None if it was not created for this home."""
        return Path(path) if path and self._owns(Path(path)) else None

    def make(self, path: str | None) -> Path:
        """Return an empty folder for the socket.

        If it has to be temporary, the recorded one is reused as long as it is private.
        """
        folder = self.cluster.folder / "socket"
        if socket_fits(folder):
            make_folder(folder, self.cluster.account)
        else:
            folder = self.recorded(path) or self._make_temporary()
        _remove_sockets(folder)  # of a killed server, whose process id may be reused
        return folder

    def find_strays(self, path: str | None) -> list[Path]:
        """Return the temporary folders of this home except the recorded one, sorted."""
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
        for parent in (None, "/tmp"):  # noqa: S108 - mkdtemp creates a private folder
            folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
            if socket_fits(folder) and can_reach(self.cluster.account, folder.parent):
                make_folder(folder, self.cluster.account)
                (folder / _MARK).write_bytes(self._mark)
                return folder
            folder.rmdir()
        raise ServerError(f"no socket can be created: the path {tempfile.gettempdir()} is too long")

    @property
    def _mark(self) -> bytes:
        return os.fsencode(self.home.resolve())


def remove_temporary_folder(folder: Path) -> None:
    """Remove a temporary folder of a socket, unless it holds other files."""
    _remove_sockets(folder)
    (folder / _MARK).unlink()
    with suppress(OSError):
        folder.rmdir()


def _remove_sockets(folder: Path) -> None:
    for path in folder.glob(".s.PGSQL.*"):
        path.unlink()

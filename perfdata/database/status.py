"""How the embedded server stands."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import quote

from perfdata.database.cluster import DATABASE, SOCKET_PORT, SUPERUSER

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class ServerStatus:
    """How the embedded server stands; ``settings`` are those in force, empty when it is stopped.

    ``socket`` and ``data`` are folders. ``port`` is the one on 127.0.0.1, where there is one, and
    ``password_file`` holds what a connection to it needs.
    """

    running: bool
    version: str | None
    pid: int | None
    socket: Path
    data: Path
    log: Path
    port: int | None
    password_file: Path | None
    settings: dict[str, str] = field(default_factory=dict)

    def url(self, database: str = DATABASE, *, password: bool = False) -> str:
        """Write libpq's URL of a database: over the port where there is one, else the socket.

        The password stands in it only where it is asked for.
        """
        if self.port is None:
            return self.socket_url(database)
        name, secret = quote(database, safe=""), ""
        if password and self.password_file is not None:
            secret = ":" + quote(self.password_file.read_text(encoding="ascii"), safe="")
        return f"postgresql://{SUPERUSER}{secret}@127.0.0.1:{self.port}/{name}"

    def socket_url(self, database: str = DATABASE) -> str:
        """Write libpq's URL over the socket, whose name carries the port where there is one."""
        name, folder = quote(database, safe=""), quote(str(self.socket), safe="")
        return f"postgresql://{SUPERUSER}@/{name}?host={folder}&port={self.port or SOCKET_PORT}"

"""The status of the embedded server, and the URLs of its databases."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import quote

from perfdata.server.cluster import DATABASE, SOCKET_PORT, SUPERUSER

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class ServerStatus:
    """The status of the embedded server; ``settings`` are those in effect, empty if it is stopped.

    ``socket`` and ``data`` are folders. ``port`` is that on 127.0.0.1, if any, and connections to
    it need the password in ``password_file``.
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
        """Return libpq's URL of a database: over the port if there is one, else over the socket.

        It holds the password only if ``password`` is true.
        """
        if self.port is None:
            return self.socket_url(database)
        name, secret = quote(database, safe=""), ""
        if password and self.password_file is not None:
            secret = ":" + quote(self.password_file.read_text(encoding="ascii"), safe="")
        return f"postgresql://{SUPERUSER}{secret}@127.0.0.1:{self.port}/{name}"

    def socket_url(self, database: str = DATABASE) -> str:
        """Return libpq's URL over the socket, with the port number that is in its name."""
        name, folder = quote(database, safe=""), quote(str(self.socket), safe="")
        return f"postgresql://{SUPERUSER}@/{name}?host={folder}&port={self.port or SOCKET_PORT}"

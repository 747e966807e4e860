"""A TCP forwarder to a server's socket, which may give a database another name, as poolers do."""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


@contextmanager
def forwarder(path: str, aliases: Mapping[str, str] | None = None) -> Iterator[int]:
    """Forward a port of 127.0.0.1, which is yielded, to a server's socket file.

    ``aliases`` are the server's databases by the names that clients give them. Clients ask neither
    for TLS nor for GSS.
    """
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=_accept, args=(listening, path, aliases or {}))
        thread.start()
        try:
            yield int(listening.getsockname()[1])
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()


def _accept(listening: socket.socket, path: str, aliases: Mapping[str, str]) -> None:
    while True:
        try:
            client, _ = listening.accept()
        except OSError:
            return
        server = socket.socket(socket.AF_UNIX)
        server.connect(path)
        server.sendall(_startup(client, aliases))
        for source, sink in ((client, server), (server, client)):
            threading.Thread(target=_pump, args=(source, sink)).start()


def _startup(client: socket.socket, aliases: Mapping[str, str]) -> bytes:
    """Read the message that a session begins with; write it with the server's database."""
    (length,) = struct.unpack("!i", client.recv(4, socket.MSG_WAITALL))
    body = client.recv(length - 4, socket.MSG_WAITALL)
    if body[:4] == struct.pack("!HH", 1234, 5678):  # a request to cancel
        return struct.pack("!i", length) + body
    words = body[4:].rstrip(b"\0").split(b"\0")
    named = dict(zip(words[::2], words[1::2], strict=True))
    alias = named[b"database"].decode()
    named[b"database"] = aliases.get(alias, alias).encode()
    written = b"".join(word + b"\0" for pair in named.items() for word in pair)
    body = body[:4] + written + b"\0"
    return struct.pack("!i", len(body) + 4) + body


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with source, suppress(OSError):
        while data := source.recv(1 << 16):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)

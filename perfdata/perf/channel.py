"""A channel between the two ends of a comparison: lines of JSON over a socket of the kernel's.

One end is the comparison, the other a pytest that it started. Each line is an object; the pytest
says ``event``, the comparison ``order``. They stand in perfdata.perf.rounds.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import socket

_BLOCK_BYTES = 1 << 16


class Channel:
    """One end of a channel."""

    def __init__(self, end: socket.socket) -> None:
        """Take a connected socket, which is closed with the channel."""
        self._end = end
        self._received = bytearray()

    def send(self, **message: Any) -> None:
        """Send a message; to an end that has closed it is lost, which ``receive`` tells."""
        line = json.dumps(message, ensure_ascii=False) + "\n"
        self._end.settimeout(None)
        try:
            self._end.sendall(line.encode())
        except (BrokenPipeError, ConnectionResetError):
            return

    def receive(self, timeout_s: float | None = None) -> dict[str, Any] | None:
        """Return the next message; None where the other end has closed.

        Raises TimeoutError where none comes in time.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while (end := self._received.find(b"\n")) < 0:
            left = None if deadline is None else max(deadline - time.monotonic(), 1e-3)
            self._end.settimeout(left)
            try:
                block = self._end.recv(_BLOCK_BYTES)
            except ConnectionResetError:
                return None
            if not block:
                return None
            self._received += block
        line = bytes(self._received[:end])
        del self._received[: end + 1]
        message: dict[str, Any] = json.loads(line)
        return message

    def close(self) -> None:
        """Close this end: the other finds nothing more to receive."""
        self._end.close()

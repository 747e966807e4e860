"""Peers: the pytest of each side of a comparison, started, heard, and ended."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from perfdata.errors import ComparisonError
from perfdata.perf.channel import Channel

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from perfdata.perf.sides import Side

_END_S = 5.0
_SHOWN_LINES = 4


class Peer:
    """A side's pytest. ``doing`` says, for errors, what it was last told to do."""

    def __init__(self, side: Side, channel: Channel, process: subprocess.Popen[bytes]) -> None:
        """Take the side, and what was started for it."""
        self.side = side
        self.doing = "while it collected the tests"
        self._channel = channel
        self._process = process

    def order(self, order: str, **said: Any) -> None:
        """Send an order; to a pytest that has ended it is lost, which ``expect`` tells."""
        self._channel.send(order=order, **said)

    def expect(self, *events: str, limit_s: float) -> dict[str, Any]:
        """Return the next event; ComparisonError where none comes, or another than expected."""
        try:
            message = self._channel.receive(limit_s)
        except TimeoutError:
            raise self._error(f"has not answered for {limit_s:.0f} s") from None
        if message is None:
            raise self._error(self._ending())
        if message["event"] not in events:
            raise self._error(f"said {message['event']!r}, not {' or '.join(events)}")
        return message

    def _ending(self) -> str:
        try:
            code = self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            return "has closed its end of the channel"
        return f"ended with exit code {code}" if code >= 0 else f"was ended by signal {-code}"

    def _error(self, what: str) -> ComparisonError:
        said = self.side.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        tail = " | ".join(line.strip() for line in said[-_SHOWN_LINES:] if line.strip())
        return ComparisonError(
            f"the pytest of {self.side.label} {what} {self.doing}; it said at last: "
            f"{tail or 'nothing'} (all of it: {kept_log(self.side)})"
        )


def kept_log(side: Side) -> Path:
    """Return where a side's log is kept until the next comparison."""
    return side.home.parent.parent / f"{side.name}.log"


@contextmanager
def running(side: Side, origin: Path, *, project: str, dataset: str) -> Iterator[Peer]:
    """Run a side's pytest for a block, and end it and whatever it started."""
    ours, theirs = socket.socketpair()
    other = None if side.tree == origin else str(origin)
    told = {"fd": theirs.fileno(), "tree": str(side.tree), "other": other, "project": project}
    channel = Channel(ours)
    with side.log.open("wb") as log:
        process = subprocess.Popen(
            side.command(dataset),
            cwd=side.root,
            env={**side.environment(origin), "PERFDATA_COMPARE": json.dumps(told)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            pass_fds=[theirs.fileno()],
            process_group=0,  # an interrupt is for us: we end it
        )
    theirs.close()
    try:
        yield Peer(side, channel, process)
    finally:
        channel.close()  # which a pytest that waits for an order takes for the end
        _end(process)
        shutil.copyfile(side.log, kept_log(side))


def _end(process: subprocess.Popen[bytes]) -> None:
    """Wait for a pytest, ask it to end, and make it: each for so long; then its own processes."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(_END_S)
    for signal_number in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is None:
            process.send_signal(signal_number)
            with suppress(subprocess.TimeoutExpired):
                process.wait(_END_S)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)

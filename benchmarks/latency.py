"""Restore over a slow connection: seconds, and how many round trips it takes.

    python benchmarks/latency.py [--name 100_offices] [--delay-ms 50] [--rounds 3]

A proxy on loopback holds every byte back for half the delay, each way, and counts how often the
client speaks after the server did. Connecting is counted too.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from perfdata import Settings, build_dataset, open_target, restore_snapshot
from perfdata.server.embedded import EmbeddedServer

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
CHUNK_BYTES = 1 << 16


class SlowProxy:
    """Passes connections on to a socket, late, and counts their round trips."""

    def __init__(self, socket: str, delay_s: float) -> None:
        """Take the server's socket and how long a round trip takes."""
        self._socket = socket
        self._half_s = delay_s / 2
        self._answered = True
        self.round_trips = 0
        self.port = 0

    async def serve(self, started: threading.Event) -> None:
        """Listen on a port of loopback until cancelled."""
        server = await asyncio.start_server(self._connection, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        started.set()
        async with server:
            await server.serve_forever()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_unix_connection(self._socket)
        self._answered = True
        async with asyncio.TaskGroup() as ways:
            ways.create_task(self._pass_on(reader, back, asking=True))
            ways.create_task(self._pass_on(there, writer, asking=False))

    async def _pass_on(
        self, source: asyncio.StreamReader, to: asyncio.StreamWriter, *, asking: bool
    ) -> None:
        waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as sending:
            sending.create_task(self._send(waiting, to))
            while data := await source.read(CHUNK_BYTES):
                if asking and self._answered:
                    self.round_trips += 1
                self._answered = not asking
                waiting.put_nowait((loop.time() + self._half_s, data))
            waiting.put_nowait((loop.time(), b""))

    async def _send(
        self, waiting: asyncio.Queue[tuple[float, bytes]], to: asyncio.StreamWriter
    ) -> None:
        loop = asyncio.get_running_loop()
        while (one := await waiting.get())[1]:
            await asyncio.sleep(one[0] - loop.time())
            to.write(one[1])
            await to.drain()
        to.close()


@contextmanager
def slow(conninfo: str, delay_s: float) -> Iterator[tuple[SlowProxy, str]]:
    """Give a proxy to a database behind a Unix socket, and the conninfo that goes through it."""
    parts = conninfo_to_dict(conninfo)
    proxy = SlowProxy(f"{parts['host']}/.s.PGSQL.{parts['port']}", delay_s)
    started, ended = threading.Event(), threading.Event()

    async def run() -> None:
        serving = asyncio.create_task(proxy.serve(started))
        await asyncio.to_thread(ended.wait)
        await asyncio.sleep(delay_s)  # the last words are still on their way
        serving.cancel()

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    started.wait()
    try:
        through = {"host": "127.0.0.1", "port": str(proxy.port)}
        yield proxy, make_conninfo(conninfo, **through)
    finally:
        ended.set()
        thread.join()


def main() -> None:
    """Build a dataset, restore it through the proxy, and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", default="100_offices")
    parser.add_argument("--delay-ms", type=float, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="perfdata-latency-") as home:
        settings = Settings.load(ROOT, {"PERFDATA_HOME": home})
        server = EmbeddedServer(settings)
        try:
            measure(settings, given.name, given.delay_ms / 1000, given.rounds)
        finally:
            server.stop()


def measure(settings: Settings, name: str, delay_s: float, rounds: int) -> None:
    """Print seconds and round trips of each restore, and the medians."""
    target = open_target(settings)
    build_dataset(target, name)
    found = []
    for _ in range(rounds):
        with slow(target.conninfo, delay_s) as (proxy, conninfo):
            began = time.perf_counter()
            restored = restore_snapshot(conninfo, name, settings=settings)
            found.append((time.perf_counter() - began, proxy.round_trips))
        print(f"{found[-1][0]:.2f} s, {found[-1][1]} round trips ({restored.strategy})")
    seconds = statistics.median(one[0] for one in found)
    trips = statistics.median(one[1] for one in found)
    print(f"{name} at {delay_s * 1000:g} ms a round trip: {seconds:.2f} s, {trips:g} round trips")


if __name__ == "__main__":
    main()

"""The hooks in a process that goes on: two servers on one port, and connections of one's own."""

from __future__ import annotations

import select
import socket
import socketserver
import subprocess
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING

import psycopg
import psycopg2
import pytest

from perfdata import ElsewhereError, RefusedError, driver_hooks
from perfdata.driver_hooks import confine, confined
from perfdata.postgres.connection import connect, make_engine

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.integration.conftest import Databases


class Forwarder(socketserver.ThreadingTCPServer):
    """Takes connections at an address, and forwards them to the embedded server's socket."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, address: str, port: int, path: str) -> None:
        super().__init__((address, port), _Forwarding)
        self.port = int(self.socket.getsockname()[1])
        self.path = path
        self.taken = 0
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


class _Forwarding(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        self.server.taken += 1  # type: ignore[attr-defined]
        with socket.socket(socket.AF_UNIX) as server:
            server.connect(self.server.path)  # type: ignore[attr-defined]
            others = {self.request: server, server: self.request}
            while True:
                for source in select.select(list(others), [], [])[0]:
                    data = source.recv(65536)
                    if not data:
                        return
                    others[source].sendall(data)


@pytest.fixture
def path(databases: Databases) -> str:
    parts = psycopg.conninfo.conninfo_to_dict(databases.url("postgres"))
    return f"{parts['host']}/.s.PGSQL.5432"


@pytest.fixture
def both(path: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Forwarder, Forwarder]]:
    """One port of 127.0.0.1 and of 127.0.0.2, at which two servers could be, under one name."""
    with ExitStack() as stack:
        first = stack.enter_context(Forwarder("127.0.0.1", 0, path))
        second = stack.enter_context(Forwarder("127.0.0.2", first.port, path))
        lookup = socket.getaddrinfo

        def getaddrinfo(host: str, port: str, *args: object, **kwargs: object) -> object:
            if host != "both.internal":
                return lookup(host, port, *args, **kwargs)  # type: ignore[arg-type]
            return [
                *lookup("127.0.0.1", port, type=socket.SOCK_STREAM),
                *lookup("127.0.0.2", port, type=socket.SOCK_STREAM),
            ]

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
        yield first, second


def test_of_a_names_two_servers_only_the_one_that_answers_is_the_target(
    both: tuple[Forwarder, Forwarder],
) -> None:
    rest = f"port={both[0].port} user=perfdata dbname=postgres"
    with confined("the code", f"host=both.internal {rest}"):
        psycopg.connect(f"host=both.internal {rest}").close()
        psycopg.connect(f"host=127.0.0.1 {rest}").close()
        psycopg2.connect(f"host=127.0.0.1 {rest}").close()
        for connector in (psycopg.connect, psycopg2.connect):
            with pytest.raises(ElsewhereError, match=r"127\.0\.0\.2"):
                connector(f"host=127.0.0.2 {rest}")
    assert both[1].taken == 0


def test_the_hooks_act_while_the_code_runs_and_at_no_other_time(databases: Databases) -> None:
    target, other = databases.make("template0"), databases.make("template0")

    def rows() -> Iterator[int]:
        yield 1
        psycopg.connect(other)

    confined_rows = confine(rows, "dataset some", target)
    assert next(confined_rows) == 1
    psycopg.connect(other).close()
    with pytest.raises(ElsewhereError, match=r"dataset some \(.*test_driver_hooks\.py, line"):
        next(confined_rows)
    psycopg2.connect(other).close()


def test_perfdatas_own_connections_pass_by_what_they_are_and_not_by_their_address(
    databases: Databases,
) -> None:
    target, other = databases.make("template0"), databases.make("template0")
    with confined("the code", target):
        connect(other).close()
        make_engine(other).connect().close()
        with pytest.raises(ElsewhereError):
            psycopg.connect(other)


def test_a_library_does_without_a_program_that_is_refused() -> None:
    """As it would without lscpu; what fails afterwards is not put down to that."""
    with confined("the code", None) as confinement:
        with pytest.raises(PermissionError, match="may not run the program lscpu") as caught:
            subprocess.run(["lscpu"], check=True)
        assert isinstance(caught.value, RefusedError)
    assert confinement.refused is None


def test_a_thread_of_the_code_is_refused_too(databases: Databases) -> None:
    target, other = databases.make("template0"), databases.make("template0")
    caught: list[BaseException] = []

    def reach() -> None:
        try:
            psycopg.connect(other)
        except RefusedError as error:
            caught.append(error)

    with confined("the code", target):
        thread = threading.Thread(target=reach)
        thread.start()
        thread.join()
    assert isinstance(caught[0], ElsewhereError)


def test_where_the_target_is_is_read_once_for_all_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dataset may yield a row at a time, and reading it takes longer than making a row."""
    asked = []

    def count(conninfo: str) -> dict[str, str]:
        asked.append(conninfo)
        return {"host": "127.0.0.1", "port": "1", "dbname": "x"}

    monkeypatch.setattr(driver_hooks, "effective_parameters", count)
    rows = confine(lambda: iter(range(100)), "dataset x", "host=127.0.0.1")
    assert list(rows) == list(range(100))
    assert len(asked) == 1

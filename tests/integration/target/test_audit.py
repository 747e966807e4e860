"""What a server's administrator sees of a restore: application_name, and a line in the log."""

from __future__ import annotations

import os
import pwd
import re
import socket
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from perfdata import Target, build_dataset, create_snapshot, restore_snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from perfdata import Settings
    from perfdata.progress import Event
    from perfdata.server.embedded import EmbeddedServer
    from tests.integration.conftest import Databases

NAME = "audited"
NAMES = "SELECT DISTINCT application_name FROM pg_stat_activity WHERE datname IS NOT NULL"
PERSON = f"operating system user {pwd.getpwuid(os.getuid()).pw_name} on {socket.gethostname()}"


@pytest.fixture
def url(loaded_url: Callable[[str], str], settings: Settings) -> Iterator[str]:
    """A database with a dataset in it, and a snapshot of that."""
    url = loaded_url("10_offices")
    create_snapshot(url, NAME, settings=settings, replace=True)
    yield url
    (settings.home / "snapshots" / f"{NAME}.json.zst").unlink()


class Watch:
    """Gathers what the server's log gets, and which applications are at work meanwhile."""

    def __init__(self, server: EmbeddedServer) -> None:
        self._log = server.status().log
        self._began = self._log.stat().st_size
        self._conninfo = server.conninfo("postgres")
        self.names: set[str] = set()

    def __call__(self, _event: Event) -> None:
        with psycopg.connect(self._conninfo, application_name="watch") as connection:
            self.names |= {row[0] for row in connection.execute(NAMES)}

    def lines(self) -> list[str]:
        text = self._log.read_bytes()[self._began :].decode()
        return re.findall(r"^[^\[]*\[\d+\] LOG:  perfdata (.*)$", text, flags=re.MULTILINE)


@pytest.fixture
def watch(server: EmbeddedServer) -> Watch:
    return Watch(server)


@pytest.mark.parametrize("fresh", [False, True])
def test_a_restore_is_named_while_it_runs_and_logged_when_it_is_done(
    url: str, settings: Settings, watch: Watch, *, fresh: bool
) -> None:
    done = restore_snapshot(url, NAME, fresh=fresh, settings=settings, report=watch)
    assert f"perfdata restore {NAME}" in watch.names
    (line,) = watch.lines()
    database = url.partition("?")[0].rpartition("/")[2]
    assert re.fullmatch(
        rf"restored snapshot {NAME} \(sha256 of its rows [0-9a-f]{{64}}\) into database {database}:"
        rf" 411 rows \({done.strategy}\), for {PERSON}",
        line,
    )


def test_a_callers_session_has_its_name_back(url: str, settings: Settings, watch: Watch) -> None:
    with psycopg.connect(url, application_name="the caller's") as connection:
        restore_snapshot(connection, NAME, settings=settings, report=watch)
        shown = connection.execute("SHOW application_name").fetchone()
        assert shown == ("the caller's",)
    assert f"perfdata restore {NAME}" in watch.names
    (line,) = watch.lines()
    assert "in the caller's transaction)" in line


def test_a_build_is_named_and_logged(
    database_url: str, server: EmbeddedServer, settings: Settings, watch: Watch
) -> None:
    database = database_url.partition("?")[0].rpartition("/")[2]
    target = Target(settings, server.conninfo(database), embedded=True)
    build_dataset(target, "10_offices", snapshot=False, report=watch)
    assert "perfdata build 10_offices" in watch.names
    (line,) = watch.lines()
    assert line == (
        f"built dataset 10_offices into database {database}: 411 rows (generated), for {PERSON}"
    )


def test_a_name_can_not_forge_a_line_of_the_log(
    url: str, databases: Databases, settings: Settings, watch: Watch
) -> None:
    forged = "it's\n2026-01-01 00:00:00 UTC [1] LOG:  perfdata 'E\\n %"
    named = databases.make(str(conninfo_to_dict(url)["dbname"]), forged)
    restore_snapshot(named, NAME, settings=settings)
    (line,) = watch.lines()
    assert "into database it's?2026-01-01 00:00:00 UTC [1] LOG:  perfdata 'E\\n %: 411 rows" in line
    assert line.endswith(f", for {PERSON}")


def test_a_server_without_plpgsql_has_no_line_and_no_error(
    url: str, settings: Settings, watch: Watch
) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP EXTENSION plpgsql CASCADE")
    restore_snapshot(url, NAME, settings=settings)
    assert watch.lines() == []

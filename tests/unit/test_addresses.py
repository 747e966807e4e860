from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from perfdata.addresses import Destination, destination_at, resolve
from perfdata.libpq import effective_parameters

if TYPE_CHECKING:
    from pathlib import Path

# What the names of these tests resolve to.
NAMES = {
    "localhost": ["127.0.0.1", "::1"],
    "db.internal": ["10.0.0.7"],
    "primary.internal": ["10.0.0.7"],
    "127.1": ["127.0.0.1"],
}


@pytest.fixture(autouse=True)
def names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names that resolve as here is said, and numbers as they do anywhere."""
    for name in ("PGHOST", "PGHOSTADDR", "PGPORT", "PGDATABASE", "PGUSER", "PGSERVICE"):
        monkeypatch.delenv(name, raising=False)

    def getaddrinfo(host: str, port: str, **_: object) -> list[tuple[object, ...]]:
        numeric = host.replace(".", "").isdigit() or ":" in host
        found = NAMES.get(host, [host] if numeric else [])
        if not found:
            raise socket.gaierror(host)
        return [(0, 0, 0, "", (number, int(port))) for number in found]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


def reach(conninfo: str) -> Destination:
    return resolve(effective_parameters(conninfo))


SAME = [
    ("host=db.internal dbname=a", "host=primary.internal dbname=a port=5432"),
    ("host=db.internal dbname=a", "postgresql://me@10.0.0.7/a"),
    ("host=db.internal dbname=a", "host=10.0.0.9 hostaddr=10.0.0.7 dbname=a"),
    ("host=127.0.0.1 dbname=a", "host=127.1 dbname=a"),
    ("host=127.0.0.1 dbname=a", "hostaddr=::ffff:127.0.0.1 dbname=a"),
    ("host=localhost dbname=a", "host=::1,127.0.0.1 dbname=a"),
    ("host=10.0.0.7,10.0.0.8 port=5433 dbname=a", "host=10.0.0.8,10.0.0.7 port=5433 dbname=a"),
    ("host=/run/none dbname=me", "host=/run/./none user=me"),
]
OTHER = [
    ("host=127.0.0.1 dbname=a", "host=localhost dbname=a"),  # which is ::1 too
    ("host=::1 dbname=a", "host=127.0.0.1 dbname=a"),
    ("host=localhost dbname=a", "host=127.0.0.1 dbname=a"),
    ("host=10.0.0.7,10.0.0.8 dbname=a", "host=10.0.0.8 dbname=a"),
    ("host=db.internal dbname=a", "host=db.internal dbname=b"),
    ("host=db.internal dbname=a", "host=db.internal port=5433 dbname=a"),
    ("host=db.internal dbname=a", "host=db.internal hostaddr=10.0.0.9 dbname=a"),
    ("host=10.0.0.7 dbname=a", "host=10.0.0.7,10.0.0.8 dbname=a"),
    ("host=10.0.0.7,10.0.0.8 port=5432,5433 dbname=a", "host=10.0.0.8 dbname=a"),
    ("host=/run/none dbname=a", "host=/run/nine dbname=a"),
    ("host=/run/none dbname=a", "host=127.0.0.1 dbname=a"),
    ("host=@none dbname=a", "host=@nine dbname=a"),
    ("host=no.such.name dbname=a", "host=nor.this.one dbname=a"),
    ("host=10.0.0.7 dbname=a", "service=a"),
    ("service=a", "service=a"),
    ("host=10.0.0.7 dbname=a", "service=a host=10.0.0.7 dbname=a"),
    ("host=10.0.0.7 dbname=a", "host=10.0.0.7 dbname=a,b"),
    ("host=10.0.0.7 port=5432 dbname=a", "host=10.0.0.7 port=5432,5433 dbname=a"),
]


@pytest.mark.parametrize(("target", "asked"), SAME)
def test_what_reaches_the_same_places_is_the_same(target: str, asked: str) -> None:
    assert reach(target).same(reach(asked))


@pytest.mark.parametrize(("target", "asked"), OTHER)
def test_what_could_reach_anything_else_is_another(target: str, asked: str) -> None:
    assert not reach(target).same(reach(asked))


def test_one_of_several_places_is_included_and_not_the_same() -> None:
    assert reach("host=localhost dbname=a").includes(reach("host=::1 dbname=a"))
    assert not reach("host=::1 dbname=a").includes(reach("host=localhost dbname=a"))


@pytest.mark.parametrize(
    "variables",
    [
        {"PGHOSTADDR": "10.0.0.9"},
        {"PGPORT": "5433"},
        {"PGDATABASE": "b"},
        {"PGUSER": "b"},
        {"PGSERVICE": "no_such_service"},
    ],
)
def test_the_environment_counts_as_libpq_has_it(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    target = reach("host=10.0.0.7 port=5432 user=a dbname=a")
    asked = {"PGPORT": "host=10.0.0.7 dbname=a", "PGDATABASE": "host=10.0.0.7 user=a"}
    conninfo = {**asked, "PGUSER": "host=10.0.0.7"}.get(next(iter(variables)))
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert not target.same(reach(conninfo or "host=10.0.0.7 dbname=a"))


def test_a_socket_counts_by_the_file_that_its_name_leads_to(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / ".s.PGSQL.5432").symlink_to(tmp_path / "real" / ".s.PGSQL.5432")
    target = reach(f"host={tmp_path}/real dbname=a")
    assert target.same(reach(f"host={tmp_path}/link dbname=a"))
    assert target.same(reach(f"host={tmp_path}/other dbname=a"))
    assert target.same(destination_at(f"{tmp_path}/link/.s.PGSQL.5432", "a", "me"))
    assert not target.same(reach(f"host={tmp_path}/other dbname=a port=5433"))


def test_where_no_host_is_named_every_folder_that_has_a_socket_counts(tmp_path: Path) -> None:
    """psycopg2 may have been built with another default than psycopg."""
    (tmp_path / ".s.PGSQL.5432").touch()
    parameters = effective_parameters("dbname=a")
    own = resolve(parameters)
    assert own.places is not None
    assert len(own.places) == 1
    both = resolve(parameters, [str(tmp_path), str(tmp_path / "none")])
    assert both.places == own.places | {f"{tmp_path}/.s.PGSQL.5432"}


def test_an_address_is_described_without_a_password() -> None:
    found = reach("postgresql://me:secret@db.internal:5433/a")
    assert found.described == "me@db.internal:5433/a (10.0.0.7:5433)"
    assert destination_at(("10.0.0.7", 5433), "a", "me").described == "me@10.0.0.7:5433/a"

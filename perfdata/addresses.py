"""Addresses: every place that a connection could reach, to be compared with the target's.

A host counts by what it resolves to: an IP address with its port, or the file of a Unix socket.
``localhost``, ``127.0.0.1`` and ``::1`` can be three servers, and two names can be one.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from functools import cache
from ipaddress import IPv6Address, ip_address
from itertools import zip_longest
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

# Where builds of libpq, and asyncpg, look for a socket when no host is named.
SOCKET_FOLDERS = ("/run/postgresql", "/var/run/postgresql", "/tmp")  # noqa: S108
_PORT = "5432"


@dataclass(frozen=True)
class Addresses:
    """What a connection could reach.

    ``places`` are ``IP:port`` and socket files; None where they are not known, as a service file
    names them. ``described`` is for people and has no password.
    """

    places: frozenset[str] | None
    database: str
    described: str

    def same(self, other: Addresses) -> bool:
        """Tell whether the other reaches one database at the very same places."""
        return self.includes(other) and other.includes(self)

    def includes(self, other: Addresses) -> bool:
        """Tell whether each place that the other could reach is one of these, in one database."""
        return (
            self.places is not None
            and other.places is not None
            and other.places <= self.places
            and self.database == other.database
        )


def effective_parameters(conninfo: str | Mapping[str, object]) -> dict[str, str]:
    """Return what libpq would go by: a conninfo or its parameters, and the present environment.

    Where a service is named, that alone: what its file says is not read here, and could name any
    server. Raises psycopg.ProgrammingError for what libpq can't read.
    """
    from psycopg.conninfo import conninfo_to_dict

    given = conninfo_to_dict(conninfo) if isinstance(conninfo, str) else conninfo
    parts = {key: str(value) for key, value in given.items() if value is not None}
    if service := parts.get("service") or os.environ.get("PGSERVICE"):
        return {"service": service}
    return _environment() | parts


def resolve(parameters: Mapping[str, str], folders: Iterable[str] = ()) -> Addresses:
    """Return what a connection with effective parameters could reach.

    ``folders`` are where else libpq may look for a socket where no host is named: they count where
    a socket is there.
    """
    if "service" in parameters:
        return Addresses(None, "", f"service {parameters['service']}")
    hosts = list(_hosts(parameters))
    places: set[str] = set()
    for host, number, port in hosts:
        places |= _places(number or host, port) if number or host else _default(port, folders)
    user = parameters.get("user", "")
    pairs = [(host or number, port) for host, number, port in hosts]
    return _addresses(pairs, places, parameters.get("dbname") or user or libpq_defaults()[1], user)


def address_of(address: str | tuple[str, int], database: str, user: str) -> Addresses:
    """Return what is reached at a socket's file, or at a host and port."""
    if isinstance(address, str):
        folder, _, port = address.rpartition("/.s.PGSQL.")
        return _addresses([(folder, port)], {os.path.realpath(address)}, database, user)
    host, port = address[0], str(address[1])
    return _addresses([(host, port)], _places(host, port), database, user)


def _environment() -> dict[str, str]:
    """Return the parameters that libpq takes from its variables in the environment."""
    from psycopg import pq

    found = {}
    for option in pq.Conninfo.get_defaults():
        value = os.environ.get(option.envvar.decode()) if option.envvar else None
        if value is not None:
            found[option.keyword.decode()] = value
    return found


def _hosts(parts: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """Yield host, hostaddr and port of each server in a list; one port holds for all."""
    names, numbers, ports = (parts.get(one, "").split(",") for one in ("host", "hostaddr", "port"))
    if len(ports) == 1:
        ports *= max(len(names), len(numbers))
    for name, number, port in zip_longest(names, numbers, ports, fillvalue=""):
        yield name, number, port.strip() or _PORT


def _addresses(
    hosts: Collection[tuple[str, str]], places: set[str], database: str, user: str
) -> Addresses:
    shown = ",".join(f"{host or 'local'}:{port}" for host, port in hosts)
    told = "" if places == {shown} else f" ({', '.join(sorted(places))})"
    at = f"{user}@" if user else ""
    return Addresses(frozenset(places), database, f"{at}{shown}/{database}{told}")


def _places(host: str, port: str) -> set[str]:
    """Resolve a host; one that has no address stands for itself."""
    if host.startswith("@"):  # a name in Linux's abstract namespace
        return {_socket_file(host, port)}
    if host.startswith("/"):
        return {os.path.realpath(_socket_file(host, port))}
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return {f"{host}:{port}"}
    return {_number(str(address[0]), address[1]) for *_, address in found}


def _number(text: str, port: object) -> str:
    number = ip_address(text)
    if isinstance(number, IPv6Address):
        mapped = number.ipv4_mapped
        return f"[{number}]:{port}" if mapped is None else f"{mapped}:{port}"
    return f"{number}:{port}"


def _default(port: str, folders: Iterable[str]) -> set[str]:
    """Return what is reached where no host is named: libpq's own folder, or localhost."""
    places = _places(libpq_defaults()[0] or "localhost", port)
    for folder in folders:
        if (file := os.path.realpath(_socket_file(folder, port))) and os.path.exists(file):  # noqa: PTH110  a socket
            places.add(file)
    return places


def _socket_file(folder: str, port: str) -> str:
    return f"{folder}/.s.PGSQL.{port}"


@cache
def libpq_defaults() -> tuple[str, str]:
    """Return libpq's own defaults for host and user, which it tells of a connection alone."""
    from psycopg import pq

    # A service goes before all that is said here; "" would be one of that name.
    service = os.environ.pop("PGSERVICE", None)
    try:
        # It gives up at the sslmode: after it worked these out, and before it connects.
        found = pq.PGconn.connect_start(b"host='' hostaddr='' port=5432 user='' sslmode=none")
    finally:
        if service is not None:
            os.environ["PGSERVICE"] = service
    return found.host.decode(), found.user.decode()

"""Server addresses: the one a client dialled, and all endpoints its parameters could lead to.

Destinations are compared by resolved endpoints (IP address and port, or socket file), not by
host name: ``localhost``, ``127.0.0.1`` and ``::1`` can be three servers, and two names can be one.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from itertools import zip_longest
from typing import TYPE_CHECKING

from perfdata.libpq import libpq_defaults

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    import psycopg

# Where asyncpg and the various builds of libpq look for a socket if no host is given.
SOCKET_FOLDERS = ("/run/postgresql", "/var/run/postgresql", "/tmp")  # noqa: S108
_DEFAULT_PORT = 5432
_SOCKET = ("/", "@")  # prefixes of a socket's folder and of Linux's abstract namespace
_LOCAL = "local"


@dataclass(frozen=True)
class Address:
    """A port and a host: a name, an IP address, or the real path of a socket's folder."""

    host: str
    port: int

    @property
    def is_socket(self) -> bool:
        """Whether this is a Unix socket."""
        return self.host.startswith(_SOCKET)

    @property
    def spellings(self) -> tuple[str, ...]:
        """The ways to write the address in ``allow``, the usual one first.

        A socket folder other than libpq's default is always written with its port.
        """
        name = self.host
        if self.is_socket:
            if name != default_folder():
                return (f"{name}:{self.port}",)
            name = _LOCAL
        elif ":" in name or name == _LOCAL:  # an IPv6 address, or a host named "local"
            name = f"[{name}]"
        with_port = f"{name}:{self.port}"
        return (name, with_port) if self.port == _DEFAULT_PORT else (with_port,)


@dataclass(frozen=True)
class Destination:
    """A database and the endpoints at which a connection could reach it.

    ``places`` are the endpoints, as ``IP:port`` or the path of a socket file; None if they are
    unknown because a service file names them. ``described`` is for messages, without a password.
    """

    places: frozenset[str] | None
    database: str
    described: str

    def same(self, other: Destination) -> bool:
        """Tell whether another destination has the same database and exactly the same endpoints."""
        return self.includes(other) and other.includes(self)

    def includes(self, other: Destination) -> bool:
        """Tell whether another destination has the same database and no other endpoints."""
        return (
            self.places is not None
            and other.places is not None
            and other.places <= self.places
            and self.database == other.database
        )


def dialled_address(info: psycopg.ConnectionInfo) -> Address:
    """Return the address of a psycopg connection, after libpq applied defaults and environment.

    If ``hostaddr`` was given, libpq ignored the host name; the name is then returned only if it
    resolves to that address.
    """
    host = info.host
    if not info.hostaddr:
        host = real_folder(host)
    elif "hostaddr" in info.get_parameters() and not _resolves_to(host, info.hostaddr):
        host = info.hostaddr
    return Address(host, info.port)


def real_folder(host: str) -> str:
    """Resolve symbolic links in a socket's folder; return a host name as it is."""
    return os.path.realpath(host) if host.startswith("/") else host


def default_folder() -> str:
    """Return the real path of libpq's compiled-in socket folder, or its default host.

    The environment is ignored.
    """
    return real_folder(libpq_defaults()[0])


def _resolves_to(name: str, address: str) -> bool:
    if name.startswith(_SOCKET):
        return False
    try:
        return address in {str(sockaddr[0]) for *_, sockaddr in socket.getaddrinfo(name, None)}
    except OSError:
        return False


def resolve(parameters: Mapping[str, str], folders: Iterable[str] = ()) -> Destination:
    """Return the destination of a connection with these effective parameters.

    ``folders`` are further places where a driver looks for a socket if no host is given; those
    in which a socket exists are included.
    """
    if "service" in parameters:
        return Destination(None, "", f"service {parameters['service']}")
    hosts = list(_hosts(parameters))
    places: set[str] = set()
    for host, hostaddr, port in hosts:
        if host or hostaddr:
            places |= _places(hostaddr or host, port)
        else:
            places |= _default_places(port, folders)
    user = parameters.get("user", "")
    pairs = [(host or hostaddr, port) for host, hostaddr, port in hosts]
    return _destination(
        pairs, places, parameters.get("dbname") or user or libpq_defaults()[1], user
    )


def destination_at(address: str | tuple[str, int], database: str, user: str) -> Destination:
    """Return the destination of a driver's address: a socket file, or a host and a port."""
    if isinstance(address, str):
        folder, _, port = address.rpartition("/.s.PGSQL.")
        return _destination([(folder, port)], {os.path.realpath(address)}, database, user)
    host, port = address[0], str(address[1])
    return _destination([(host, port)], _places(host, port), database, user)


def _hosts(parts: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """Yield host, hostaddr and port of each server; a single port applies to all."""
    hosts, hostaddrs, ports = (
        parts.get(keyword, "").split(",") for keyword in ("host", "hostaddr", "port")
    )
    if len(ports) == 1:
        ports *= max(len(hosts), len(hostaddrs))
    for host, hostaddr, port in zip_longest(hosts, hostaddrs, ports, fillvalue=""):
        yield host, hostaddr, port.strip() or str(_DEFAULT_PORT)


def _destination(
    hosts: Collection[tuple[str, str]], places: set[str], database: str, user: str
) -> Destination:
    shown = ",".join(f"{host or 'local'}:{port}" for host, port in hosts)
    resolved = "" if places == {shown} else f" ({', '.join(sorted(places))})"
    at = f"{user}@" if user else ""
    return Destination(frozenset(places), database, f"{at}{shown}/{database}{resolved}")


def _places(host: str, port: str) -> set[str]:
    """Resolve a host to its endpoints; a name that does not resolve is its own endpoint."""
    if host.startswith("@"):  # Linux's abstract namespace
        return {_socket_file(host, port)}
    if host.startswith("/"):
        return {os.path.realpath(_socket_file(host, port))}
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return {f"{host}:{port}"}
    return {_ip_and_port(str(sockaddr[0]), sockaddr[1]) for *_, sockaddr in addresses}


def _ip_and_port(text: str, port: object) -> str:
    ip = ip_address(text)
    if isinstance(ip, IPv6Address):
        mapped = ip.ipv4_mapped
        return f"[{ip}]:{port}" if mapped is None else f"{mapped}:{port}"
    return f"{ip}:{port}"


def _default_places(port: str, folders: Iterable[str]) -> set[str]:
    """Return the endpoints used if no host is given: libpq's socket folder, or localhost."""
    places = _places(libpq_defaults()[0] or "localhost", port)
    for folder in folders:
        if (file := os.path.realpath(_socket_file(folder, port))) and os.path.exists(file):  # noqa: PTH110  a socket
            places.add(file)
    return places


def _socket_file(folder: str, port: str) -> str:
    return f"{folder}/.s.PGSQL.{port}"

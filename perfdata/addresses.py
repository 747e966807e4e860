"""Addresses: where a connection goes, as its client dialled it, and every place it could reach.

A host counts by what it resolves to: an IP address with its port, or the file of a Unix socket.
``localhost``, ``127.0.0.1`` and ``::1`` can be three servers, and two names can be one.
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

# Where builds of libpq, and asyncpg, look for a socket when no host is named.
SOCKET_FOLDERS = ("/run/postgresql", "/var/run/postgresql", "/tmp")  # noqa: S108
_DEFAULT_PORT = 5432
_SOCKET = ("/", "@")  # how a folder begins, and a socket in Linux's abstract namespace
_LOCAL = "local"


@dataclass(frozen=True)
class Address:
    """A port and a host: a name, an address, or the real path of a socket's folder."""

    host: str
    port: int

    @property
    def is_socket(self) -> bool:
        """Whether it is a socket of this machine."""
        return self.host.startswith(_SOCKET)

    @property
    def spellings(self) -> tuple[str, ...]:
        """The ways to write it in ``allow``, the usual one first.

        A folder other than libpq's default always has its port, which ends it.
        """
        name = self.host
        if self.is_socket:
            if name != default_folder():
                return (f"{name}:{self.port}",)
            name = _LOCAL
        elif ":" in name or name == _LOCAL:  # an IPv6 address; a host that is called local
            name = f"[{name}]"
        with_port = f"{name}:{self.port}"
        return (name, with_port) if self.port == _DEFAULT_PORT else (with_port,)


@dataclass(frozen=True)
class Destination:
    """What a connection could reach.

    ``places`` are ``IP:port`` and socket files; None where they are not known, as a service file
    names them. ``described`` is for people and has no password.
    """

    places: frozenset[str] | None
    database: str
    described: str

    def same(self, other: Destination) -> bool:
        """Tell whether the other reaches one database at the very same places."""
        return self.includes(other) and other.includes(self)

    def includes(self, other: Destination) -> bool:
        """Tell whether each place that the other could reach is one of these, in one database."""
        return (
            self.places is not None
            and other.places is not None
            and other.places <= self.places
            and self.database == other.database
        )


def dialled_address(info: psycopg.ConnectionInfo) -> Address:
    """Return the address of a psycopg connection, with libpq's defaults and environment in it.

    A name counts only where it means the address that was reached: ``hostaddr`` goes elsewhere
    under any name, that of a folder too.
    """
    host = info.host
    if not info.hostaddr:
        host = real_folder(host)
    elif "hostaddr" in info.get_parameters() and not _means(host, info.hostaddr):
        host = info.hostaddr
    return Address(host, info.port)


def real_folder(host: str) -> str:
    """Return the folder that a socket's folder leads to."""
    return os.path.realpath(host) if host.startswith("/") else host


def default_folder() -> str:
    """Return the real path of the folder that libpq was compiled with, or a host where it has none.

    The environment does not count.
    """
    return real_folder(libpq_defaults()[0])


def _means(name: str, address: str) -> bool:
    if name.startswith(_SOCKET):
        return False
    try:
        return address in {str(found[4][0]) for found in socket.getaddrinfo(name, None)}
    except OSError:
        return False


def resolve(parameters: Mapping[str, str], folders: Iterable[str] = ()) -> Destination:
    """Return what a connection with effective parameters could reach.

    ``folders`` are where else libpq may look for a socket where no host is named: they count where
    a socket is there.
    """
    if "service" in parameters:
        return Destination(None, "", f"service {parameters['service']}")
    hosts = list(_hosts(parameters))
    places: set[str] = set()
    for host, number, port in hosts:
        places |= _places(number or host, port) if number or host else _default(port, folders)
    user = parameters.get("user", "")
    pairs = [(host or number, port) for host, number, port in hosts]
    return _addresses(pairs, places, parameters.get("dbname") or user or libpq_defaults()[1], user)


def destination_at(address: str | tuple[str, int], database: str, user: str) -> Destination:
    """Return what is reached at a socket's file, or at a host and port."""
    if isinstance(address, str):
        folder, _, port = address.rpartition("/.s.PGSQL.")
        return _addresses([(folder, port)], {os.path.realpath(address)}, database, user)
    host, port = address[0], str(address[1])
    return _addresses([(host, port)], _places(host, port), database, user)


def _hosts(parts: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """Yield host, hostaddr and port of each server in a list; one port holds for all."""
    names, numbers, ports = (parts.get(one, "").split(",") for one in ("host", "hostaddr", "port"))
    if len(ports) == 1:
        ports *= max(len(names), len(numbers))
    for name, number, port in zip_longest(names, numbers, ports, fillvalue=""):
        yield name, number, port.strip() or str(_DEFAULT_PORT)


def _addresses(
    hosts: Collection[tuple[str, str]], places: set[str], database: str, user: str
) -> Destination:
    shown = ",".join(f"{host or 'local'}:{port}" for host, port in hosts)
    told = "" if places == {shown} else f" ({', '.join(sorted(places))})"
    at = f"{user}@" if user else ""
    return Destination(frozenset(places), database, f"{at}{shown}/{database}{told}")


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

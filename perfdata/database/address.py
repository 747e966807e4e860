"""Addresses: where a connection goes, as its client dialled it."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from perfdata.addresses import libpq_defaults

if TYPE_CHECKING:
    import psycopg

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


def dialled(info: psycopg.ConnectionInfo) -> Address:
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

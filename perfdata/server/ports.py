"""The port of 127.0.0.1 that applications are given: chosen once, and kept."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from perfdata.errors import ServerError
from perfdata.server.cluster import write_file
from perfdata.server.postmaster import recorded_postmaster
from perfdata.server.sockets import PORTS, check_port

if TYPE_CHECKING:
    from perfdata.server.state import Home

# Below the ports that Linux (32768) and macOS (49152) give to outgoing connections, which would
# take a port that is kept now and then.
_CHOSEN = range(20_000, 32_000)
_TRIES = 100


def login(home: Home) -> tuple[int, str]:
    """Return the port of a home's server and its password; the first call chooses them.

    They stay the same, whether the server runs or not. Another port is chosen where another process
    has taken it. Raises ServerError and OSError.
    """
    port = _usable_port(home)
    if port is None or not home.password_file.exists():
        with home.locked():  # another process may have chosen meanwhile
            if (port := _usable_port(home)) is None:
                port = _choose()
                keep_port(home, port)
            return port, home.password()
    return port, home.password()


def keep_port(home: Home, port: int) -> None:
    """Record the port that the server listens on from now on."""
    write_file(home.port_file, str(port), 0o600)


def is_free(port: int) -> bool:
    """Tell whether the server could listen on a port of 127.0.0.1."""
    try:
        check_port(port)
    except ServerError:
        return False
    return True


def _choose() -> int:
    for _ in range(_TRIES):
        port = random.choice(_CHOSEN)  # noqa: S311  not a secret
        if is_free(port):
            return port
    raise ServerError(
        f"none of {_TRIES} ports of 127.0.0.1 from {_CHOSEN[0]} to {_CHOSEN[-1]} is free"
    )


def _usable_port(home: Home) -> int | None:
    """Return the recorded port, or else the last start's; None if another process has it."""
    state = home.read_state()
    try:
        port = int(home.port_file.read_text(encoding="ascii"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        port = state.port or 0
    if port not in PORTS:
        return None
    # The embedded server's own process may be in another container, where it has no id here.
    ours = port == state.port and bool(
        recorded_postmaster(home.cluster(state)) or home.socket(state).answers()
    )
    return port if ours or is_free(port) else None

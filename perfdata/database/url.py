"""A libpq conninfo as a URL: for psql and other tools, or for SQLAlchemy's drivers."""

from __future__ import annotations

import difflib
from urllib.parse import quote, urlencode

from perfdata.errors import ConfigError

DRIVERS = ("asyncpg", "psycopg", "psycopg2")
# asyncpg's names of libpq's parameters; it has none for the others that a URL may carry.
_ASYNCPG = {"sslmode": "ssl", "connect_timeout": "timeout"}
# Parameters that say nothing about where the database is.
_OURS = {"fallback_application_name", "client_encoding"}


def check_driver(driver: str) -> None:
    """Raise ConfigError where ``driver`` is neither empty nor one of DRIVERS."""
    if driver and driver not in DRIVERS:
        near = difflib.get_close_matches(driver, DRIVERS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(DRIVERS)}"
        raise ConfigError(f"--driver: no driver is named {driver!r}; {hint}")


def make_url(conninfo: str, driver: str = "") -> str:
    """Write a conninfo as a URL, everything percent-encoded, the password included.

    ``driver`` is one of DRIVERS for SQLAlchemy's form; empty for libpq's own. Raises ConfigError,
    without the value, for a parameter that the driver can't take.
    """
    from psycopg.conninfo import conninfo_to_dict

    parts = {
        key: str(value)
        for key, value in conninfo_to_dict(conninfo).items()
        if value not in (None, "") and key not in _OURS
    }
    user, password = parts.pop("user", ""), parts.pop("password", "")
    database = parts.pop("dbname", "")
    hosts = _hosts(parts.pop("host", ""), parts.pop("port", ""))
    netloc, query = _placed(hosts, driver)
    for key, value in parts.items():
        query.append((_parameter(key, driver), value))
    login = quote(user, safe="") + (f":{quote(password, safe='')}" if password else "")
    scheme = f"postgresql+{driver}" if driver else "postgresql"
    at = "@" if login else ""
    tail = f"?{urlencode(query, quote_via=quote)}" if query else ""
    return f"{scheme}://{login}{at}{netloc}/{quote(database, safe='')}{tail}"


def _hosts(host: str, port: str) -> list[tuple[str, str]]:
    """Pair hosts with ports as libpq does: one port holds for all."""
    names, ports = host.split(","), port.split(",")
    if len(ports) == 1:
        ports *= len(names)
    return list(zip(names, ports, strict=True))


def _placed(hosts: list[tuple[str, str]], driver: str) -> tuple[str, list[tuple[str, str]]]:
    """Put the hosts where they are understood: before the path, or in the query.

    A socket's folder goes into the query; of several hosts SQLAlchemy wants each there.
    """
    if driver and len(hosts) > 1:
        return "", [("host", f"{name}:{port}" if port else name) for name, port in hosts]
    if any(name.startswith(("/", "@")) for name, _ in hosts):
        query = [("host", ",".join(name for name, _ in hosts))]
        if any(port for _, port in hosts):
            query.append(("port", ",".join(port for _, port in hosts)))
        return "", query
    return ",".join(_address(name, port) for name, port in hosts), []


def _address(name: str, port: str) -> str:
    shown = f"[{name}]" if ":" in name else quote(name, safe="")
    return f"{shown}:{port}" if port else shown


def _parameter(key: str, driver: str) -> str:
    if driver != "asyncpg":
        return key
    if key not in _ASYNCPG:
        raise ConfigError(
            f"the database URL sets {key}, which asyncpg's URL can't carry: "
            f"pass it to the engine in connect_args, or use --driver psycopg"
        )
    return _ASYNCPG[key]

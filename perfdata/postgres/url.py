"""A libpq conninfo as a URL: for psql and other tools, or for SQLAlchemy's drivers."""

from __future__ import annotations

import difflib
from urllib.parse import parse_qsl, quote, urlencode

from perfdata.errors import ConfigError

DRIVERS = ("asyncpg", "psycopg", "psycopg2")
# asyncpg's names of libpq's parameters; it has none for the others that a URL may carry.
_ASYNCPG = {"sslmode": "ssl", "connect_timeout": "timeout"}
# Parameters that say nothing about where the database is.
_OURS = {"fallback_application_name", "client_encoding"}

# Query parameters that SQLAlchemy's drivers read and libpq does not know.
_DRIVER_PARAMETERS = {
    "async_fallback",
    "prepared_statement_cache_size",
    "prepared_statement_name_func",
    "command_timeout",
}
_SSL = {"true": "require", "false": "disable"}  # asyncpg takes both
PORT_MAX = 65_535


def describe(conninfo: str) -> str:
    """Say which database a conninfo means, as ``user@host:port/database``, with no password."""
    from psycopg.conninfo import conninfo_to_dict

    parts = conninfo_to_dict(conninfo)
    if "service" in parts:
        return f"service {parts['service']}"
    user = f"{parts['user']}@" if parts.get("user") else ""
    port = f":{parts['port']}" if parts.get("port") else ""
    return f"{user}{parts.get('host') or 'local'}{port}/{parts.get('dbname') or ''}"


def normalise_url(url: str) -> str:
    """Turn any URL or key=value string that libpq or SQLAlchemy takes into a libpq conninfo.

    Raises ConfigError, which never repeats the URL: it may hold a password.
    """
    import psycopg
    from psycopg.conninfo import conninfo_to_dict, make_conninfo

    scheme, separator, rest = url.partition("://")
    if separator:
        name, _, driver = scheme.partition("+")
        if not scheme.replace("+", "").isalnum():  # a password may hold "://" too
            raise unreadable_url()
        if name not in {"postgresql", "postgres"}:
            raise ConfigError(
                f"the database URL begins with {scheme!r}; perfdata takes postgresql:// "
                "(also with +psycopg, +asyncpg, …)"
            )
        # An unencoded @ or / ends the password early: its rest would pass for a host or a name.
        place, _, path = rest.partition("/")
        if place.count("@") > 1 or "@" in path.partition("?")[0]:
            raise unreadable_url()
        url = f"postgresql://{_without_driver(rest) if driver else rest}"
    try:
        parts = conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        raise unreadable_url() from None
    ports = [port for port in str(parts.get("port", "")).split(",") if port]
    # postgresql://user:password, without a host, has the password where a port is.
    if not all(port.isdecimal() and 0 < int(port) <= PORT_MAX for port in ports):
        raise unreadable_url()
    if "://" in str(parts.get("dbname", "")):  # a URL in the place of a name
        raise unreadable_url()
    return make_conninfo("", **parts)


def unreadable_url() -> ConfigError:
    """Make the error for a URL that can't be read, without the URL."""
    return ConfigError(
        "the database URL can't be read (it is not repeated here, as it may hold a password); "
        "special characters in a password must be percent-encoded: @ is %40, / is %2F, % is %25"
    )


def _without_driver(rest: str) -> str:
    """Turn what follows SQLAlchemy's scheme into what libpq takes; only the query differs."""
    place, _, query = rest.partition("?")
    pairs = parse_qsl(query, keep_blank_values=True)
    hosts = [value for key, value in pairs if key == "host"]
    kept = [
        ("sslmode", _SSL.get(value, value)) if key == "ssl" else (key, value)
        for key, value in pairs
        if key not in _DRIVER_PARAMETERS and not (key == "host" and len(hosts) > 1)
    ]
    if len(hosts) > 1:  # SQLAlchemy's way to name several: ?host=a:5432&host=b:5433
        kept.append(("host", ",".join(host.rpartition(":")[0] or host for host in hosts)))
        kept.append(("port", ",".join(_port(host) for host in hosts)))
    return f"{place}?{urlencode(kept, quote_via=quote)}"


def _port(host: str) -> str:
    name, _, port = host.rpartition(":")
    return port if name else ""


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

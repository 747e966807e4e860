"""Database URLs: read into a libpq conninfo, and written from one.

psycopg is imported inside functions, as in ``perfdata.libpq``.
"""

from __future__ import annotations

import difflib
from urllib.parse import parse_qsl, quote, urlencode

from perfdata.errors import ConfigError

DRIVERS = ("asyncpg", "psycopg", "psycopg2")
# asyncpg's names for libpq's parameters; its URLs take no other parameter of libpq.
_ASYNCPG = {"sslmode": "ssl", "connect_timeout": "timeout"}
# Parameters that perfdata adds itself, left out of URLs.
_OWN_PARAMETERS = {"fallback_application_name", "client_encoding"}

# Query parameters of SQLAlchemy's drivers that libpq does not know.
_DRIVER_PARAMETERS = {
    "async_fallback",
    "prepared_statement_cache_size",
    "prepared_statement_name_func",
    "command_timeout",
}
_SSL = {"true": "require", "false": "disable"}  # asyncpg's values, as libpq's sslmode
PORT_MAX = 65_535


def describe(conninfo: str) -> str:
    """Describe a conninfo's database as ``user@host:port/database``, without the password."""
    from psycopg.conninfo import conninfo_to_dict

    parts = conninfo_to_dict(conninfo)
    if "service" in parts:
        return f"service {parts['service']}"
    user = f"{parts['user']}@" if parts.get("user") else ""
    port = f":{parts['port']}" if parts.get("port") else ""
    return f"{user}{parts.get('host') or 'local'}{port}/{parts.get('dbname') or ''}"


def normalise_url(url: str) -> str:
    """Turn a URL or key=value string, as libpq or SQLAlchemy accept it, into a libpq conninfo.

    Raises ConfigError, which never repeats the URL, since that may contain a password.
    """
    import psycopg
    from psycopg.conninfo import conninfo_to_dict, make_conninfo

    scheme, separator, rest = url.partition("://")
    if separator:
        name, _, driver = scheme.partition("+")
        if not scheme.replace("+", "").isalnum():  # a password may contain "://" too
            raise unreadable_url()
        if name not in {"postgresql", "postgres"}:
            raise ConfigError(
                f"the database URL begins with {scheme!r}, but must begin with postgresql:// "
                "(+psycopg, +asyncpg and other drivers are allowed)"
            )
        # An unencoded @ or / in a password ends it early; the rest would be read as the host or
        # the database, and shown.
        place, _, path = rest.partition("/")
        if place.count("@") > 1 or "@" in path.partition("?")[0]:
            raise unreadable_url()
        url = f"postgresql://{_without_driver(rest) if driver else rest}"
    try:
        parts = conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        raise unreadable_url() from None
    ports = [port for port in str(parts.get("port", "")).split(",") if port]
    # In postgresql://user:password, without a host, the password is read as the port.
    if not all(port.isdecimal() and 0 < int(port) <= PORT_MAX for port in ports):
        raise unreadable_url()
    if "://" in str(parts.get("dbname", "")):  # a URL passed as the database's name
        raise unreadable_url()
    return make_conninfo("", **parts)


def unreadable_url() -> ConfigError:
    """Make the error for a URL that can't be parsed; it does not repeat the URL."""
    return ConfigError(
        "the database URL can't be parsed (it is not shown because it may contain a password); "
        "special characters in a password must be percent-encoded: @ is %40, / is %2F, % is %25"
    )


def _without_driver(rest: str) -> str:
    """Rewrite the query of a SQLAlchemy URL for libpq; ``rest`` is what follows ``://``."""
    place, _, query = rest.partition("?")
    pairs = parse_qsl(query, keep_blank_values=True)
    hosts = [value for key, value in pairs if key == "host"]
    kept = [
        ("sslmode", _SSL.get(value, value)) if key == "ssl" else (key, value)
        for key, value in pairs
        if key not in _DRIVER_PARAMETERS and not (key == "host" and len(hosts) > 1)
    ]
    if len(hosts) > 1:  # SQLAlchemy gives several hosts as ?host=a:5432&host=b:5433
        kept.append(("host", ",".join(host.rpartition(":")[0] or host for host in hosts)))
        kept.append(("port", ",".join(_port(host) for host in hosts)))
    return f"{place}?{urlencode(kept, quote_via=quote)}"


def _port(host: str) -> str:
    name, _, port = host.rpartition(":")
    return port if name else ""


def check_driver(driver: str) -> None:
    """Raise ConfigError if ``driver`` is neither empty nor one of DRIVERS."""
    if driver and driver not in DRIVERS:
        near = difflib.get_close_matches(driver, DRIVERS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"use one of {', '.join(DRIVERS)}"
        raise ConfigError(f"--driver: unknown driver {driver!r}; {hint}")


def make_url(conninfo: str, driver: str = "") -> str:
    """Write a conninfo as a URL, percent-encoded, including the password.

    ``driver`` is one of DRIVERS for a SQLAlchemy URL, or empty for a libpq URL. Raises ConfigError,
    which does not show the value, for a parameter that the driver does not support.
    """
    from psycopg.conninfo import conninfo_to_dict

    parts = {
        key: str(value)
        for key, value in conninfo_to_dict(conninfo).items()
        if value not in (None, "") and key not in _OWN_PARAMETERS
    }
    user, password = parts.pop("user", ""), parts.pop("password", "")
    database = parts.pop("dbname", "")
    hosts = _hosts(parts.pop("host", ""), parts.pop("port", ""))
    netloc, query = _netloc(hosts, driver)
    for key, value in parts.items():
        query.append((_parameter(key, driver), value))
    login = quote(user, safe="") + (f":{quote(password, safe='')}" if password else "")
    scheme = f"postgresql+{driver}" if driver else "postgresql"
    at = "@" if login else ""
    tail = f"?{urlencode(query, quote_via=quote)}" if query else ""
    return f"{scheme}://{login}{at}{netloc}/{quote(database, safe='')}{tail}"


def _hosts(host: str, port: str) -> list[tuple[str, str]]:
    """Pair hosts with ports as libpq does: a single port applies to all hosts."""
    names, ports = host.split(","), port.split(",")
    if len(ports) == 1:
        ports *= len(names)
    return list(zip(names, ports, strict=True))


def _netloc(hosts: list[tuple[str, str]], driver: str) -> tuple[str, list[tuple[str, str]]]:
    """Return the hosts as the URL's network location, or else as query parameters.

    The query is for socket folders, and for several hosts in a SQLAlchemy URL.
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
            f"the database URL sets {key}, which an asyncpg URL does not support: "
            "pass it to the engine in connect_args, or use --driver psycopg"
        )
    return _ASYNCPG[key]

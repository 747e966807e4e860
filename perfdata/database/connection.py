"""Connections: every form in which a caller may name a database, as one Link."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, LiteralString
from urllib.parse import parse_qsl, quote, urlencode

from perfdata.addresses import effective_parameters
from perfdata.database.link import Link, PsycopgLink
from perfdata.driver_hooks import own_connection
from perfdata.errors import ConfigError, ConnectError, PerfdataError, RefusedError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import psycopg
    import sqlalchemy
    from psycopg import sql

    Query = LiteralString | sql.SQL | sql.Composed

# Query parameters that SQLAlchemy's drivers read and libpq does not know.
_DRIVER_PARAMETERS = {
    "async_fallback",
    "prepared_statement_cache_size",
    "prepared_statement_name_func",
    "command_timeout",
}

_SECRETS = ("password", "sslpassword", "oauth_client_secret")
_PORT_MAX = 65_535
_SSL = {"true": "require", "false": "disable"}  # asyncpg takes both
_OURS: dict[str, Any] = {
    "autocommit": True,
    "prepare_threshold": None,
    "fallback_application_name": "perfdata",
    "client_encoding": "UTF8",
}


def connect(conninfo: str) -> psycopg.Connection[Any]:
    """Connect in autocommit mode, or raise ConnectError saying what was tried, no password."""
    import psycopg

    with _reasons(conninfo), own_connection():
        return psycopg.connect(conninfo, **_OURS)


def make_engine(conninfo: str) -> sqlalchemy.Engine:
    """Make a SQLAlchemy engine that connects as connect does and keeps no connection."""
    import psycopg
    import sqlalchemy

    def open_own() -> psycopg.Connection[Any]:
        with own_connection():
            return psycopg.connect(conninfo, fallback_application_name="perfdata")

    return sqlalchemy.create_engine(
        "postgresql+psycopg://", creator=open_own, poolclass=sqlalchemy.NullPool
    )


async def connect_async(conninfo: str) -> psycopg.AsyncConnection[Any]:
    """Connect in autocommit mode as connect does."""
    import psycopg

    with _reasons(conninfo), own_connection():
        return await psycopg.AsyncConnection.connect(conninfo, **_OURS)


@contextmanager
def _reasons(conninfo: str) -> Iterator[None]:
    import psycopg

    try:
        yield
    except psycopg.Error as error:
        reason = " ".join(str(error).split())
        raise ConnectError(f"can't connect to {describe(conninfo)}: {reason}") from error


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
            raise _unreadable()
        if name not in {"postgresql", "postgres"}:
            raise ConfigError(
                f"the database URL begins with {scheme!r}; perfdata takes postgresql:// "
                "(also with +psycopg, +asyncpg, …)"
            )
        # An unencoded @ or / ends the password early: its rest would pass for a host or a name.
        place, _, path = rest.partition("/")
        if place.count("@") > 1 or "@" in path.partition("?")[0]:
            raise _unreadable()
        url = f"postgresql://{_without_driver(rest) if driver else rest}"
    try:
        parts = conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        raise _unreadable() from None
    ports = [port for port in str(parts.get("port", "")).split(",") if port]
    # postgresql://user:password, without a host, has the password where a port is.
    if not all(port.isdecimal() and 0 < int(port) <= _PORT_MAX for port in ports):
        raise _unreadable()
    if "://" in str(parts.get("dbname", "")):  # a URL in the place of a name
        raise _unreadable()
    return make_conninfo("", **parts)


def _unreadable() -> ConfigError:
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


@contextmanager
def open_link(database: object) -> Iterator[Link]:
    """Open what a caller gave: a URL, a SQLAlchemy Engine, Connection or Session, or psycopg's.

    A connection that commits by itself is used as it is; in every other the caller's transaction
    is joined: nothing is committed. What is opened here is closed here.
    """
    import psycopg

    if isinstance(database, Link):
        yield database
    elif isinstance(database, str):
        with _closing(connect(normalise_url(database))) as connection:
            yield PsycopgLink(connection)
    elif isinstance(database, psycopg.Connection):
        link = PsycopgLink(database)
        with link.at_work():
            yield link
    else:
        with _open_sqlalchemy(database) as found, found.at_work():
            yield found


def whole_database(database: object) -> str:
    """Return the conninfo of what a caller gave, to do what no connection in it may do.

    A URL, or a SQLAlchemy Engine, whose idle connections are closed. Raises RefusedError for a
    connection or a session: it is itself in the database.
    """
    from sqlalchemy import Engine

    if isinstance(database, str):
        return normalise_url(database)
    if isinstance(database, Engine):
        with _open_sqlalchemy(database) as link:
            found = _conninfo(link)
        database.dispose()
        return found or normalise_url(database.url.render_as_string(hide_password=False))
    raise RefusedError(
        "refused, nothing was touched: a fresh database takes the place of the whole old one, "
        f"and a {type(database).__name__} is a connection in that; give a URL or an Engine"
    )


def database_in(conninfo: str) -> str:
    """Return the name of the database that a conninfo leads to; connect where it leaves that open.

    Raises ConnectError.
    """
    from psycopg.conninfo import conninfo_to_dict

    parts = conninfo_to_dict(conninfo)
    if "dbname" in parts and "service" not in parts:
        return str(parts["dbname"])
    with _closing(connect(conninfo)) as connection:
        return connection.info.dbname


def _conninfo(link: Link) -> str | None:
    """Return where a psycopg link is connected to, which an engine's URL may not tell."""
    from psycopg.conninfo import make_conninfo

    if not isinstance(link, PsycopgLink):
        return None
    info = link.connection.info
    return make_conninfo("", **{**info.get_parameters(), "password": info.password or None})


def explicit_conninfo(conninfo: str) -> str:
    """Write out what libpq takes from its environment, or from a service file.

    For a process that has neither. Raises ConnectError where a service can't be asked.
    """
    from psycopg.conninfo import conninfo_to_dict, make_conninfo

    parts = effective_parameters(conninfo)
    if "service" not in parts:
        return make_conninfo("", **parts)
    with _closing(connect(conninfo)) as connection:
        found = conninfo_to_dict(_conninfo(PsycopgLink(connection)) or "")
    named = {key: value for key, value in found.items() if not key.startswith("service")}
    return make_conninfo("", **named)


@contextmanager
def _closing(connection: psycopg.Connection[Any]) -> Iterator[psycopg.Connection[Any]]:
    try:
        yield connection
    finally:
        connection.close()


@contextmanager
def _open_sqlalchemy(database: object) -> Iterator[Link]:
    from sqlalchemy import Connection, Engine
    from sqlalchemy.exc import DBAPIError
    from sqlalchemy.orm import Session, scoped_session

    from perfdata.database.asynclink import link_within, synchronised

    if isinstance(database, Engine):
        # The engine's own connection: its URL alone may not tell where a creator goes.
        try:
            opened = database.connect()
        except (DBAPIError, OSError) as error:
            raise unreachable(database.url, error) from error
        with opened as connection:
            yield link_within(connection.execution_options(isolation_level="AUTOCOMMIT"))
    elif isinstance(database, (Session, scoped_session)):
        with synchronised(database) as link:
            yield link
    elif isinstance(database, Connection):
        yield link_within(database)
    else:
        raise ConfigError(
            "a database is a URL, a SQLAlchemy Engine, Connection or Session, or a psycopg "
            f"connection, not {type(database).__module__}.{type(database).__qualname__}"
        )


def unreachable(url: sqlalchemy.URL, error: Exception) -> PerfdataError:
    """Make the error for an engine that can't connect, with no password."""
    # SQLAlchemy takes what follows an unencoded @ for a host, and a password alone for a port.
    if "@" in f"{url.host} {url.database}" or (url.port or 0) > _PORT_MAX:
        return _unreadable()
    reason = " ".join(str(getattr(error, "orig", None) or error).split())
    shown = url.difference_update_query(_SECRETS).render_as_string(hide_password=True)
    return ConnectError(f"can't connect to {shown}: {reason}")


def first(values: Sequence[object], limit: int = 5) -> str:
    """List the first values for an error, and say how many more there are."""
    shown = ", ".join(str(value) for value in values[:limit])
    more = len(values) - limit
    return f"{shown} and {more:,} more" if more > 0 else shown

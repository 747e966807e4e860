"""Connections: every form in which a caller may name a database, as one Link."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, LiteralString
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from perfdata.database.link import Link, PsycopgLink
from perfdata.errors import ConfigError, ConnectError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import psycopg
    from psycopg import sql

    Query = LiteralString | sql.SQL | sql.Composed

# Query parameters that SQLAlchemy's drivers read and libpq does not know.
_DRIVER_PARAMETERS = {
    "async_fallback",
    "prepared_statement_cache_size",
    "prepared_statement_name_func",
    "command_timeout",
}

_OURS: dict[str, Any] = {
    "autocommit": True,
    "prepare_threshold": None,
    "fallback_application_name": "perfdata",
    "client_encoding": "UTF8",
}


def connect(conninfo: str) -> psycopg.Connection[Any]:
    """Connect in autocommit mode, or raise ConnectError saying what was tried, no password."""
    import psycopg

    with _reasons(conninfo):
        return psycopg.connect(conninfo, **_OURS)


async def connect_async(conninfo: str) -> psycopg.AsyncConnection[Any]:
    """Connect in autocommit mode as connect does."""
    import psycopg

    with _reasons(conninfo):
        return await psycopg.AsyncConnection.connect(conninfo, **_OURS)


@contextmanager
def _reasons(conninfo: str) -> Iterator[None]:
    import psycopg

    try:
        yield
    except psycopg.OperationalError as error:
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

    scheme, separator, _ = url.partition("://")
    if separator:
        name, _, driver = scheme.partition("+")
        if name not in {"postgresql", "postgres"}:
            raise ConfigError(
                f"the database URL begins with {scheme!r}; perfdata takes postgresql:// "
                "(also with +psycopg, +asyncpg, …)"
            )
        url = _without_driver(url) if driver else url
    try:
        return make_conninfo("", **conninfo_to_dict(url))
    except psycopg.ProgrammingError:
        raise ConfigError(
            "the database URL can't be read (it is not repeated here, as it may hold a password); "
            "special characters in a password must be percent-encoded"
        ) from None


def _without_driver(url: str) -> str:
    parts = urlsplit(url)
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    hosts = [value for key, value in pairs if key == "host"]
    query = [
        ("sslmode" if key == "ssl" else key, value)
        for key, value in pairs
        if key not in _DRIVER_PARAMETERS and not (key == "host" and len(hosts) > 1)
    ]
    if len(hosts) > 1:  # SQLAlchemy's way to name several: ?host=a:5432&host=b:5433
        query.append(("host", ",".join(host.rpartition(":")[0] or host for host in hosts)))
        query.append(("port", ",".join(_port(host) for host in hosts)))
    # Not urlunsplit: it drops the two slashes where there is no host.
    return f"postgresql://{parts.netloc}{parts.path}?{urlencode(query, quote_via=quote)}"


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
        yield PsycopgLink(database)
    else:
        with _open_sqlalchemy(database) as link:
            yield link


@contextmanager
def _closing(connection: psycopg.Connection[Any]) -> Iterator[psycopg.Connection[Any]]:
    try:
        yield connection
    finally:
        connection.close()


@contextmanager
def _open_sqlalchemy(database: object) -> Iterator[Link]:
    from sqlalchemy import Connection, Engine
    from sqlalchemy.orm import Session, scoped_session

    from perfdata.database.asynclink import link_within

    if isinstance(database, Engine):
        conninfo = normalise_url(database.url.render_as_string(hide_password=False))
        with _closing(connect(conninfo)) as connection:
            yield PsycopgLink(connection)
    elif isinstance(database, (Session, scoped_session)):
        yield link_within(database.connection())
    elif isinstance(database, Connection):
        yield link_within(database)
    else:
        raise ConfigError(
            "a database is a URL, a SQLAlchemy Engine, Connection or Session, or a psycopg "
            f"connection, not {type(database).__module__}.{type(database).__qualname__}"
        )


def first(values: Sequence[object], limit: int = 5) -> str:
    """List the first values for an error, and say how many more there are."""
    shown = ", ".join(str(value) for value in values[:limit])
    more = len(values) - limit
    return f"{shown} and {more:,} more" if more > 0 else shown

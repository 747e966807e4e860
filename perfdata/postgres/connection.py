"""Connecting: every form of database that callers may pass, opened as a Link."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from perfdata.driver_hooks import own_connection
from perfdata.errors import ConfigError, ConnectError, PerfdataError, RefusedError
from perfdata.libpq import SECRETS, effective_parameters
from perfdata.postgres.drivers import PsycopgLink
from perfdata.postgres.link import Link
from perfdata.postgres.url import PORT_MAX, describe, normalise_url, unreadable_url

if TYPE_CHECKING:
    from collections.abc import Iterator

    import sqlalchemy

_OPTIONS: dict[str, Any] = {
    "autocommit": True,
    "prepare_threshold": None,
    "fallback_application_name": "perfdata",
    "client_encoding": "UTF8",
}


def connect(conninfo: str) -> psycopg.Connection[Any]:
    """Connect in autocommit mode.

    Raises ConnectError, which names the database but no password.
    """
    with _connect_errors(conninfo), own_connection():
        return psycopg.connect(conninfo, **_OPTIONS)


def make_engine(conninfo: str) -> sqlalchemy.Engine:
    """Make a SQLAlchemy engine without a pool, for perfdata's own connections."""
    import sqlalchemy

    def open_own() -> psycopg.Connection[Any]:
        with own_connection():
            return psycopg.connect(conninfo, fallback_application_name="perfdata")

    return sqlalchemy.create_engine(
        "postgresql+psycopg://", creator=open_own, poolclass=sqlalchemy.NullPool
    )


async def connect_async(conninfo: str) -> psycopg.AsyncConnection[Any]:
    """Connect in autocommit mode, for asyncio; otherwise like ``connect``."""
    with _connect_errors(conninfo), own_connection():
        return await psycopg.AsyncConnection.connect(conninfo, **_OPTIONS)


@contextmanager
def _connect_errors(conninfo: str) -> Iterator[None]:
    try:
        yield
    except psycopg.Error as error:
        reason = " ".join(str(error).split())
        raise ConnectError(f"can't connect to {describe(conninfo)}: {reason}") from error


@contextmanager
def open_link(database: object) -> Iterator[Link]:
    """Open a URL, a SQLAlchemy Engine, Connection or Session, or a psycopg connection.

    An autocommit connection is used as it is. With any other, work joins the caller's transaction
    and is not committed. Only connections opened here are closed here. Raises ConnectError, and
    ConfigError for anything else than the above.
    """
    if isinstance(database, Link):
        yield database
    elif isinstance(database, str):
        with _closing(connect(normalise_url(database))) as connection:
            yield PsycopgLink(connection)
    elif isinstance(database, psycopg.Connection):
        joined = PsycopgLink(database)
        with joined.on_safe_path():
            yield joined
    else:
        with _open_sqlalchemy(database) as link, link.on_safe_path():
            yield link


def conninfo_of(database: object) -> str:
    """Return the conninfo of a URL or a SQLAlchemy Engine, so that the database can be replaced.

    An Engine's idle connections are closed. Raises RefusedError for a connection or a session:
    PostgreSQL replaces no database that somebody is connected to.
    """
    from sqlalchemy import Engine

    if isinstance(database, str):
        return normalise_url(database)
    if isinstance(database, Engine):
        with _open_sqlalchemy(database) as link:
            conninfo = _link_conninfo(link)
        database.dispose()
        return conninfo or normalise_url(database.url.render_as_string(hide_password=False))
    raise RefusedError(
        "refused, nothing was touched: a fresh restore replaces the whole database, and a "
        f"{type(database).__name__} keeps that in use; give a URL or an Engine"
    )


def database_name(conninfo: str) -> str:
    """Return the name of a conninfo's database; connect to ask if it gives none, or a service.

    Raises ConnectError.
    """
    parts = conninfo_to_dict(conninfo)
    if "dbname" in parts and "service" not in parts:
        return str(parts["dbname"])
    with _closing(connect(conninfo)) as connection:
        return connection.info.dbname


def _link_conninfo(link: Link) -> str | None:
    """Return the conninfo of a psycopg link's connection; None for other drivers."""
    if not isinstance(link, PsycopgLink):
        return None
    info = link.connection.info
    return make_conninfo("", **{**info.get_parameters(), "password": info.password or None})


def explicit_conninfo(conninfo: str) -> str:
    """Add to a conninfo what libpq takes from the environment or from a service file.

    The result is for a process that has neither. Raises ConnectError if the conninfo names a
    service and connecting, which is how its parameters are found, fails.
    """
    parts = effective_parameters(conninfo)
    if "service" not in parts:
        return make_conninfo("", **parts)
    with _closing(connect(conninfo)) as connection:
        found = conninfo_to_dict(_link_conninfo(PsycopgLink(connection)) or "")
    kept = {key: value for key, value in found.items() if not key.startswith("service")}
    return make_conninfo("", **kept)


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

    from perfdata.postgres.async_drivers import join_connection, join_session

    if isinstance(database, Engine):
        # Not a new connection to its URL: an engine's creator may connect elsewhere.
        try:
            opened = database.connect()
        except (DBAPIError, OSError) as error:
            raise connect_error(database.url, error) from error
        with opened as connection:
            yield join_connection(connection.execution_options(isolation_level="AUTOCOMMIT"))
    elif isinstance(database, (Session, scoped_session)):
        with join_session(database) as link:
            yield link
    elif isinstance(database, Connection):
        yield join_connection(database)
    else:
        raise ConfigError(
            "a database is a URL, a SQLAlchemy Engine, Connection or Session, or a psycopg "
            f"connection, not {type(database).__module__}.{type(database).__qualname__}"
        )


def connect_error(url: sqlalchemy.URL, error: Exception) -> PerfdataError:
    """Make the error for an engine that can't connect, without its password."""
    # If a password is not percent-encoded, SQLAlchemy reads parts of it as the host or the port.
    if "@" in f"{url.host} {url.database}" or (url.port or 0) > PORT_MAX:
        return unreadable_url()
    reason = " ".join(str(getattr(error, "orig", None) or error).split())
    shown = url.difference_update_query(SECRETS).render_as_string(hide_password=True)
    return ConnectError(f"can't connect to {shown}: {reason}")

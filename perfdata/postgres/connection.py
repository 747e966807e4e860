"""Connections: every form in which a caller may name a database, as one Link."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, LiteralString

from perfdata.driver_hooks import own_connection
from perfdata.errors import ConfigError, ConnectError, PerfdataError, RefusedError
from perfdata.libpq import SECRETS, effective_parameters
from perfdata.postgres.drivers import PsycopgLink
from perfdata.postgres.link import Link
from perfdata.postgres.url import PORT_MAX, describe, normalise_url, unreadable_url

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psycopg
    import sqlalchemy
    from psycopg import sql

    Query = LiteralString | sql.SQL | sql.Composed

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
        with link.on_safe_path():
            yield link
    else:
        with _open_sqlalchemy(database) as found, found.on_safe_path():
            yield found


def conninfo_of(database: object) -> str:
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


def database_name(conninfo: str) -> str:
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

    from perfdata.postgres.async_drivers import join_connection, join_session

    if isinstance(database, Engine):
        # The engine's own connection: its URL alone may not tell where a creator goes.
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
    """Make the error for an engine that can't connect, with no password."""
    # SQLAlchemy takes what follows an unencoded @ for a host, and a password alone for a port.
    if "@" in f"{url.host} {url.database}" or (url.port or 0) > PORT_MAX:
        return unreadable_url()
    reason = " ".join(str(getattr(error, "orig", None) or error).split())
    shown = url.difference_update_query(SECRETS).render_as_string(hide_password=True)
    return ConnectError(f"can't connect to {shown}: {reason}")

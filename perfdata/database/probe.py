"""Ask the server that answers on a socket who it is and how it is set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from perfdata.database.cluster import SUPERUSER
from perfdata.database.processes import listener_of
from perfdata.driver_hooks import own_connection
from perfdata.errors import ServerError

if TYPE_CHECKING:
    from pathlib import Path

    import psycopg

    from perfdata.database.link import Link

_TIMEOUT_S = 10
# What PG* variables of the environment would ask of a server that has none of it.
_PLAIN: dict[str, Any] = {
    "connect_timeout": _TIMEOUT_S,
    "channel_binding": "disable",
    "require_auth": "",
    "sslmode": "disable",
    "sslnegotiation": "postgres",
    "target_session_attrs": "any",
}
# What libpq and the server say where nobody takes connections, yet or any more.
_NOBODY = (
    "Connection refused",
    "No such file",
    "Not a directory",
    "server closed the connection",
    "is starting up",
    "is shutting down",
    "not yet accepting connections",
    "in recovery mode",
)
_SHOWN = (
    "fsync",
    "synchronous_commit",
    "full_page_writes",
    "wal_level",
    "autovacuum",
    "jit",
    "shared_buffers",
    "max_wal_size",
)
# to_jsonb, because the column of the locale's name is another in each version.
_QUESTION = """
SELECT (SELECT system_identifier FROM pg_catalog.pg_control_system()),
       split_part(pg_read_file('postmaster.pid'), E'\\n', 1)::int,
       split_part(current_setting('server_version'), ' ', 1),
       (SELECT json_object_agg(name, current_setting(name)) FROM unnest(%s::text[]) AS s (name)),
       json_build_object(
           'lc_collate', d.datcollate,
           'lc_ctype', d.datctype,
           'locale_provider',
           CASE d.datlocprovider WHEN 'b' THEN 'builtin' WHEN 'i' THEN 'icu' ELSE 'libc' END,
           'locale', coalesce(to_jsonb(d) ->> 'datlocale', d.datcollate),
           'server_encoding', pg_encoding_to_char(d.encoding))
FROM pg_database d WHERE d.datname = current_database()
"""


@dataclass(frozen=True)
class Answer:
    """What a running server says of itself; ``pid`` is its postmaster's."""

    identifier: int
    pid: int
    version: str
    settings: dict[str, str]


def make_conninfo(socket: Path, port: int, database: str) -> str:
    """Write the libpq string for a database behind a socket, whatever its name holds."""
    from psycopg.conninfo import make_conninfo as make

    # An empty hostaddr keeps PGHOSTADDR from sending us elsewhere.
    return make("", host=str(socket), hostaddr="", port=port, user=SUPERUSER, dbname=database)


def ask(socket: Path, port: int) -> Answer | None:
    """Ask the server on that socket; None where none takes connections (yet, or any more).

    Raises ServerError where one is there but can't answer.
    """
    name = f".s.PGSQL.{port}"
    if not (socket / name).exists():
        return None
    try:
        with _connect(socket, port) as connection:
            row = connection.execute(_QUESTION, [list(_SHOWN)]).fetchone()
    except ConnectionError:
        return None
    if row is None:
        return None
    identifier, pid, version, settings, locale = row
    # The server's own word on its process id is true only outside containers.
    return Answer(identifier, listener_of(socket / name) or pid, version, {**settings, **locale})


def set_password(socket: Path, port: int, password: str) -> None:
    """Give the superuser its password; the server and its log see only the hash."""
    from psycopg import sql

    with _connect(socket, port) as connection:
        hashed = connection.pgconn.encrypt_password(
            password.encode(), SUPERUSER.encode(), b"scram-sha-256"
        )
        query = sql.SQL("ALTER ROLE {} PASSWORD {}")
        connection.execute(query.format(sql.Identifier(SUPERUSER), sql.Literal(hashed.decode())))


def _connect(socket: Path, port: int) -> psycopg.Connection[Any]:
    """Connect to the database that every cluster has; ConnectionError where nobody answers."""
    import psycopg

    conninfo = make_conninfo(socket, port, "postgres")
    try:
        with own_connection():
            return psycopg.connect(conninfo, autocommit=True, **_PLAIN)
    except psycopg.errors.ConnectionTimeout as error:
        raise ServerError(
            f"the embedded server does not answer on {socket} within {_TIMEOUT_S} s"
        ) from error
    except psycopg.OperationalError as error:
        text = str(error)
        if "too many clients" in text or "connection slots are reserved" in text:
            raise ServerError(
                "the embedded server runs, but all its connections are taken: end some"
            ) from error
        if not any(sign in text for sign in _NOBODY):
            reason = " ".join(text.split())
            raise ServerError(f"the embedded server can't be asked: {reason}") from error
        raise ConnectionError(text) from error


def identifier_of(connection: Link | psycopg.Connection[Any]) -> int | None:
    """Return the system identifier of the server that a connection goes to; None: it won't say.

    On a psycopg connection a transaction is left open only where one was before.
    """
    import psycopg

    from perfdata.database.link import PsycopgLink

    if not isinstance(connection, psycopg.Connection):
        return connection.server_identifier
    idle = connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
    found = PsycopgLink(connection).server_identifier
    if idle and not connection.autocommit:
        connection.rollback()
    return found

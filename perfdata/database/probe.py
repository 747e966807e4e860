"""Ask the server that answers on a socket who it is and how it is set."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from perfdata.database.cluster import SUPERUSER
from perfdata.database.processes import listener_of
from perfdata.driver_hooks import own_connection
from perfdata.errors import ServerError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import psycopg

    from perfdata.postgres.link import Link

_TIMEOUT_S = 10
# Given in every conninfo, or of no effect on a server that asks for no password.
_NOT_NEUTRAL = {
    "service", "host", "port", "user", "dbname", "application_name", "password", "passfile",
}  # fmt: skip
# Where libpq has no default of its own, and takes no empty value for it. Options that are empty
# would be dropped from a URL.
_NEUTRAL = {
    "connect_timeout": "0",
    "max_protocol_version": "3.0",
    "min_protocol_version": "3.0",
    "options": " ",
    "sslcertmode": "disable",
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
    """Write the libpq string for a database behind a socket, whatever its name holds.

    What the environment says for other servers (PGOPTIONS, PGHOSTADDR, PGSSLMODE, …) is overruled.
    """
    from psycopg.conninfo import make_conninfo as make

    place = {"host": str(socket), "port": str(port), "user": SUPERUSER, "dbname": database}
    return make("", **place, **_neutral_parameters())


def _neutral_parameters() -> dict[str, str]:
    """State each parameter that libpq would take from a variable that is set, or from a service."""
    from psycopg import pq

    service = "PGSERVICE" in os.environ
    found = {}
    for parameter in pq.Conninfo.get_defaults():
        name, variable = parameter.keyword.decode(), (parameter.envvar or b"").decode()
        if name not in _NOT_NEUTRAL and variable and (service or variable in os.environ):
            found[name] = _NEUTRAL.get(name, (parameter.compiled or b"").decode())
    return found


def ask(socket: Path, port: int) -> Answer | None:
    """Ask the server on that socket; None where none takes connections (yet, or any more).

    Raises ServerError where one is there but can't answer.
    """
    name = f".s.PGSQL.{port}"
    if not (socket / name).exists():
        return None
    try:
        with _connected(socket, port) as connection:
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

    with _connected(socket, port) as connection:
        hashed = connection.pgconn.encrypt_password(
            password.encode(), SUPERUSER.encode(), b"scram-sha-256"
        )
        query = sql.SQL("ALTER ROLE {} PASSWORD {}")
        connection.execute(query.format(sql.Identifier(SUPERUSER), sql.Literal(hashed.decode())))


@contextmanager
def _connected(socket: Path, port: int) -> Iterator[psycopg.Connection[Any]]:
    """Connect to the database that every cluster has; ConnectionError where nobody answers.

    Every other error, also of the block, is raised as a ServerError.
    """
    import psycopg

    conninfo = make_conninfo(socket, port, "postgres")
    options: dict[str, Any] = {"autocommit": True, "connect_timeout": _TIMEOUT_S}
    try:
        with own_connection():
            connection = psycopg.connect(conninfo, **options)
        with connection:
            yield connection
    except psycopg.errors.ConnectionTimeout as error:
        raise ServerError(
            f"the embedded server does not answer on {socket} within {_TIMEOUT_S} s"
        ) from error
    except psycopg.Error as error:
        text = str(error)
        if "too many clients" in text or "connection slots are reserved" in text:
            raise ServerError(
                "the embedded server runs, but all its connections are taken: end some"
            ) from error
        if not any(sign in text for sign in _NOBODY):
            reason = " ".join(text.split())
            remedy = "; unset PGSERVICE" if "PGSERVICE" in os.environ else ""
            raise ServerError(f"the embedded server can't be asked: {reason}{remedy}") from error
        raise ConnectionError(text) from error


def identifier_of(connection: Link | psycopg.Connection[Any]) -> int | None:
    """Return the system identifier of the server that a connection goes to; None: it won't say.

    On a psycopg connection a transaction is left open only where one was before.
    """
    import psycopg

    from perfdata.postgres.drivers import PsycopgLink

    if not isinstance(connection, psycopg.Connection):
        return connection.server_identifier
    idle = connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
    found = PsycopgLink(connection).server_identifier
    if idle and not connection.autocommit:
        connection.rollback()
    return found

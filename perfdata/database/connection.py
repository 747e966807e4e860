"""Connections: every form in which a caller may name a database, as one Link."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, LiteralString
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

from psycopg.pq import TransactionStatus

from perfdata.errors import ConfigError, ConnectError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import psycopg
    from psycopg import sql
    from psycopg.abc import Params

    Query = LiteralString | sql.SQL | sql.Composed

# What decides how a value is written and read as text, and how long a statement may take
# (POSTGRES.md found each of them changing data or counts). Names a server does not know are left.
PINNED = {
    "client_encoding": "UTF8",
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "extra_float_digits": "3",
    "bytea_output": "hex",
    "lc_monetary": "C",
    "array_nulls": "on",
    "xmloption": "content",
    "row_security": "off",
    "standard_conforming_strings": "on",
    "synchronize_seqscans": "off",
    "max_parallel_workers_per_gather": "0",
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "transaction_timeout": "0",
}
# Query parameters that SQLAlchemy's drivers read and libpq does not know.
_DRIVER_PARAMETERS = {
    "async_fallback",
    "prepared_statement_cache_size",
    "prepared_statement_name_func",
    "command_timeout",
}


@dataclass(frozen=True)
class Link:
    """A psycopg connection; ``joined`` when its open transaction belongs to the caller."""

    connection: psycopg.Connection[Any]
    joined: bool

    def rows(self, query: Query, params: Params | None = None) -> list[tuple[Any, ...]]:
        """Run a query, never prepared, and return all its rows."""
        with self.cursor() as cursor:
            return cursor.execute(query, params, prepare=False).fetchall()

    def value(self, query: Query, params: Params | None = None) -> Any:
        """Run a query and return the first column of its first row."""
        return self.rows(query, params)[0][0]

    def execute(self, query: Query, params: Params | None = None) -> int:
        """Run a statement, never prepared, and return the number of rows it touched."""
        with self.cursor() as cursor:
            return cursor.execute(query, params, prepare=False).rowcount

    def cursor(self) -> psycopg.Cursor[tuple[Any, ...]]:
        """Make a plain client-side cursor, whatever factories the caller's connection has."""
        import psycopg
        from psycopg.rows import tuple_row

        return psycopg.Cursor(self.connection, row_factory=tuple_row)

    @contextmanager
    def transaction(
        self, settings: Mapping[str, str] | None = None, *, reading: bool = False
    ) -> Iterator[None]:
        """Run a block in a transaction (in a savepoint where one is open) with settings pinned.

        ``settings`` go over PINNED. An outer transaction has its own back afterwards.
        ``reading`` makes a transaction of our own read only and all of one moment.
        """
        nested = self.connection.info.transaction_status != TransactionStatus.IDLE
        wanted = {**PINNED, **(settings or {})}
        with self.connection.transaction():
            if reading and not nested:
                self.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            before = self._set(wanted)
            yield
            if nested:
                self._set(before)

    def _set(self, wanted: Mapping[str, str]) -> dict[str, str]:
        """Set what the server knows of ``wanted`` until the transaction ends; return the old."""
        known = self.rows(
            "SELECT s.name, s.setting FROM pg_settings s WHERE lower(s.name) = ANY (%s)",
            ([name.lower() for name in wanted],),
        )
        old = dict(known)
        lower = {name.lower(): value for name, value in wanted.items()}
        self.rows(
            "SELECT set_config(n, v, true) FROM unnest(%s::text[], %s::text[]) AS s (n, v)",
            (list(old), [lower[name.lower()] for name in old]),
        )
        return old


def connect(conninfo: str) -> psycopg.Connection[Any]:
    """Connect in autocommit mode, or raise ConnectError saying what was tried, no password."""
    import psycopg

    try:
        return psycopg.connect(
            conninfo,
            autocommit=True,
            prepare_threshold=None,
            fallback_application_name="perfdata",
            client_encoding="UTF8",
        )
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
    return urlunsplit(("postgresql", parts.netloc, parts.path, urlencode(query, quote_via=quote), ""))


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
            yield Link(connection, joined=False)
    elif isinstance(database, psycopg.Connection):
        yield _joined(database)
    else:
        with _open_sqlalchemy(database) as link:
            yield link


@contextmanager
def _closing(connection: psycopg.Connection[Any]) -> Iterator[psycopg.Connection[Any]]:
    try:
        yield connection
    finally:
        connection.close()


def _joined(connection: psycopg.Connection[Any]) -> Link:
    idle = connection.info.transaction_status == TransactionStatus.IDLE
    return Link(connection, joined=not (connection.autocommit and idle))


@contextmanager
def _open_sqlalchemy(database: object) -> Iterator[Link]:
    from sqlalchemy import Connection, Engine
    from sqlalchemy.orm import Session, scoped_session

    if isinstance(database, Engine):
        conninfo = normalise_url(database.url.render_as_string(hide_password=False))
        with _closing(connect(conninfo)) as connection:
            yield Link(connection, joined=False)
    elif isinstance(database, (Session, scoped_session)):
        yield _joined(_driver_connection(database.connection()))
    elif isinstance(database, Connection):
        yield _joined(_driver_connection(database))
    else:
        raise ConfigError(
            "a database is a URL, a SQLAlchemy Engine, Connection or Session, or a psycopg "
            f"connection, not {type(database).__module__}.{type(database).__qualname__}"
        )


def _driver_connection(connection: Any) -> psycopg.Connection[Any]:
    import psycopg

    # Begins the transaction that SQLAlchemy would begin with its first statement.
    connection.exec_driver_sql("SELECT 1")
    found = connection.connection.driver_connection
    if not isinstance(found, psycopg.Connection):
        raise ConfigError(
            f"this SQLAlchemy connection is driven by {type(found).__module__}; to join its "
            "transaction perfdata needs psycopg 3 (postgresql+psycopg://), else pass a URL"
        )
    return found


def first(values: Sequence[object], limit: int = 5) -> str:
    """List the first values for an error, and say how many more there are."""
    shown = ", ".join(str(value) for value in values[:limit])
    more = len(values) - limit
    return f"{shown} and {more:,} more" if more > 0 else shown


def server_said(error: psycopg.Error) -> str:
    """Put a server's refusal, after which everything was rolled back, into one line."""
    said = [error.diag.message_primary or str(error), error.diag.message_detail]
    context = (error.diag.context or "").splitlines()[:1]
    text = "; ".join(part for part in (*said, *context) if part)
    return f"the server refused: {text}; everything was rolled back"

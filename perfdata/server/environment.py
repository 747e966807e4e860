"""The variables that an application reads: the setting ``environment`` with the target's address.

On the embedded server the address is always a port of 127.0.0.1 and a password, as no URL of a
socket is read alike by pydantic, SQLAlchemy, psycopg and asyncpg. Both are known before the server
runs, because a project may read its variables when it is imported.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import quote

from perfdata.errors import ConfigError
from perfdata.passwords import STARS, without_passwords
from perfdata.server.cluster import DATABASE, SUPERUSER
from perfdata.server.ports import login
from perfdata.server.state import Home

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from perfdata.config import Settings

_LOOPBACK = "127.0.0.1"
_PORT = "5432"
# What libpq's variables may add to a URL.
_ADDRESS = ("host", "hostaddr", "port", "user", "password", "dbname")


@dataclass(frozen=True)
class Variables:
    """The variables of an application for one database; never print them.

    ``loopback`` is the URL of a database of the embedded server as the variables give it, None for
    any other: perfdata itself reaches that database by a socket. ``masked`` are the values with
    stars in place of ``password``.
    """

    values: Mapping[str, str] = field(repr=False, default_factory=dict)
    loopback: str | None = field(repr=False, default=None)
    password: str = field(repr=False, default="")
    masked: Mapping[str, str] = field(repr=False, default_factory=dict)

    def shown(self) -> dict[str, str]:
        """Return the values for people, without passwords."""
        values = self.masked or self.values
        return {name: without_passwords(value) for name, value in values.items()}

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Set them in this process's environment for a block."""
        before = {name: os.environ.get(name) for name in self.values}
        os.environ.update(self.values)
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value


def application_variables(settings: Settings, conninfo: str | None = None) -> Variables:
    """Return the variables that ``environment`` sets for a database.

    Without a conninfo it is the database of the settings, whether the embedded server runs or not.
    Raises ConfigError for a database URL that can't be read or names a service, ServerError where
    the home can't be written.
    """
    if not settings.gives_address:
        return Variables({name: value.format() for name, value in settings.environment.items()})
    database = _embedded_database(settings, conninfo)
    address = _given(settings, conninfo) if database is None else _embedded(settings, database)
    values = {name: value.format(**address) for name, value in settings.environment.items()}
    loopback = None if database is None else address["url"]
    hidden = address | {"url": without_passwords(address["url"])}
    hidden |= {"password": STARS} if address["password"] else {}
    masked = {name: value.format(**hidden) for name, value in settings.environment.items()}
    return Variables(values, loopback, address["password"], masked)


def _embedded_database(settings: Settings, conninfo: str | None) -> str | None:
    """Return the name of a conninfo's database, None unless it is on the embedded server."""
    if settings.database_url is not None:
        return None
    if conninfo is None:
        return DATABASE
    from psycopg.conninfo import conninfo_to_dict

    home, parts = Home(settings), conninfo_to_dict(conninfo)
    ours = parts.get("host") == str(home.socket(home.read_state()).folder)
    return str(parts.get("dbname")) if ours else None


def _embedded(settings: Settings, database: str) -> dict[str, str]:
    home = Home(settings)
    try:
        port, password = login(home)
    except OSError as error:
        raise home.explain(error) from error
    user = f"{SUPERUSER}:{quote(password, safe='')}"
    return {
        "url": f"postgresql://{user}@{_LOOPBACK}:{port}/{quote(database, safe='')}",
        "host": _LOOPBACK,
        "port": str(port),
        "user": SUPERUSER,
        "password": password,
        "database": database,
    }


def _given(settings: Settings, conninfo: str | None) -> dict[str, str]:
    from psycopg.conninfo import conninfo_to_dict, make_conninfo

    from perfdata.libpq import effective_parameters, libpq_defaults
    from perfdata.postgres.url import make_url, normalise_url

    given = conninfo or normalise_url(settings.database_url or "")
    parts = effective_parameters(given)
    if "service" in parts:
        raise ConfigError(
            f"[tool.perfdata] environment needs the database's address, and service "
            f"{parts['service']} does not show it: write host, port and database into "
            "PERFDATA_DATABASE_URL"
        )
    address = {name: parts[name] for name in _ADDRESS if name in parts}
    user = parts.get("user") or libpq_defaults()[1]
    return {
        "url": make_url(make_conninfo("", **{**conninfo_to_dict(given), **address})),
        "host": parts.get("host") or parts.get("hostaddr") or libpq_defaults()[0],
        "port": parts.get("port") or _PORT,
        "user": user,
        "password": parts.get("password", ""),
        "database": parts.get("dbname") or user,
    }

"""libpq's parameters: where they come from besides a conninfo, and their defaults.

psycopg is imported inside functions: importing it takes 0.1 s, and commands that do not connect
never need it.
"""

from __future__ import annotations

import os
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

# Parameters whose values are never shown.
SECRETS = ("password", "sslpassword", "oauth_client_secret")
# Variables that libpq sends as session settings; no conninfo parameter overrides them.
SESSION_VARIABLES = ("PGDATESTYLE", "PGGEQO", "PGTZ")
# Variables that tell libpq where its own files are; no conninfo parameter overrides them either.
_FILE_VARIABLES = ("PGLOCALEDIR", "PGSERVICEFILE", "PGSYSCONFDIR")


def parameter_variables() -> dict[str, str]:
    """Map each parameter that has an environment variable to that variable's name."""
    from psycopg import pq

    return {
        option.keyword.decode(): option.envvar.decode()
        for option in pq.Conninfo.get_defaults()
        if option.envvar
    }


def clear_environment() -> None:
    """Remove every variable that libpq reads from this process's environment."""
    for variable in _variables():
        os.environ.pop(variable, None)


def program_environment(conninfo: str) -> dict[str, str]:
    """Return this process's environment with libpq's variables for one database, and no others."""
    from psycopg.conninfo import conninfo_to_dict

    variables = parameter_variables()
    given = {
        variables[key]: str(value)
        for key, value in conninfo_to_dict(conninfo).items()
        if key in variables
    }
    others = {name: value for name, value in os.environ.items() if name not in _variables()}
    return others | given


def _variables() -> set[str]:
    return {*SESSION_VARIABLES, *_FILE_VARIABLES, *parameter_variables().values()}


def effective_parameters(conninfo: str | Mapping[str, object]) -> dict[str, str]:
    """Return the parameters that libpq would use, from a conninfo and the environment.

    If a service is named, only the service is returned: its file is not read here and may name any
    server.
    Raises psycopg.ProgrammingError if libpq can't parse the conninfo.
    """
    from psycopg.conninfo import conninfo_to_dict

    given = conninfo_to_dict(conninfo) if isinstance(conninfo, str) else conninfo
    parts = {key: str(value) for key, value in given.items() if value is not None}
    if service := parts.get("service") or os.environ.get("PGSERVICE"):
        return {"service": service}
    defaults = {
        name: os.environ[variable]
        for name, variable in parameter_variables().items()
        if variable in os.environ
    }
    return defaults | parts


@cache
def libpq_defaults() -> tuple[str, str]:
    """Return libpq's built-in defaults for host and user.

    libpq exposes them only through a connection object.
    """
    from psycopg import pq

    # A service would override the empty values below, and PGSERVICE="" names one too.
    service = os.environ.pop("PGSERVICE", None)
    try:
        # The invalid sslmode makes libpq stop after it has set the defaults, before it connects.
        connection = pq.PGconn.connect_start(b"host='' hostaddr='' port=5432 user='' sslmode=none")
    finally:
        if service is not None:
            os.environ["PGSERVICE"] = service
    return connection.host.decode(), connection.user.decode()

"""What libpq does with a conninfo: the parameters that it knows, its environment, its defaults.

psycopg is imported where it is used, as it takes 0.1 s, and commands that connect to nothing need
no driver.
"""

from __future__ import annotations

import os
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

SECRETS = ("password", "sslpassword", "oauth_client_secret")
# Variables that become settings of the session: no parameter of a conninfo overrules them.
SESSION_VARIABLES = ("PGDATESTYLE", "PGGEQO", "PGTZ")
# The other variables that belong to no parameter: where libpq looks for its files.
_FILE_VARIABLES = ("PGLOCALEDIR", "PGSERVICEFILE", "PGSYSCONFDIR")


def parameter_variables() -> dict[str, str]:
    """Return the parameters that have a variable in the environment, with its name."""
    from psycopg import pq

    return {
        option.keyword.decode(): option.envvar.decode()
        for option in pq.Conninfo.get_defaults()
        if option.envvar
    }


def clear_environment() -> None:
    """Remove every variable that libpq reads from this process's environment."""
    for variable in (*SESSION_VARIABLES, *_FILE_VARIABLES, *parameter_variables().values()):
        os.environ.pop(variable, None)


def effective_parameters(conninfo: str | Mapping[str, object]) -> dict[str, str]:
    """Return what libpq would go by: a conninfo or its parameters, and the present environment.

    Where a service is named, that alone: what its file says is not read here, and could name any
    server. Raises psycopg.ProgrammingError for what libpq can't read.
    """
    from psycopg.conninfo import conninfo_to_dict

    given = conninfo_to_dict(conninfo) if isinstance(conninfo, str) else conninfo
    parts = {key: str(value) for key, value in given.items() if value is not None}
    if service := parts.get("service") or os.environ.get("PGSERVICE"):
        return {"service": service}
    found = {
        name: os.environ[variable]
        for name, variable in parameter_variables().items()
        if variable in os.environ
    }
    return found | parts


@cache
def libpq_defaults() -> tuple[str, str]:
    """Return libpq's own defaults for host and user, which it tells of a connection alone."""
    from psycopg import pq

    # A service goes before all that is said here; "" would be one of that name.
    service = os.environ.pop("PGSERVICE", None)
    try:
        # It gives up at the sslmode: after it worked these out, and before it connects.
        found = pq.PGconn.connect_start(b"host='' hostaddr='' port=5432 user='' sslmode=none")
    finally:
        if service is not None:
            os.environ["PGSERVICE"] = service
    return found.host.decode(), found.user.decode()

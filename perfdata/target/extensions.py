"""Extensions that a migration needs and the embedded server lacks: where to find them."""

from __future__ import annotations

import json
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

from perfdata.errors import MigrationError
from perfdata.postgres.connection import open_link
from perfdata.server.binaries import SUPPORTED, server_major
from perfdata.server.installations import find_installations

if TYPE_CHECKING:
    from collections.abc import Iterator

    from perfdata.config import Settings

# The embedded server's messages are English.
_MISSING = re.compile(r'extension "([^"]+)" is not available')


@contextmanager
def explained_extensions(conninfo: str, settings: Settings) -> Iterator[None]:
    """Add a remedy to a MigrationError because of an extension that the embedded server lacks."""
    try:
        yield
    except MigrationError as error:
        if missing := _MISSING.search(error.reason):
            with open_link(conninfo) as link:
                query = "SELECT name::text FROM pg_available_extensions ORDER BY name"
                available = [name for (name,) in link.rows(query)]
            if missing[1] not in available:
                remedies = [find_extension(missing[1], available, settings), error.remedy]
                error.remedy = ". ".join(filter(None, remedies))
        raise


def find_extension(name: str, available: list[str], settings: Settings) -> str:
    """Say which extensions the embedded server has, and which PostgreSQL here has the other."""
    server = f"PostgreSQL in {settings.pg_bin}" if settings.pg_bin else "bundled PostgreSQL"
    has = f"The {server} has {', '.join(available)}"
    found = next((each for each in find_installations() if name in each.extensions), None)
    if found is None:
        return (
            f"{has}. No PostgreSQL on this machine has {name}: install one, {SUPPORTED[0]} to "
            f"{SUPPORTED[-1]}, that has it, and set pg_bin in [tool.perfdata] of pyproject.toml to "
            "the folder of its programs"
        )
    task = "db.stop" if found.major == server_major(settings) else "db.reset"
    return (
        f"{has}. PostgreSQL {found.major} on this machine has {name}: in [tool.perfdata] of "
        f"pyproject.toml, set pg_bin = {json.dumps(str(found.bin), ensure_ascii=False)}, then run "
        f"{settings.command(task)}"
    )

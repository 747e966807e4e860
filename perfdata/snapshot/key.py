"""The cache key: under which name a CI cache keeps a dataset's snapshot."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from perfdata.database.migrate import read_history
from perfdata.database.server import server_major
from perfdata.errors import MigrationError
from perfdata.project import load_project
from perfdata.snapshot.format import FORMAT

if TYPE_CHECKING:
    from perfdata.config import Settings


def cache_key(settings: Settings, name: str) -> str:
    """Return ``perfdata-pg18-<64 hex>-f1``: other migrations or another dataset, another key.

    Raises DatasetNotFoundError, and MigrationError where the project has no migrations.
    """
    project = load_project(settings)
    dataset = project.dataset(name)
    migrations = read_history(project).migrations
    if not migrations:
        raise MigrationError(
            f"project {project.name} has no migrations, so nothing would tell an old snapshot "
            "from a new one; name them in its Project(migrations=…)"
        )
    parts = {
        "migrations": [[one.revision, one.sha256] for one in migrations],
        "dataset": dataset.fingerprint(),
        "format": FORMAT,
    }
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    return f"perfdata-pg{server_major(settings)}-{digest}-f{FORMAT.partition('/')[2]}"

"""The cache key: under which name a CI cache keeps a dataset's snapshot."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from perfdata.errors import MigrationError, SnapshotError
from perfdata.postgres.connection import open_link
from perfdata.postgres.url import normalise_url
from perfdata.project import load_project
from perfdata.server.binaries import server_major
from perfdata.snapshot.format.manifest import FORMAT
from perfdata.snapshot.staleness import key_parts
from perfdata.snapshot.store import snapshot_path

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from perfdata.config import Settings
    from perfdata.snapshot.store import Snapshot


@dataclass(frozen=True)
class CacheKey:
    """A dataset's key, what it was made of by name, and the file that is kept under it."""

    key: str
    parts: Mapping[str, str]
    path: Path

    def __str__(self) -> str:
        """Return the key itself."""
        return self.key

    def differing(self, snapshot: Snapshot) -> dict[str, tuple[str | None, str | None]]:
        """Return the parts, as they are now and as a snapshot has them, that are not the same."""
        then = snapshot_parts(snapshot)
        names = [*self.parts, *(name for name in then if name not in self.parts)]
        return {
            name: (self.parts.get(name), then.get(name))
            for name in names
            if self.parts.get(name) != then.get(name)
        }


def cache_key(settings: Settings, name: str) -> CacheKey:
    """Make ``perfdata-pg18-<64 hex>-f1``: other migrations or another dataset, another key.

    The server's major version is the embedded one's, or that of the database in the settings,
    which is asked. Raises DatasetNotFoundError, and MigrationError where nothing would tell an old
    snapshot from a new one.
    """
    project = load_project(settings)
    parts = key_parts(project, project.dataset(name))
    if not any(part.startswith(("migration ", "tables")) for part in parts):
        raise MigrationError(
            f"project {project.name} has no migrations, so nothing would tell an old snapshot "
            "from a new one; name them in its Project(migrations=…), or say that its tables are "
            "made from metadata (tables_from_metadata=True)"
        )
    digest = hashlib.sha256(json.dumps(list(parts.items())).encode()).hexdigest()
    major = _major(settings)
    key = f"perfdata-pg{major}-{digest}-f{FORMAT.partition('/')[2]}"
    return CacheKey(key, {"server": major} | parts, snapshot_path(name, settings))


def _major(settings: Settings) -> str:
    if settings.database_url is None:
        return str(server_major(settings))
    with open_link(normalise_url(settings.database_url)) as link:
        return str(link.value("SELECT current_setting('server_version_num')::int / 10000"))


def snapshot_parts(snapshot: Snapshot) -> dict[str, str]:
    """Return what a snapshot's key was made of; raise where it is no dataset's own."""
    manifest = snapshot.manifest
    if not manifest.key_parts:
        raise SnapshotError(
            f"snapshot {snapshot.name} was not built from a dataset (or by an older perfdata), so "
            "that it does not say what its key was made of"
        )
    return {"server": manifest.server_version.partition(".")[0], **manifest.key_parts}

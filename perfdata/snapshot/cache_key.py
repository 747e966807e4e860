"""The key under which a CI cache keeps a dataset's snapshot."""

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
from perfdata.snapshot.checks.staleness import key_parts
from perfdata.snapshot.format.manifest import FORMAT
from perfdata.snapshot.store import snapshot_path

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from perfdata.config import Settings
    from perfdata.snapshot.store import Snapshot


@dataclass(frozen=True)
class CacheKey:
    """A dataset's key, the named parts that it was made of, and the file to cache under it."""

    key: str
    parts: Mapping[str, str]
    path: Path

    def __str__(self) -> str:
        return self.key

    def differing(self, snapshot: Snapshot) -> dict[str, tuple[str | None, str | None]]:
        """Return the parts that differ from a snapshot's, as (now, in the snapshot).

        None stands for a part that one of them lacks. Raises SnapshotError if the snapshot was
        not built from a dataset.
        """
        saved = _saved_parts(snapshot)
        return {
            name: (self.parts.get(name), saved.get(name))
            for name in {**self.parts, **saved}
            if self.parts.get(name) != saved.get(name)
        }


def cache_key(settings: Settings, name: str) -> CacheKey:
    """Make a dataset's cache key, such as ``perfdata-pg18-<64 hex>-f1``.

    It changes with the migrations, the dataset's definition, the server's major version and the
    file format. The server is the one in the settings, which is queried, or the embedded one.
    Raises DatasetNotFoundError, and MigrationError for a project with neither migrations nor
    tables made from metadata, as no change of its tables would change the key.
    """
    project = load_project(settings)
    parts = key_parts(project, project.dataset(name))
    if not any(part.startswith(("migration ", "tables")) for part in parts):
        raise MigrationError(
            f"project {project.name} has no migrations, so the key could not tell an old snapshot "
            "from a new one",
            remedy="Name them in its Project(migrations=…), or set tables_from_metadata=True if "
            "its tables are made from metadata",
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


def _saved_parts(snapshot: Snapshot) -> dict[str, str]:
    manifest = snapshot.manifest
    if not manifest.key_parts:
        raise SnapshotError(
            f"snapshot {snapshot.name} was not built from a dataset, or an older perfdata built "
            "it: it does not list the parts of its key",
            remedy="Build the dataset, or compare with another snapshot",
        )
    return {"server": manifest.server_version.partition(".")[0], **manifest.key_parts}

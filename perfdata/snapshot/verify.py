"""Verify: read a snapshot file whole and compare it with what its manifest says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perfdata.config import Settings
from perfdata.errors import SnapshotDamagedError
from perfdata.snapshot.format import check_file, fingerprint_schema, read_tables
from perfdata.snapshot.store import find_snapshot

if TYPE_CHECKING:
    from perfdata.snapshot.store import Snapshot


def verify_snapshot(name: str, settings: Settings | None = None) -> Snapshot:
    """Read every byte and row of a snapshot; return it when all is as its manifest says.

    Raises SnapshotDamagedError, SnapshotNotFoundError.
    """
    snapshot = find_snapshot(name, settings or Settings.load())
    manifest, offset = check_file(snapshot.path)
    counted: dict[str, int] = {}
    columns: dict[str, list[str]] = {}
    for table in read_tables(snapshot.path, offset, manifest.body):
        columns[table.key] = list(table.columns)
        counted[table.key] = sum(block.count(b"\n") for block in table.blocks)
    if counted != dict(manifest.stats):
        raise SnapshotDamagedError(
            f"{snapshot.path.name} is damaged: it holds {counted}, its manifest says "
            f"{dict(manifest.stats)}"
        )
    if columns != {key: list(one) for key, one in manifest.schema.items()}:
        raise SnapshotDamagedError(
            f"{snapshot.path.name} is damaged: its columns are not those of its manifest"
        )
    if fingerprint_schema(manifest.schema) != manifest.schema_fingerprint:
        raise SnapshotDamagedError(
            f"{snapshot.path.name} is damaged: its schema fingerprint is not that of its schema"
        )
    return snapshot

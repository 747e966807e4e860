"""Whether a snapshot is current: made from the present migrations and dataset definition."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from perfdata.errors import SnapshotStaleError
from perfdata.migrations.history import read_history, tables_digest
from perfdata.project import Migration
from perfdata.snapshot.format.manifest import FORMAT
from perfdata.text import join_first

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perfdata.dataset import Dataset
    from perfdata.migrations.history import History
    from perfdata.project import Project
    from perfdata.snapshot.format.manifest import Manifest
    from perfdata.snapshot.store import Snapshot

_FILE = "file "  # a part of the key is named so

_DATASET = "dataset "  # how the names of the parts that the dataset decides begin


def key_parts(project: Project, dataset: Dataset) -> dict[str, str]:
    """Return everything that decides the rows of a dataset's snapshot, by name, in a fixed order.

    Migrations come in the order in which they run, each with its hash and path, then the files that
    they may read. For a project that makes its tables from metadata, a hash of their DDL follows.
    """
    own = {f"{_DATASET}{name}": part for name, part in dataset.fingerprint_parts().items()}
    return _schema_parts(project) | own


def _schema_parts(project: Project) -> dict[str, str]:
    history = read_history(project)
    parts = {"format": FORMAT}
    for migration in history.migrations:
        path = history.paths[migration.revision]
        parts[f"migration {migration.revision}"] = f"{migration.sha256} {path}"
    parts |= {f"{_FILE}{path}": digest for path, digest in history.files.items()}
    if project.tables_from_metadata:
        parts["tables"] = tables_digest(project)
    return parts


def upgraded_key_parts(manifest: Manifest, project: Project) -> dict[str, str]:
    """Return a snapshot's key parts with the project's present migrations; none for one without."""
    own = {name: part for name, part in manifest.key_parts.items() if name.startswith(_DATASET)}
    return _schema_parts(project) | own if own else {}


def check_current(
    snapshot: Snapshot, project: Project, *, allow_newer: bool = False, by_hand: bool = False
) -> None:
    """Raise SnapshotStaleError if a snapshot was made from another definition or migrations.

    A snapshot with a dataset's name must have been built from that dataset, unless ``by_hand``
    accepts one that was created by hand. Of snapshots with other names only the migrations are
    compared. ``allow_newer`` accepts migrations that were added since.
    """
    manifest = snapshot.manifest
    if reason := _other_definition(snapshot.name, manifest, project, by_hand=by_hand):
        raise SnapshotStaleError(f"snapshot {snapshot.name} {reason}")
    check_migrations(snapshot, project, allow_newer=allow_newer)


def check_migrations(snapshot: Snapshot, project: Project, *, allow_newer: bool = False) -> None:
    """Raise SnapshotStaleError if a snapshot was made with other migrations than the project's."""
    found = compare_migrations(*migrations_and_files(snapshot.manifest, read_history(project)))
    if differences := found.describe("the project", allow_newer=allow_newer):
        none = "" if project.migrations else f"; project {project.name} has no migrations"
        way = "Build or create it again"
        if not (found.only_snapshot or found.changed):
            upgrade = f"snapshot.upgrade --name {snapshot.name}"
            way = f"Upgrade it ({upgrade}), or build or create it again"
        raise SnapshotStaleError(
            f"snapshot {snapshot.name} was made with other migrations ({differences}{none})",
            remedy=way,
        )


def migrations_and_files(
    manifest: Manifest, history: History
) -> tuple[list[Migration], list[Migration]]:
    """Return what a snapshot and a project have, with the files that migrations may read.

    Only a snapshot that was built from a dataset lists these files.
    """
    ours, theirs = list(manifest.migrations), list(history.migrations)
    if manifest.key_parts:
        parts = manifest.key_parts.items()
        ours += [Migration(name, digest) for name, digest in parts if name.startswith(_FILE)]
        theirs += [Migration(f"{_FILE}{path}", digest) for path, digest in history.files.items()]
    return ours, theirs


def _other_definition(
    name: str, manifest: Manifest, project: Project, *, by_hand: bool
) -> str | None:
    """Return why a snapshot does not hold the rows that its dataset defines now, or None."""
    dataset = project.find_dataset(name)
    if manifest.dataset_fingerprint is None:
        if dataset is None or by_hand:
            return None
        return "was created by hand, not built from the dataset of that name"
    if dataset is None:
        return f"was built from a dataset that project {project.name} no longer has"
    if manifest.dataset_fingerprint != dataset.fingerprint():
        return "was made from another definition of its dataset"
    tables = tables_digest(project) if project.tables_from_metadata else None
    if manifest.key_parts.get("tables") != tables:
        return "was made with tables of other metadata"
    return None


def check_flagged(snapshot: Snapshot) -> None:
    """Raise SnapshotStaleError if a snapshot holds more than flagged rows or a dataset's own."""
    manifest = snapshot.manifest
    generated = manifest.dataset_fingerprint is not None
    if manifest.all_rows or (manifest.whole_tables and not generated):
        whole = join_first(manifest.whole_tables) or "its tables"
        raise SnapshotStaleError(
            f"snapshot {snapshot.name} holds every row of {whole}, not only the flagged ones"
        )


@dataclass(frozen=True)
class MigrationDifferences:
    """The revisions that a snapshot and a project, or a database, do not share."""

    only_snapshot: Sequence[str]
    newer: Sequence[str]
    changed: Sequence[str]

    def describe(self, other: str, *, allow_newer: bool) -> str:
        """List the differences; ``allow_newer`` leaves out revisions that only ``other`` has."""
        revisions = {
            "only in the snapshot": self.only_snapshot,
            f"only in {other}": [] if allow_newer else self.newer,
            "changed since": self.changed,
        }
        return "; ".join(
            f"{where}: {join_first(found)}" for where, found in revisions.items() if found
        )


def compare_migrations(
    snapshot: Sequence[Migration], present: Sequence[Migration]
) -> MigrationDifferences:
    """Compare a snapshot's migrations with those of a project or a database."""
    ours = {migration.revision: migration.sha256 for migration in snapshot}
    theirs = {migration.revision: migration.sha256 for migration in present}
    changed = [
        revision
        for revision in ours.keys() & theirs.keys()
        if None not in (ours[revision], theirs[revision]) and ours[revision] != theirs[revision]
    ]
    return MigrationDifferences(
        sorted(ours.keys() - theirs.keys()), sorted(theirs.keys() - ours.keys()), sorted(changed)
    )

"""Current: what decides a dataset's rows now, and whether a snapshot was made with the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perfdata.database.connection import first
from perfdata.database.metadata import tables_digest
from perfdata.database.migrate import read_history
from perfdata.errors import SnapshotStaleError
from perfdata.snapshot.format import FORMAT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perfdata.dataset import Dataset
    from perfdata.project import Migration, Project
    from perfdata.snapshot.store import Snapshot


def key_parts(project: Project, dataset: Dataset) -> dict[str, str]:
    """Return, by name, all that decides the rows of a dataset's snapshot, in a fixed order.

    The migrations stand in the order in which they run, each with its hash and its path; where
    the project makes its tables from metadata their DDL stands for them.
    """
    history = read_history(project)
    parts = {"format": FORMAT}
    for one in history.migrations:
        parts[f"migration {one.revision}"] = f"{one.sha256} {history.paths[one.revision]}"
    if project.tables_from_metadata:
        parts["tables"] = tables_digest(project)
    return parts | {f"dataset {name}": part for name, part in dataset.fingerprint_parts().items()}


def check_current(
    snapshot: Snapshot, project: Project, *, allow_newer: bool = False, by_hand: bool = False
) -> None:
    """Raise SnapshotStaleError where a snapshot is of another definition or migrations.

    Under a dataset's name only what was built from it is current: one that was created by hand
    holds what somebody put there. Of any other name the migrations alone are judged.
    ``allow_newer`` lets migrations pass that came since, ``by_hand`` what was created by hand.
    """
    manifest = snapshot.manifest
    dataset = project.find_dataset(snapshot.name)
    if dataset is None and manifest.dataset_fingerprint is not None:
        raise SnapshotStaleError(
            f"snapshot {snapshot.name} was built from a dataset that project {project.name} does "
            "not have any more"
        )
    if dataset is not None and not (by_hand and manifest.dataset_fingerprint is None):
        if manifest.dataset_fingerprint is None:
            raise SnapshotStaleError(
                f"snapshot {snapshot.name} was created by hand, not built from the dataset of "
                "that name"
            )
        if manifest.dataset_fingerprint != dataset.fingerprint():
            raise SnapshotStaleError(
                f"snapshot {snapshot.name} was made from another definition of its dataset"
            )
        tables = tables_digest(project) if project.tables_from_metadata else None
        if manifest.key_parts.get("tables") != tables:
            raise SnapshotStaleError(
                f"snapshot {snapshot.name} was made with tables of other metadata"
            )
    present = read_history(project).migrations
    check_migrations(snapshot.name, manifest.migrations, present, allow_newer=allow_newer)


def check_flagged(snapshot: Snapshot) -> None:
    """Raise SnapshotStaleError where a snapshot holds more than flagged rows."""
    manifest = snapshot.manifest
    if manifest.all_rows or manifest.whole_tables:
        whole = first(manifest.whole_tables) or "its tables"
        raise SnapshotStaleError(
            f"snapshot {snapshot.name} holds every row of {whole}, not only the flagged ones"
        )


def check_migrations(
    name: str,
    snapshot: Sequence[Migration],
    present: Sequence[Migration],
    *,
    allow_newer: bool = False,
) -> Sequence[str]:
    """Raise SnapshotStaleError, naming what differs, where a snapshot is of other migrations.

    ``allow_newer`` lets those pass that the database alone has; they are returned.
    """
    ours = {one.revision: one.sha256 for one in snapshot}
    theirs = {one.revision: one.sha256 for one in present}
    changed = [
        revision
        for revision in ours.keys() & theirs.keys()
        if None not in (ours[revision], theirs[revision]) and ours[revision] != theirs[revision]
    ]
    newer = sorted(theirs.keys() - ours.keys())
    differences = {
        "only in the snapshot": sorted(ours.keys() - theirs.keys()),
        "only in the database": [] if allow_newer else newer,
        "changed since": sorted(changed),
    }
    said = [f"{what}: {first(found)}" for what, found in differences.items() if found]
    if said:
        raise SnapshotStaleError(
            f"snapshot {name} was made with other migrations ({'; '.join(said)}); nothing was "
            "touched. Migrate the database to the same, or build or create the snapshot again"
        )
    return newer

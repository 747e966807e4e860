"""Current: what decides a dataset's rows now, and whether a snapshot was made with the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from perfdata.errors import SnapshotStaleError
from perfdata.snapshot.format.manifest import FORMAT
from perfdata.target.migrations import read_history, tables_digest
from perfdata.text import first

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
    found = compare_migrations(manifest.migrations, present)
    if said := found.said("the project", allow_newer=allow_newer):
        none = "" if project.migrations else f"; project {project.name} has no migrations"
        raise SnapshotStaleError(
            f"snapshot {snapshot.name} was made with other migrations ({said}{none})",
            remedy="Build or create it again",
        )


def check_flagged(snapshot: Snapshot) -> None:
    """Raise SnapshotStaleError where a snapshot holds more than flagged rows."""
    manifest = snapshot.manifest
    if manifest.all_rows or manifest.whole_tables:
        whole = first(manifest.whole_tables) or "its tables"
        raise SnapshotStaleError(
            f"snapshot {snapshot.name} holds every row of {whole}, not only the flagged ones"
        )


@dataclass(frozen=True)
class Compared:
    """How the migrations of a snapshot and of something else differ, by revision."""

    only_snapshot: Sequence[str]
    newer: Sequence[str]
    changed: Sequence[str]

    def said(self, other: str, *, allow_newer: bool) -> str:
        """Say how they differ; ``allow_newer`` says nothing of those that the other alone has."""
        differences = {
            "only in the snapshot": self.only_snapshot,
            f"only in {other}": [] if allow_newer else self.newer,
            "changed since": self.changed,
        }
        return "; ".join(f"{what}: {first(found)}" for what, found in differences.items() if found)


def compare_migrations(snapshot: Sequence[Migration], present: Sequence[Migration]) -> Compared:
    """Compare a snapshot's migrations with those of a project or a database."""
    ours = {one.revision: one.sha256 for one in snapshot}
    theirs = {one.revision: one.sha256 for one in present}
    changed = [
        revision
        for revision in ours.keys() & theirs.keys()
        if None not in (ours[revision], theirs[revision]) and ours[revision] != theirs[revision]
    ]
    return Compared(
        sorted(ours.keys() - theirs.keys()), sorted(theirs.keys() - ours.keys()), sorted(changed)
    )

"""The state of a dataset's snapshot: whether a restore would use it as it is."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from perfdata.errors import PerfdataError, SnapshotDamagedError, SnapshotStaleError
from perfdata.snapshot.checks.staleness import check_current
from perfdata.snapshot.store import find_snapshot, snapshot_exists

if TYPE_CHECKING:
    from perfdata.config import Settings
    from perfdata.project import Project
    from perfdata.snapshot.store import Snapshot


class State(Enum):
    """The state of a dataset's snapshot; the values are shown."""

    NONE = "no"
    CURRENT = "yes"
    STALE = "stale"
    DAMAGED = "damaged"
    BY_HAND = "by hand"
    UNKNOWN = "unknown"


class SnapshotState(NamedTuple):
    """A state, why it is not current, and the snapshot if it can be read."""

    state: State
    reason: str = ""
    snapshot: Snapshot | None = None


def snapshot_state(name: str, project: Project, settings: Settings) -> SnapshotState:
    """Compare a dataset's snapshot with the project; its rows are not read.

    The state is unknown if the project's migrations or sources can't be read.
    """
    if not snapshot_exists(name, settings):
        return SnapshotState(State.NONE)
    snapshot = None
    try:
        snapshot = find_snapshot(name, settings)
        check_current(snapshot, project, by_hand=True)
    except PerfdataError as error:
        return SnapshotState(_state_of(error), error.reason, snapshot)
    if snapshot.manifest.dataset_fingerprint is None:
        return SnapshotState(State.BY_HAND, f"snapshot {name} was created by hand", snapshot)
    return SnapshotState(State.CURRENT, snapshot=snapshot)


def _state_of(error: PerfdataError) -> State:
    if isinstance(error, SnapshotStaleError):
        return State.STALE
    return State.DAMAGED if isinstance(error, SnapshotDamagedError) else State.UNKNOWN

"""The options of creates, restores and builds, and what these return."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from perfdata.errors import ConfigError
from perfdata.postgres.locks import LOCK_TIMEOUT_S
from perfdata.snapshot.checks.staleness import key_parts, upgraded_key_parts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from perfdata.dataset import Dataset
    from perfdata.project import Project
    from perfdata.snapshot.format.manifest import Manifest
    from perfdata.snapshot.store import Snapshot


@dataclass(frozen=True, kw_only=True)
class RestoreOptions:
    """The options of restore_snapshot, which documents them, provide_dataset and build_dataset.

    Raises ConfigError for options that exclude each other.
    """

    clean_existing: bool = True
    fresh: bool = False
    terminate: bool = False
    allow_drift: bool = False
    rebuild_indexes: bool = False
    unflagged_rows: bool = False
    as_superuser: bool = False
    lock_timeout_s: float = LOCK_TIMEOUT_S

    @property
    def in_place(self) -> RestoreOptions:
        """The same options for a restore that does not replace the database."""
        return replace(self, fresh=False, terminate=False)

    def __post_init__(self) -> None:
        if self.fresh and not self.clean_existing:
            raise ConfigError(
                "a fresh database keeps nothing",
                remedy="Use either fresh=True or clean_existing=False",
            )
        if self.terminate and not self.fresh:
            raise ConfigError(
                "terminate=True goes with fresh=True",
                remedy="Leave it out: other restores end no sessions",
            )


@dataclass(frozen=True, kw_only=True)
class CreateOptions:
    """The options of create_snapshot, and those of a build.

    A build sets ``dataset``. It and an import set ``expected`` to the number of rows that they
    loaded by table. An upgrade sets ``older`` to the manifest of the snapshot that it replaces.
    """

    name: str
    description: str = ""
    all_rows: bool = False
    replace: bool = False
    strict: bool = False
    as_superuser: bool = False
    lock_timeout_s: float = LOCK_TIMEOUT_S
    dataset: Dataset | None = None
    expected: Mapping[str, int] | None = None
    older: Manifest | None = None

    @classmethod
    def of_build(cls, dataset: Dataset, options: RestoreOptions) -> CreateOptions:
        """Return the options of saving a dataset's own snapshot."""
        return cls(
            name=dataset.name,
            dataset=dataset,
            replace=True,
            as_superuser=options.as_superuser,
            lock_timeout_s=options.lock_timeout_s,
        )

    def provenance(self, project: Project | None) -> dict[str, Any]:
        """Return the fields of the manifest that say what the rows were made from."""
        if self.older is not None:
            return {
                "description": self.older.description,
                "as_of": self.older.as_of,
                "dataset_fingerprint": self.older.dataset_fingerprint,
                "key_parts": upgraded_key_parts(self.older, project) if project else {},
            }
        dataset = self.dataset
        return {
            "description": self.description or (dataset.description if dataset else ""),
            "as_of": dataset.as_of.isoformat() if dataset else None,
            "dataset_fingerprint": dataset.fingerprint() if dataset else None,
            "key_parts": key_parts(project, dataset) if project and dataset else {},
        }


@dataclass(frozen=True)
class Restored:
    """A finished restore: rows by table, how they were loaded, and notes for the user."""

    name: str
    rows: dict[str, int]
    strategy: str
    duration_s: float
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Built(Restored):
    """A finished build, and the snapshot that was saved, or None.

    ``aside`` tells that the rows went into a clone of the database, which was dropped.
    """

    snapshot: Snapshot | None
    aside: bool = False


@dataclass(frozen=True)
class Provided:
    """What provide_dataset did: it built the dataset, restored a snapshot, or both.

    Attributes:
        name: the name of the dataset or snapshot.
        reason: why the dataset was built; "current" if it was not.
        built: the build, None if the snapshot was current.
        restored: the restore; None after a build, unless the rows then went into a fresh database.
    """

    name: str
    reason: str
    built: Built | None
    restored: Restored | None

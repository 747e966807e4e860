"""How a snapshot is restored or created, and what restores and builds return."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from perfdata.errors import ConfigError
from perfdata.postgres.locks import LOCK_TIMEOUT_S

if TYPE_CHECKING:
    from perfdata.snapshot.store import Snapshot


@dataclass(frozen=True, kw_only=True)
class RestoreOptions:
    """The options of restore_snapshot, provide_dataset and build_dataset.

    Attributes:
        clean_existing: whether the flagged rows that are there are replaced, or added to.
        fresh: whether the whole database is replaced by the clone of a template.
        terminate: whether ``fresh`` ends the sessions that are open in the database.
        allow_drift: whether newer migrations and columns pass, where every row still fits.
        rebuild_indexes: whether indexes are dropped and rebuilt also beside other rows.
        unflagged_rows: whether the file may bring rows without the flag.
        as_superuser: whether code that other roles wrote may run.
        lock_timeout_s: how many seconds locks are waited for.
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
        """The same, for a restore that does not replace the database."""
        return replace(self, fresh=False, terminate=False)

    def __post_init__(self) -> None:
        """Raise ConfigError for options that exclude each other."""
        if self.fresh and not self.clean_existing:
            raise ConfigError("a fresh database keeps nothing: --fresh or --keep-existing")
        if self.terminate and not self.fresh:
            raise ConfigError("--terminate goes with --fresh: else no session has to end")


@dataclass(frozen=True)
class Restored:
    """What a restore did: rows by table, how, in how many seconds, and what a user should know."""

    name: str
    rows: dict[str, int]
    strategy: str
    duration_s: float
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Built(Restored):
    """What a build did, as a restore says it, and the snapshot that it was saved as, or None."""

    snapshot: Snapshot | None


@dataclass(frozen=True)
class Provided:
    """How a dataset came into a database: why it was built or restored, and the results.

    One of ``built`` and ``restored`` is there; both where the built rows went into a fresh
    database.
    """

    name: str
    reason: str
    built: Built | None
    restored: Restored | None

"""Large, realistic PostgreSQL datasets for performance tests, restored in about a second.

Names are imported when they are first used, so that ``import perfdata`` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from perfdata.config import Settings
    from perfdata.dataset import Dataset, TableRows
    from perfdata.errors import (
        BaselineError,
        BoundaryError,
        BudgetExceededError,
        ComparisonError,
        ConfigError,
        ConnectError,
        DatasetNotFoundError,
        ElsewhereError,
        GuardError,
        InvalidNameError,
        LoadError,
        MigrationError,
        NoClonesError,
        PerfdataError,
        PrivilegesError,
        ProgramRefusedError,
        RefusedError,
        RegressedError,
        ResultsError,
        RowsRefusedError,
        SchemaError,
        ServerError,
        ServerRefusedError,
        SnapshotDamagedError,
        SnapshotDiffersError,
        SnapshotError,
        SnapshotExistsError,
        SnapshotNotFoundError,
        SnapshotStaleError,
        UserCodeError,
    )
    from perfdata.load.append import append_rows
    from perfdata.perf.scenario.perf import Perf
    from perfdata.progress import Event, Report
    from perfdata.project import Migration, Project
    from perfdata.snapshot.build import build_dataset
    from perfdata.snapshot.cache_key import CacheKey, cache_key
    from perfdata.snapshot.create import create_snapshot
    from perfdata.snapshot.diff.difference import (
        Difference,
        TableDifference,
        diff_snapshots,
    )
    from perfdata.snapshot.format.manifest import Manifest
    from perfdata.snapshot.options import Built, Provided, Restored
    from perfdata.snapshot.provide import provide_dataset
    from perfdata.snapshot.restore import restore_snapshot
    from perfdata.snapshot.store import (
        Snapshot,
        delete_snapshot,
        find_snapshot,
        list_snapshots,
        snapshot_exists,
    )
    from perfdata.snapshot.verify import verify_snapshot
    from perfdata.target.target import Target, open_target

_MODULES = {
    "config": ("Settings",),
    "load.append": ("append_rows",),
    "database.target": ("Target", "open_target"),
    "dataset": ("Dataset", "TableRows"),
    "errors": (
        "BaselineError",
        "BoundaryError",
        "BudgetExceededError",
        "ComparisonError",
        "ConfigError",
        "ConnectError",
        "DatasetNotFoundError",
        "ElsewhereError",
        "GuardError",
        "InvalidNameError",
        "LoadError",
        "MigrationError",
        "NoClonesError",
        "PerfdataError",
        "PrivilegesError",
        "ProgramRefusedError",
        "RefusedError",
        "RegressedError",
        "ResultsError",
        "RowsRefusedError",
        "SchemaError",
        "ServerError",
        "ServerRefusedError",
        "SnapshotDamagedError",
        "SnapshotDiffersError",
        "SnapshotError",
        "SnapshotExistsError",
        "SnapshotNotFoundError",
        "SnapshotStaleError",
        "UserCodeError",
    ),
    "perf.scenario.perf": ("Perf",),
    "project": ("Migration", "Project"),
    "progress": ("Event", "Report"),
    "snapshot.create": ("create_snapshot",),
    "snapshot.diff.difference": ("Difference", "TableDifference", "diff_snapshots"),
    "snapshot.format.manifest": ("Manifest",),
    "snapshot.cache_key": ("CacheKey", "cache_key"),
    "snapshot.build": ("build_dataset",),
    "snapshot.options": ("Built", "Provided", "Restored"),
    "snapshot.provide": ("provide_dataset",),
    "snapshot.restore": ("restore_snapshot",),
    "snapshot.store": (
        "Snapshot",
        "delete_snapshot",
        "find_snapshot",
        "list_snapshots",
        "snapshot_exists",
    ),
    "snapshot.verify": ("verify_snapshot",),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "BaselineError",
    "BoundaryError",
    "BudgetExceededError",
    "Built",
    "CacheKey",
    "ComparisonError",
    "ConfigError",
    "ConnectError",
    "Dataset",
    "DatasetNotFoundError",
    "Difference",
    "ElsewhereError",
    "Event",
    "GuardError",
    "InvalidNameError",
    "LoadError",
    "Manifest",
    "Migration",
    "MigrationError",
    "NoClonesError",
    "Perf",
    "PerfdataError",
    "PrivilegesError",
    "ProgramRefusedError",
    "Project",
    "Provided",
    "RefusedError",
    "RegressedError",
    "Report",
    "Restored",
    "ResultsError",
    "RowsRefusedError",
    "SchemaError",
    "ServerError",
    "ServerRefusedError",
    "Settings",
    "Snapshot",
    "SnapshotDamagedError",
    "SnapshotDiffersError",
    "SnapshotError",
    "SnapshotExistsError",
    "SnapshotNotFoundError",
    "SnapshotStaleError",
    "TableDifference",
    "TableRows",
    "Target",
    "UserCodeError",
    "append_rows",
    "build_dataset",
    "cache_key",
    "create_snapshot",
    "delete_snapshot",
    "diff_snapshots",
    "find_snapshot",
    "list_snapshots",
    "open_target",
    "provide_dataset",
    "restore_snapshot",
    "snapshot_exists",
    "verify_snapshot",
]


def __getattr__(name: str) -> object:
    """Import a public name from its module, once."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found: object = getattr(importlib.import_module(f"perfdata.{_MODULE_OF[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    """List the public names beside what is there already."""
    return sorted({*globals(), *__all__})

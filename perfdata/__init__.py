"""Large, realistic PostgreSQL datasets for performance tests, restored in about a second.

A public name is imported from its module when it is first used, so ``import perfdata`` is cheap.
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
    from perfdata.load.loader import append_rows
    from perfdata.perf.scenario.perf import Perf
    from perfdata.progress import Event, Report
    from perfdata.project import Migration, Project
    from perfdata.snapshot.build import build_dataset
    from perfdata.snapshot.cache_key import CacheKey, cache_key
    from perfdata.snapshot.create import create_snapshot
    from perfdata.snapshot.diff.difference import Difference, TableDifference, diff_snapshots
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

# The modules of the imports above, those without a database driver first.
_MODULES = (
    "perfdata.errors",
    "perfdata.progress",
    "perfdata.config",
    "perfdata.project",
    "perfdata.dataset",
    "perfdata.snapshot.format.manifest",
    "perfdata.snapshot.store",
    "perfdata.snapshot.options",
    "perfdata.load.loader",
    "perfdata.target.target",
    "perfdata.perf.scenario.perf",
    "perfdata.snapshot.create",
    "perfdata.snapshot.build",
    "perfdata.snapshot.restore",
    "perfdata.snapshot.provide",
    "perfdata.snapshot.verify",
    "perfdata.snapshot.cache_key",
    "perfdata.snapshot.diff.difference",
)

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
    """Import a public name from the first module that has it."""
    if name in __all__:
        for module in _MODULES:
            namespace = vars(importlib.import_module(module))
            if name in namespace:
                globals()[name] = namespace[name]
                return namespace[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the public names along with those already imported."""
    return sorted({*globals(), *__all__})

"""Large, realistic PostgreSQL datasets for performance tests, restored in about a second.

A public name is imported from its module when it is first used, so ``import perfdata`` is cheap.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from perfdata.config import Settings
    from perfdata.dataset import Dataset, TableRows
    from perfdata.draft.draft import Draft, draft_dataset
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
        MigrationFailedError,
        NoClonesError,
        NotJudgedError,
        PerfdataError,
        PrivilegesError,
        ProgramRefusedError,
        ProjectCodeError,
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
    from perfdata.load.rows.append import append_rows
    from perfdata.perf.scenario.perf import Perf
    from perfdata.progress import Event, Report
    from perfdata.project import Migration, Migrations, Project
    from perfdata.snapshot.build import build_dataset
    from perfdata.snapshot.cache_key import CacheKey, cache_key
    from perfdata.snapshot.create import create_snapshot
    from perfdata.snapshot.description.description import DatasetDescription, describe_dataset
    from perfdata.snapshot.diff.difference import Difference, TableDifference, diff_snapshots
    from perfdata.snapshot.format.manifest import Manifest
    from perfdata.snapshot.options import Built, Provided, Restored
    from perfdata.snapshot.plain.imports import Imported, import_snapshot
    from perfdata.snapshot.provide import provide_dataset
    from perfdata.snapshot.restore import restore_snapshot
    from perfdata.snapshot.store import (
        Snapshot,
        delete_snapshot,
        find_snapshot,
        list_snapshots,
        snapshot_exists,
    )
    from perfdata.snapshot.upgrade import Upgraded, upgrade_snapshot
    from perfdata.snapshot.verify import verify_snapshot
    from perfdata.target.target import Target, open_target

# The module of each public name that is not an error.
_MODULES = {
    "Built": "perfdata.snapshot.options",
    "CacheKey": "perfdata.snapshot.cache_key",
    "Dataset": "perfdata.dataset",
    "DatasetDescription": "perfdata.snapshot.description.description",
    "Difference": "perfdata.snapshot.diff.difference",
    "Draft": "perfdata.draft.draft",
    "Event": "perfdata.progress",
    "Imported": "perfdata.snapshot.plain.imports",
    "Manifest": "perfdata.snapshot.format.manifest",
    "Migration": "perfdata.project",
    "Migrations": "perfdata.project",
    "Perf": "perfdata.perf.scenario.perf",
    "Project": "perfdata.project",
    "Provided": "perfdata.snapshot.options",
    "Report": "perfdata.progress",
    "Restored": "perfdata.snapshot.options",
    "Settings": "perfdata.config",
    "Snapshot": "perfdata.snapshot.store",
    "TableDifference": "perfdata.snapshot.diff.difference",
    "TableRows": "perfdata.dataset",
    "Target": "perfdata.target.target",
    "Upgraded": "perfdata.snapshot.upgrade",
    "append_rows": "perfdata.load.rows.append",
    "build_dataset": "perfdata.snapshot.build",
    "cache_key": "perfdata.snapshot.cache_key",
    "create_snapshot": "perfdata.snapshot.create",
    "delete_snapshot": "perfdata.snapshot.store",
    "describe_dataset": "perfdata.snapshot.description.description",
    "diff_snapshots": "perfdata.snapshot.diff.difference",
    "draft_dataset": "perfdata.draft.draft",
    "find_snapshot": "perfdata.snapshot.store",
    "import_snapshot": "perfdata.snapshot.plain.imports",
    "list_snapshots": "perfdata.snapshot.store",
    "open_target": "perfdata.target.target",
    "provide_dataset": "perfdata.snapshot.provide",
    "restore_snapshot": "perfdata.snapshot.restore",
    "snapshot_exists": "perfdata.snapshot.store",
    "upgrade_snapshot": "perfdata.snapshot.upgrade",
    "verify_snapshot": "perfdata.snapshot.verify",
}

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
    "DatasetDescription",
    "DatasetNotFoundError",
    "Difference",
    "Draft",
    "ElsewhereError",
    "Event",
    "GuardError",
    "Imported",
    "InvalidNameError",
    "LoadError",
    "Manifest",
    "Migration",
    "MigrationError",
    "MigrationFailedError",
    "Migrations",
    "NoClonesError",
    "NotJudgedError",
    "Perf",
    "PerfdataError",
    "PrivilegesError",
    "ProgramRefusedError",
    "Project",
    "ProjectCodeError",
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
    "Upgraded",
    "UserCodeError",
    "append_rows",
    "build_dataset",
    "cache_key",
    "create_snapshot",
    "delete_snapshot",
    "describe_dataset",
    "diff_snapshots",
    "draft_dataset",
    "find_snapshot",
    "import_snapshot",
    "list_snapshots",
    "open_target",
    "provide_dataset",
    "restore_snapshot",
    "snapshot_exists",
    "upgrade_snapshot",
    "verify_snapshot",
]


def __getattr__(name: str) -> object:
    """Import a public name from its module."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(_MODULES.get(name, "perfdata.errors"))
    globals()[name] = value = getattr(module, name)
    return value


def __dir__() -> list[str]:
    """List the public names along with those already imported."""
    return sorted({*globals(), *__all__})

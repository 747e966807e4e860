"""Which errors of a project's template lead to a clone of the target instead."""

from __future__ import annotations

import pytest

from perfdata.errors import (
    BoundaryError,
    GuardError,
    MigrationFailedError,
    PerfdataError,
    RowsRefusedError,
    ServerRefusedError,
    SnapshotDamagedError,
)
from perfdata.snapshot.project_template import lacks_something


@pytest.mark.parametrize(
    ("error", "clones"),
    [
        (BoundaryError("rows that migrations do not insert"), True),
        (MigrationFailedError("the role exists"), True),
        (RowsRefusedError("a foreign key"), True),
        (GuardError("not listed"), False),
        (ServerRefusedError("No space left on device"), False),
        (SnapshotDamagedError("damaged"), False),
    ],
)
def test_only_what_a_new_database_lacks_leads_to_a_clone(
    error: PerfdataError, *, clones: bool
) -> None:
    assert lacks_something(error) == clones

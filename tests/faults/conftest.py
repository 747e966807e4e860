"""The fixtures of the integration tests."""

from tests.integration.conftest import (
    _clusters_removed,
    database_url,
    databases,
    digests,
    empty_url,
    own,
    schema_of,
    server,
    settings,
    state,
    target,
)
from tests.integration.load.test_atomic import prepared

__all__ = [
    "_clusters_removed",
    "database_url",
    "databases",
    "digests",
    "empty_url",
    "own",
    "prepared",
    "schema_of",
    "server",
    "settings",
    "state",
    "target",
]

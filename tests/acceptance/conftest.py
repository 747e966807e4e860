"""A repository for each comparison, and the fixtures of the integration tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from perfdata import Settings, open_target
from tests.acceptance.repository import Repository
from tests.homes import project_home
from tests.integration.conftest import (
    _clusters_removed,
    databases,
    empty_url,
    inner,
    own_home,
    server,
    settings,
    target,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Fixtures of the integration tests.
__all__ = [
    "_clusters_removed",
    "databases",
    "empty_url",
    "inner",
    "own_home",
    "server",
    "settings",
    "target",
]


@pytest.fixture(scope="session")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Settings of a home whose server runs."""
    with project_home(tmp_path_factory.mktemp("compare")) as settings:
        open_target(settings)
        yield settings


@pytest.fixture
def repository(compared: Settings, tmp_path: Path) -> Repository:
    return Repository(tmp_path, compared)

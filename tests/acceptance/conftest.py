"""A repository for each comparison, and the fixtures of the integration tests."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from perfdata import Settings, open_target
from tests.acceptance.application import make_environment
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

collect_ignore = ["applications"]  # they are tested from outside
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
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment with a wheel of perfdata, which all workers share."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    return make_environment(shared)


@pytest.fixture(scope="session")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Settings of a home whose server runs."""
    with project_home(tmp_path_factory.mktemp("compare")) as settings:
        open_target(settings)
        yield settings


@pytest.fixture
def repository(compared: Settings, tmp_path: Path) -> Repository:
    return Repository(tmp_path, compared)

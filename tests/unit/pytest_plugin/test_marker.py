"""The dataset of a test whose marker names none."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

import pytest

from perfdata import ConfigError, Dataset, Project
from perfdata.pytest_plugin.marker import only_dataset

if TYPE_CHECKING:
    from collections.abc import Iterator

    from perfdata import TableRows


def _generate(_dataset: Dataset) -> Iterator[TableRows]:
    return iter(())


def _project(*names: str) -> Project:
    datasets = [Dataset(name=name, generate=_generate, as_of=date(2026, 1, 1)) for name in names]
    return Project(name="shop", datasets=tuple(datasets))


def test_the_projects_only_dataset_is_used() -> None:
    assert only_dataset(_project("small")) == "small"


@pytest.mark.parametrize("project", [None, _project(), _project("small", "large")])
def test_without_exactly_one_the_marker_has_to_name_it(project: Project | None) -> None:
    with pytest.raises(ConfigError, match="the test's marker names no dataset") as caught:
        only_dataset(project)
    assert caught.value.remedy.endswith("small, large") == (project == _project("small", "large"))

from __future__ import annotations

import sys
from dataclasses import replace
from datetime import date
from typing import TYPE_CHECKING

import pytest

from perfdata import ConfigError, Dataset, DatasetNotFoundError, Project, Settings
from perfdata.project import load_project

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from perfdata import TableRows


def nothing(_dataset: Dataset) -> Iterator[TableRows]:
    return iter(())


ONE = Dataset(name="100_offices", generate=nothing, as_of=date(2026, 1, 1), parameters={"a": 1})


def test_a_near_miss_is_suggested() -> None:
    project = Project(name="p", datasets=(ONE,))
    assert project.dataset("100_offices") is ONE
    assert project.find_dataset("nope") is None
    with pytest.raises(DatasetNotFoundError, match="did you mean 100_offices"):
        project.dataset("100_office")


def test_metadata_is_imported_when_asked_for() -> None:
    project = Project(name="p", metadata="perfdata.welfare.models:Base.metadata")
    assert "staffs" in project.load_metadata().tables
    with pytest.raises(ConfigError, match="is a type, not a MetaData"):
        Project(name="p", metadata="builtins:int").load_metadata()
    with pytest.raises(ConfigError, match="names no metadata"):
        Project(name="p").load_metadata()


def test_the_project_is_found_beside_its_pyproject(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "shop_perf.py").write_text(
        "from perfdata import Project\nproject = Project(name='shop')\nother = 1\n"
    )
    settings = Settings(root=tmp_path, home=tmp_path, project="shop_perf")
    assert load_project(settings).name == "shop"
    wrong = Settings(root=tmp_path, home=tmp_path, project="shop_perf:other")
    with pytest.raises(ConfigError, match="is a int, not a Project"):
        load_project(wrong)
    with pytest.raises(ConfigError, match="shop_perf has no 'absent'"):
        load_project(Settings(root=tmp_path, home=tmp_path, project="shop_perf:absent"))
    with pytest.raises(ConfigError, match="no module named 'no_such'"):
        load_project(Settings(root=tmp_path, home=tmp_path, project="no_such.module"))


@pytest.mark.parametrize(
    "changed",
    [
        {"seed": 1},
        {"version": 2},
        {"parameters": {"a": 2}},
        {"as_of": date(2026, 1, 2)},
        {"name": "other"},
        {"sources": ("perfdata.config",)},
        {"pools": lambda: "other values"},
    ],
)
def test_all_that_decides_the_rows_is_in_the_fingerprint(changed: dict[str, object]) -> None:
    fields = {"name": ONE.name, "generate": nothing, "as_of": ONE.as_of, "parameters": {"a": 1}}
    assert Dataset(**fields).fingerprint() == ONE.fingerprint()  # type: ignore[arg-type]
    other = Dataset(**{**fields, **changed})  # type: ignore[arg-type]
    assert other.fingerprint() != ONE.fingerprint()


def test_the_description_is_not_in_the_fingerprint() -> None:
    other = Dataset(
        name=ONE.name, generate=nothing, as_of=ONE.as_of, parameters={"a": 1}, description="x"
    )
    assert other.fingerprint() == ONE.fingerprint()


def test_a_changed_source_changes_the_fingerprint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    source = tmp_path / "rows_of_mine.py"
    source.write_text("A = 1\n")
    dataset = Dataset(name="x", generate=nothing, as_of=date(2026, 1, 1), sources=("rows_of_mine",))
    before = dataset.fingerprint()
    source.write_text("A = 2\n")
    assert dataset.fingerprint() != before


def test_a_source_without_a_file_is_named() -> None:
    dataset = Dataset(name="x", generate=nothing, as_of=date(2026, 1, 1), sources=("absent",))
    with pytest.raises(ConfigError, match="'absent' is not a module with a source file"):
        dataset.fingerprint()


def test_a_parameter_that_is_no_number_is_refused() -> None:
    with pytest.raises(ConfigError, match="parameter a of dataset 100_offices is '1000'"):
        replace(ONE, parameters={"a": "1000"})  # type: ignore[dict-item]

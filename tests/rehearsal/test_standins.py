"""The stand-ins are as strict as what they stand in for."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

import pytest

from tests.rehearsal.expressions import Unsupported
from tests.rehearsal.standins import ActionError, Artifacts, Cache
from tests.rehearsal.workflow import read_workflow

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    (folder / ".hidden").mkdir(parents=True)
    (folder / ".hidden" / "file").write_text("one")
    return folder


def test_an_entry_never_changes(tmp_path: Path, workspace: Path) -> None:
    cache = Cache(tmp_path / "cache")
    inputs = {"key": "k", "path": ".hidden/file"}
    assert cache.save(workspace, inputs) == "saved under k"
    (workspace / ".hidden" / "file").write_text("two")
    assert "unable to reserve cache with key k" in cache.save(workspace, inputs)
    outputs = cache.restore(workspace, inputs)
    assert outputs == {"cache-primary-key": "k", "cache-hit": "true", "cache-matched-key": "k"}
    assert (workspace / ".hidden" / "file").read_text() == "one"


def test_an_entry_is_found_by_a_prefix_of_its_key_the_newest_first(
    tmp_path: Path, workspace: Path
) -> None:
    cache = Cache(tmp_path / "cache")
    for key in ("history-1", "history-2", "other"):
        cache.save(workspace, {"key": key, "path": ".hidden/file"})
    given = {"key": "history-3", "path": ".hidden/file", "restore-keys": "none-\nhistory-"}
    assert cache.restore(workspace, given)["cache-matched-key"] == "history-2"
    assert cache.restore(workspace, given)["cache-hit"] == "false"
    assert cache.restore(workspace, {"key": "oth", "path": ".hidden/file"})["cache-hit"] == "false"
    assert cache.restore(workspace, {"key": "oth", "path": "x"}) == {"cache-primary-key": "oth"}


def test_an_artifact_leaves_hidden_files_out(tmp_path: Path, workspace: Path) -> None:
    artifacts = Artifacts(tmp_path / "artifacts")
    inputs = {"name": "a", "path": ".hidden", "if-no-files-found": "error"}
    with pytest.raises(ActionError, match="no files were found"):
        artifacts.upload(workspace, inputs)
    artifacts.upload(workspace, {**inputs, "include-hidden-files": "true"})
    artifacts.download(workspace, {"name": "a", "path": "taken"})
    assert (workspace / "taken" / "file").read_text() == "one"
    with pytest.raises(ActionError, match="exists already"):
        artifacts.upload(workspace, inputs)


WORKFLOW = """
name: w
on: push
permissions: {}
jobs:
  j:
    runs-on: x
    timeout-minutes: 1
    permissions: {}
    steps: [{run: "true"}]
"""


@pytest.mark.parametrize(
    "change",
    [
        ("permissions: {}\njobs", "permissions: {contents: write}\njobs"),
        ("    runs-on: x\n", "    runs-on: x\n    container: y\n"),
        ('{run: "true"}', '{run: "true", continue-on-error: true}'),
        ("name: w\n", "name: w\ndefaults: {run: {shell: sh}}\n"),
    ],
)
def test_a_workflow_with_what_is_not_known_is_not_read(
    tmp_path: Path, change: tuple[Any, Any]
) -> None:
    path = tmp_path / "w.yml"
    text = textwrap.dedent(WORKFLOW).replace("on: push", "on: {push: {}}")
    path.write_text(text)
    assert list(read_workflow(path).jobs) == ["j"]
    path.write_text(text.replace(*change))
    assert path.read_text() != text
    with pytest.raises(Unsupported):
        read_workflow(path)

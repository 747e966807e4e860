"""Revisions in real repositories of git."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from perfdata.errors import ConfigError
from perfdata.perf.compare.revision import Repository

if TYPE_CHECKING:
    from pathlib import Path

_WHO = ("-c", "user.name=a", "-c", "user.email=a@example.com", "-c", "commit.gpgsign=false")


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *_WHO, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    top = tmp_path / "with a blank"
    (top / "part").mkdir(parents=True)
    git(top, "init", "-q")
    for text in ("one", "two"):
        (top / "part" / "file.txt").write_text(text)
        git(top, "add", "-A")
        git(top, "commit", "-qm", text)
    return Repository.around(top / "part")


def test_a_revision_is_checked_out_beside_the_tree_and_removed(
    repository: Repository, tmp_path: Path
) -> None:
    hook = repository.top / ".git" / "hooks" / "post-checkout"
    hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/hook_ran\n")
    hook.chmod(0o755)
    (repository.top / "part" / "file.txt").write_text("three")
    folder = tmp_path / "tree"
    repository.check_out(repository.commit("HEAD~1"), folder)
    assert (folder / "part" / "file.txt").read_text() == "one"
    assert (repository.top / "part" / "file.txt").read_text() == "three"
    (folder / "new.pyc").touch()
    repository.remove(folder)
    assert not folder.exists()
    assert git(repository.top, "worktree", "list").count("\n") == 0
    assert not (tmp_path / "hook_ran").exists()


def test_a_folder_that_git_does_not_know_is_removed_too(
    repository: Repository, tmp_path: Path
) -> None:
    folder = tmp_path / "tree"
    folder.mkdir()
    (folder / "half").touch()
    repository.remove(folder)
    assert not folder.exists()
    repository.remove(folder)


def test_what_git_keeps_of_a_folder_that_is_gone_is_removed(
    repository: Repository, tmp_path: Path
) -> None:
    folder = tmp_path / "tree"
    repository.check_out(repository.commit("HEAD"), folder)
    folder.rename(tmp_path / "elsewhere")
    repository.remove(folder)
    assert git(repository.top, "worktree", "list").count("\n") == 0


@pytest.mark.parametrize("rev", ["no_such", "--all", "HEAD:part", ""])
def test_what_names_no_commit_is_refused(repository: Repository, rev: str) -> None:
    with pytest.raises(ConfigError, match="names no commit"):
        repository.commit(rev)


def test_a_shallow_clone_is_named_as_the_reason(repository: Repository, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", "--depth=1", f"file://{repository.top}", str(clone))
    with pytest.raises(ConfigError, match="fetch-depth: 0"):
        Repository.around(clone).commit("HEAD~1")


def test_no_repository_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not in a git repository"):
        Repository.around(tmp_path)


def test_a_tree_is_dirty_by_changes_and_by_new_files(repository: Repository) -> None:
    assert not repository.dirty()
    (repository.top / "new.txt").touch()
    assert repository.dirty()


def test_a_hook_of_another_repository_leads_git_nowhere_else(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git(tmp_path, "init", "-q", "other")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other" / ".git"))
    assert Repository.around(repository.top / "part").top == repository.top

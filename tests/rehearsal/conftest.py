"""A repository made of this tree, on the stand-in for GitHub."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.rehearsal.runner import GitHub

ROOT = Path(__file__).resolve().parents[2]


class Origin:
    """A repository that begins as this tree, with what is not committed yet."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT, check=True, capture_output=True, text=True,
        ).stdout  # fmt: skip
        for name in filter(None, listed.split("\0")):
            if (ROOT / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, folder / name)
        self._git("init", "--quiet", "--initial-branch", "main")
        self.commit("Begin")

    def commit(self, message: str) -> None:
        """Commit everything that is in the folder."""
        self._git("add", "--all")
        who = ("-c", "user.name=Nobody", "-c", "user.email=nobody@example.com")
        self._git(*who, "commit", "--quiet", "--message", message)

    def _git(self, *command: str) -> None:
        subprocess.run(["git", *command], cwd=self.folder, check=True)


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Origin:
    """The repository that jobs check out."""
    return Origin(tmp_path_factory.mktemp("origin"))


@pytest.fixture(scope="module")
def github(tmp_path_factory: pytest.TempPathFactory, origin: Origin) -> GitHub:
    """GitHub, with nothing in its cache and no issue."""
    return GitHub(tmp_path_factory.mktemp("github"), origin.folder)

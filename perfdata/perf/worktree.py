"""Revisions of the repository that a project lies in, each checked out beside the tree in hand."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from perfdata.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

# What git sets while it runs a hook, and what would send it to another repository than asked.
_PLACES = {"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_PREFIX"}


@dataclass(frozen=True)
class Repository:
    """The git repository whose working tree is the folder ``top``."""

    top: Path

    @classmethod
    def around(cls, folder: Path) -> Repository:
        """Find the repository that a folder lies in; ConfigError where there is none."""
        if shutil.which("git") is None:
            raise ConfigError("comparing with a revision needs git, and there is none on the PATH")
        code, said = _git(folder, "rev-parse", "--show-toplevel")
        if code:
            raise ConfigError(f"{folder} is in no git repository: there is no revision ({said})")
        return cls(Path(said).resolve())

    def commit(self, rev: str) -> str:
        """Return the hash of the commit that ``rev`` names; ConfigError where it names none."""
        code, found = _git(
            self.top, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{rev}^{{commit}}"
        )
        if code:
            shallow = _git(self.top, "rev-parse", "--is-shallow-repository")[1] == "true"
            hint = (
                "this clone is shallow: git fetch --unshallow (actions/checkout: fetch-depth: 0)"
                if shallow
                else "git log --oneline lists some"
            )
            raise ConfigError(f"--rev {rev!r} names no commit of {self.top}; {hint}")
        return found

    def dirty(self) -> bool:
        """Tell whether the working tree holds what is not committed, new files included."""
        return bool(self._run("status", "--porcelain", "--untracked-files=normal"))

    def check_out(self, commit: str, folder: Path) -> None:
        """Check a commit out into a new folder, with no branch; none of the hooks runs."""
        quiet = ["-c", f"core.hooksPath={os.devnull}", "-c", "advice.detachedHead=false"]
        self._run(*quiet, "worktree", "add", "--detach", "--quiet", str(folder), commit)

    def remove(self, folder: Path) -> None:
        """Remove a checked-out folder, and what git keeps of it, where either is there."""
        code, _ = _git(self.top, "worktree", "remove", "--force", "--force", str(folder))
        if code:  # git knows nothing of it, or not yet: a run was killed in between
            shutil.rmtree(folder, ignore_errors=True)

    def _run(self, *arguments: str) -> str:
        code, said = _git(self.top, *arguments)
        if code:
            raise ConfigError(f"git {arguments[-1]} in {self.top} failed: {said}")
        return said


def _git(folder: Path, *arguments: str) -> tuple[int, str]:
    """Run git; return its exit code, and what it said (on stderr where it failed)."""
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments],
        env=without_places(os.environ),
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, (done.stderr if done.returncode else done.stdout).strip()


def without_places(environ: Mapping[str, str]) -> dict[str, str]:
    """Return an environment that sends git to no other place than the folder it runs in."""
    return {name: value for name, value in environ.items() if name not in _PLACES}

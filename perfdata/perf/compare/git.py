"""Git, as a comparison runs it."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

# Set by git while it runs a hook; they would direct git to another repository.
_VARIABLES = {"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_PREFIX"}


def git_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return an environment in which git uses the repository of its working directory."""
    return {name: value for name, value in environ.items() if name not in _VARIABLES}


def run_git(folder: Path, *arguments: str) -> tuple[int, str]:
    """Run git; return its exit code and its output (stderr if it failed)."""
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments],
        env=git_environment(os.environ),
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, (done.stderr if done.returncode else done.stdout).strip()

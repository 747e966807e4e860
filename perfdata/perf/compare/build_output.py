"""Build output that git ignores: it is in this tree, but not in a revision's checkout."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from perfdata.errors import ComparisonError
from perfdata.perf.compare.git import run_git

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Where a project's modules may be in its tree: at the top, in src, or in a subfolder.
MODULE_FOLDERS = ("", "src/", "*/", "*/src/")
_ENDS = (".py", "/__init__.py", ".so", ".*.so", ".pyd", ".*.pyd")
_NO_MODULE = re.compile(r"No module named '([\w.]+)'")
_NO_NAME = re.compile(r"cannot import name '(\w+)' from '([\w.]+)'")


def refuse_missing_output(output: str, tree: Path, label: str) -> None:
    """Raise ComparisonError if the output of a revision names a module that git ignores.

    ``tree`` is this tree, in which the module may have been built; ``label`` names the revision.
    """
    for module in _missing_modules(output):
        for path in _files(module, tree):
            code, _ = run_git(tree, "check-ignore", "--quiet", str(path))
            if code == 0:
                file = path.relative_to(tree)
                rev = label.split(maxsplit=1)[0]
                raise ComparisonError(
                    f"{label} can't import {module}: git ignores {file}, which was built in this "
                    "tree, so a checkout of the revision lacks it",
                    remedy="Compare with a commit that has it: git worktree add --detach ../built "
                    f"{rev}, build it there, git add --force {file}, git commit, and give that "
                    "commit's hash as the revision",
                )


def _missing_modules(output: str) -> Iterator[str]:
    yield from _NO_MODULE.findall(output)
    yield from (f"{package}.{name}" for name, package in _NO_NAME.findall(output))


def _files(module: str, tree: Path) -> Iterator[Path]:
    place = module.replace(".", "/")
    for folder in MODULE_FOLDERS:
        for end in _ENDS:
            yield from tree.glob(f"{folder}{place}{end}")

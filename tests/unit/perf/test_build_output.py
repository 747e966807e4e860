"""Modules that a revision lacks because git ignores them, in real repositories."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from perfdata import ComparisonError
from perfdata.perf.compare.build_output import refuse_missing_output
from tests.unit.perf.test_worktree import git

if TYPE_CHECKING:
    from pathlib import Path

VERSION = "src/shop/_version.py"
COMPILED = "src/shop/fast.cpython-311-x86_64-linux-gnu.so"
PACKAGE = "part/protocol/__init__.py"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    git(tmp_path, "init", "-q")
    (tmp_path / ".gitignore").write_text("_version.py\n*.so\nprotocol/\n")
    for file in (VERSION, COMPILED, PACKAGE, "src/shop/__init__.py", "new.py"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    git(tmp_path, "add", ".")
    return tmp_path


@pytest.mark.parametrize(
    ("output", "module", "file"),
    [
        ("E   ModuleNotFoundError: No module named 'shop._version'", "shop._version", VERSION),
        ("ImportError: cannot import name 'fast' from 'shop' (/a/b.py)", "shop.fast", COMPILED),
        ("error: shop_perf:3: No module named 'protocol'\nhint", "protocol", PACKAGE),
    ],
)
def test_a_module_that_git_ignores_is_named_with_its_file(
    tree: Path, output: str, module: str, file: str
) -> None:
    with pytest.raises(ComparisonError) as caught:
        refuse_missing_output(output, tree, "main (7ab0ab)")
    assert caught.value.reason.startswith(
        f"main (7ab0ab) can't import {module}: git ignores {file}"
    )
    assert f"../built main, build it there, git add --force {file}" in caught.value.remedy


@pytest.mark.parametrize("module", ["shop", "new", "no_such", "shop.no_such"])
def test_other_modules_are_not_git_s_doing(tree: Path, module: str) -> None:
    refuse_missing_output(f"No module named '{module}'", tree, "main")
    refuse_missing_output("division by zero", tree, "main")

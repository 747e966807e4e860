from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import perfdata


def test_all_names_are_there_and_sorted() -> None:
    assert perfdata.__all__ == sorted(perfdata.__all__)
    for name in perfdata.__all__:
        assert getattr(perfdata, name) is not None


def test_each_public_name_is_the_one_that_type_checkers_see() -> None:
    tree = ast.parse(Path(perfdata.__file__).read_text(encoding="utf-8"))
    imports = {
        alias.name: node.module or ""
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("perfdata.")
        for alias in node.names
    }
    assert imports.keys() == set(perfdata.__all__)
    for name, module in imports.items():
        assert module == perfdata._MODULES.get(name, "perfdata.errors")
        assert getattr(perfdata, name) is getattr(importlib.import_module(module), name)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'restore'"):
        _ = perfdata.restore


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import sys, perfdata; print(sorted(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for heavy in ("psycopg", "sqlalchemy", "alembic", "faker", "zstandard", "rich", "invoke"):
        assert f"'{heavy}'" not in out.stdout


def test_a_public_name_imports_only_its_module() -> None:
    def loaded(module: str) -> str:
        code = (
            f"import sys; from {module} import restore_snapshot; "
            "print(sorted(name for name in sys.modules if name.startswith('perfdata.')))"
        )
        command = [sys.executable, "-c", code]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert loaded("perfdata") == loaded("perfdata.snapshot.restore")

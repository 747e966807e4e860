from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import perfdata
from perfdata import errors


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
    assert set(imports.values()) == set(perfdata._MODULES)
    for name, module in imports.items():
        assert getattr(perfdata, name) is getattr(importlib.import_module(module), name)


def test_every_error_is_exported() -> None:
    family = {
        name
        for name, one in vars(errors).items()
        if isinstance(one, type) and issubclass(one, errors.PerfdataError)
    }
    assert family <= set(perfdata.__all__)


def test_every_error_has_a_message_of_its_own() -> None:
    assert str(errors.GuardError()) == "This database is not one that perfdata may delete from."
    assert str(errors.GuardError("no")) == "no"


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'restore'"):
        _ = perfdata.restore


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import sys, perfdata; print(sorted(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for heavy in ("psycopg", "sqlalchemy", "alembic", "faker", "zstandard", "rich", "invoke"):
        assert f"'{heavy}'" not in out.stdout


def test_a_refusal_that_says_little_says_what_mends_it() -> None:
    error = perfdata.ServerRefusedError("canceling statement", sqlstate="57014")
    assert "raise statement_timeout" in str(error)
    assert str(perfdata.ServerRefusedError("no", sqlstate=None)).endswith("rolled back")

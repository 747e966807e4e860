from __future__ import annotations

import ast
import importlib
import pickle
import re
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
    for name, module in imports.items():
        assert module == perfdata._MODULES.get(name, "perfdata.errors")
        assert getattr(perfdata, name) is getattr(importlib.import_module(module), name)


ERRORS = [
    found
    for found in vars(errors).values()
    if isinstance(found, type) and issubclass(found, errors.PerfdataError)
]


def test_every_error_is_exported_and_drawn_in_the_tree() -> None:
    names = {error.__name__ for error in ERRORS}
    assert names <= set(perfdata.__all__)
    assert names == set(re.findall(r"\b[A-Z]\w+Error\b", errors.__doc__ or "")) - {
        "PermissionError"
    }


def test_an_error_says_what_was_found_and_what_fixes_it() -> None:
    error = errors.GuardError("shop is not listed", remedy="Set PERFDATA_ALLOW=shop")
    assert (error.reason, error.remedy) == ("shop is not listed", "Set PERFDATA_ALLOW=shop")
    assert str(error) == "shop is not listed. Set PERFDATA_ALLOW=shop"
    assert (str(errors.GuardError("no")), errors.GuardError("no").remedy) == ("no", "")


def test_an_error_without_a_reason_takes_its_docstring() -> None:
    for error in ERRORS:
        assert error().reason
        assert not error().reason.endswith(".")


@pytest.mark.parametrize("kind", ERRORS)
def test_an_error_survives_pickling(kind: type[errors.PerfdataError]) -> None:
    error = kind("found this")
    error.remedy = "do that"
    copied = pickle.loads(pickle.dumps(error))  # noqa: S301  our own bytes
    assert type(copied) is kind
    assert (str(copied), vars(copied)) == (str(error), vars(error))


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


def test_a_refusal_with_a_known_cause_names_its_remedy() -> None:
    error = perfdata.ServerRefusedError("canceling statement", sqlstate="57014")
    assert error.server_message == "canceling statement"
    assert "raise statement_timeout" in error.remedy


def test_only_a_refused_load_says_that_it_was_rolled_back() -> None:
    assert str(perfdata.ServerRefusedError("no")) == "the server refused: no"
    refused = perfdata.RowsRefusedError("no", detail="Key (id)=(1)")
    assert str(refused) == "the server refused: no; Key (id)=(1); everything was rolled back"
    assert isinstance(refused, perfdata.LoadError)
    assert not issubclass(perfdata.ServerRefusedError, perfdata.LoadError)

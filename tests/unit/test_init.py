from __future__ import annotations

import subprocess
import sys

import pytest

import perfdata


def test_all_names_are_there_and_sorted() -> None:
    assert perfdata.__all__ == sorted(perfdata.__all__)
    for name in perfdata.__all__:
        assert getattr(perfdata, name) is not None


def test_all_is_what_the_modules_are_listed_for() -> None:
    assert set(perfdata.__all__) == set(perfdata._MODULE_OF)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'restore'"):
        _ = perfdata.restore


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import sys, perfdata; print(sorted(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for heavy in ("psycopg", "sqlalchemy", "alembic", "faker", "zstandard", "rich", "invoke"):
        assert f"'{heavy}'" not in out.stdout

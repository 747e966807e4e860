"""The plugin costs an environment nothing where it is not used."""

from __future__ import annotations

import os
import subprocess
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from perfdata.pytest_plugin.environment import session_settings

if TYPE_CHECKING:
    from pathlib import Path

HEAVY = ("alembic", "faker", "invoke", "psycopg", "rich", "sqlalchemy", "sqlglot", "zstandard")


def test_nothing_heavy_is_imported_when_pytest_loads_the_plugin(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(
        "import sys\n"
        "def pytest_unconfigure():\n"
        f"    found = sorted(set({HEAVY!r}) & set(sys.modules))\n"
        "    print('loaded:', 'perfdata.pytest_plugin' in sys.modules, found)\n"
    )
    (tmp_path / "test_one.py").write_text("def test_one(): pass\n")
    environ = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    plugins = ["-p", "pytest_benchmark.plugin", "-p", "perfdata.pytest_plugin"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--co", "-q", *plugins],
        cwd=tmp_path,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "test_one.py::test_one" in done.stdout, done.stderr
    assert "loaded: True []" in done.stdout


def test_settings_are_those_of_the_rootdir_where_the_folder_has_none(tmp_path: Path) -> None:
    """As in ``pytest app/tests/perf`` from the folder above the application."""
    for folder in ("app", "other"):
        (tmp_path / folder).mkdir()
        text = f'[tool.perfdata]\nproject = "{folder}:project"\n'
        (tmp_path / folder / "pyproject.toml").write_text(text)

    def project(start: Path) -> str | None:
        config: Any = SimpleNamespace(
            invocation_params=SimpleNamespace(dir=start), rootpath=tmp_path / "app"
        )
        return session_settings(config).project

    assert project(tmp_path) == "app:project"
    assert project(tmp_path / "other") == "other:project"

"""Settings, read from ``[tool.perfdata]`` of the nearest pyproject.toml and from PERFDATA_*."""

from __future__ import annotations

import difflib
import os
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perfdata.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

BUNDLED_PROJECT = "perfdata.welfare:project"
_KEYS: dict[str, type] = {
    "project": str,
    "home": str,
    "database_url": str,
    "pg_bin": str,
    "allow": list,
    "flag_column": str,
    "whole_tables": list,
}
SNAPSHOT_SUFFIX = ".json.zst"
_VARIABLES = ("PERFDATA_DATABASE_URL", "PERFDATA_HOME", "PERFDATA_PG_BIN", "PERFDATA_ALLOW")
# Set for the command of Migrations: the URL of the database that it is to migrate.
TARGET_VARIABLE = "PERFDATA_TARGET_URL"
# Set by perfdata for other processes: PERFDATA_COMPARE by perf.compare.
_INTERNAL = {"PERFDATA_COMPARE", TARGET_VARIABLE}


@dataclass(frozen=True)
class Settings:
    """The settings of a project; environment variables override pyproject.toml.

    - ``root``: the folder of the pyproject.toml with ``[tool.perfdata]``, else the start folder;
      ``configured`` tells which
    - ``home``: the folder of snapshots, results and the embedded server
    - ``project``: where the Project is found, as ``package.module:attribute``
    - ``database_url``: the target; None for the embedded server
    - ``pg_bin``: the folder of PostgreSQL's programs; None for the bundled ones
    - ``allow``: databases whose rows may be deleted, as ``host:port/database`` (wildcards are
      allowed in the database name); ``allow_environ`` holds those from PERFDATA_ALLOW
    - ``flag_column``: overrides the project's
    - ``whole_tables``: tables, wildcards allowed, that a snapshot of flagged rows saves and a
      restore loads with all their rows
    """

    root: Path
    home: Path
    project: str = BUNDLED_PROJECT
    database_url: str | None = field(default=None, repr=False)
    pg_bin: Path | None = None
    allow: tuple[str, ...] = ()
    allow_environ: tuple[str, ...] = ()
    flag_column: str | None = None
    whole_tables: tuple[str, ...] = ()
    configured: bool = True

    @classmethod
    def load(cls, start: Path | None = None, environ: Mapping[str, str] | None = None) -> Settings:
        """Read the settings for the folder ``start``, by default the current one.

        Raises ConfigError for an unreadable pyproject.toml, an unknown key or a wrong type.
        """
        environ = os.environ if environ is None else environ
        start = (start or Path.cwd()).resolve()
        configured = _find(start)
        root, table = configured or (start, {})

        def folder(variable: str, key: str) -> Path | None:
            given = environ.get(variable)
            value = given or table.get(key)
            try:
                return (start if given else root) / Path(value).expanduser() if value else None
            except RuntimeError as error:
                raise ConfigError(f"{variable} {value!r}: {error}") from error

        entries = environ.get("PERFDATA_ALLOW", "").split(",")
        allow = tuple(entry.strip() for entry in entries if entry.strip())
        return cls(
            root=root,
            home=folder("PERFDATA_HOME", "home") or root / ".perfdata",
            project=table.get("project") or BUNDLED_PROJECT,
            database_url=environ.get("PERFDATA_DATABASE_URL") or table.get("database_url") or None,
            pg_bin=folder("PERFDATA_PG_BIN", "pg_bin"),
            allow=(*allow, *table.get("allow", ())),
            allow_environ=allow,
            flag_column=table.get("flag_column") or None,
            whole_tables=tuple(table.get("whole_tables", ())),
            configured=configured is not None,
        )

    def command(self, task: str) -> str:
        """Return the command that runs a task of this project."""
        return command(self.root, task)

    def make_home(self) -> Path:
        """Create the home folder, with a .gitignore in it, and return it."""
        try:
            self.home.mkdir(parents=True, exist_ok=True)
            if not any(self.home.iterdir()):  # git should still see files that are not perfdata's
                (self.home / ".gitignore").write_text("*\n", encoding="utf-8")
        except OSError as error:
            raise ConfigError(
                f"PERFDATA_HOME {self.home} is not writable ({error.strerror}); "
                "set PERFDATA_HOME to a writable folder"
            ) from error
        return self.home


def snapshots_folder(home: Path) -> Path:
    """Return the folder of the snapshots in a home folder."""
    return home / "snapshots"


def command(root: Path, task: str) -> str:
    """Return the command that runs a task: invoke if the project has a tasks.py, else perfdata."""
    return f"{'invoke' if (root / 'tasks.py').is_file() else 'perfdata'} {task}"


def unknown_variables(environ: Mapping[str, str]) -> list[str]:
    """Return a warning for each PERFDATA_* variable that is not a setting."""
    warnings = []
    for name in sorted(environ):
        if name.startswith("PERFDATA_") and name not in {*_VARIABLES, *_INTERNAL}:
            close = difflib.get_close_matches(name, _VARIABLES, n=1, cutoff=0.8)
            hint = f"did you mean {close[0]}?" if close else f"there are: {', '.join(_VARIABLES)}"
            warnings.append(f"{name} is not a setting of perfdata; {hint}")
    return warnings


def _find(start: Path) -> tuple[Path, dict[str, Any]] | None:
    for folder in (start, *start.parents):
        path = folder / "pyproject.toml"
        if not path.is_file():
            continue
        try:
            document = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigError(f"{path} can't be read: {error}") from error
        table = document.get("tool", {}).get("perfdata")
        if table is not None:
            return folder, _checked(table, path)
    return None


def _checked(table: Any, path: Path) -> dict[str, Any]:
    if not isinstance(table, dict):
        raise ConfigError(f"{path}: tool.perfdata is not a table")
    for key, value in table.items():
        kind = _KEYS.get(key)
        if kind is None:
            close = difflib.get_close_matches(key, _KEYS, n=1)
            hint = f"did you mean {close[0]}?" if close else f"there are: {', '.join(_KEYS)}"
            raise ConfigError(f"{path}: [tool.perfdata] has no key {key!r}; {hint}")
        wrong_item = kind is list and not all(isinstance(item, str) for item in value)
        if not isinstance(value, kind) or wrong_item:
            expected = "a list of strings" if kind is list else "a string"
            actual = type(value).__name__  # not the value, which may contain a password
            raise ConfigError(f"{path}: [tool.perfdata] {key} must be {expected}, not a {actual}")
    return table

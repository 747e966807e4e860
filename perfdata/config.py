"""Settings, from the nearest pyproject.toml with ``[tool.perfdata]`` and from PERFDATA_*."""

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


_VARIABLES = ("PERFDATA_DATABASE_URL", "PERFDATA_HOME", "PERFDATA_PG_BIN", "PERFDATA_ALLOW")
_INTERNAL = {"PERFDATA_COMPARE"}  # what perf.compare tells its own processes


@dataclass(frozen=True)
class Settings:
    """What a run of perfdata goes by.

    ``root`` is the folder of the pyproject.toml that was found; ``configured`` tells whether one
    was. ``home`` holds snapshots, results and the embedded server. ``database_url`` None means the
    embedded server. ``allow`` lists the databases (``host:port/database``, wildcards in the latter)
    that may be deleted from, ``allow_environ`` those of them that PERFDATA_ALLOW lists.
    ``flag_column`` goes over the project's own; ``whole_tables`` names tables (wildcards allowed)
    of which a snapshot of flagged rows takes, and a restore brings, every row.
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
        """Read the settings that hold in folder ``start`` (default: the current one).

        Raises ConfigError for a pyproject.toml that can't be read, an unknown key, a wrong type.
        """
        environ = os.environ if environ is None else environ
        start = (start or Path.cwd()).resolve()
        found = _find(start)
        root, table = found or (start, {})

        def folder(variable: str, key: str) -> Path | None:
            given = environ.get(variable)
            value = given or table.get(key)
            try:
                return (start if given else root) / Path(value).expanduser() if value else None
            except RuntimeError as error:
                raise ConfigError(f"{variable} {value!r}: {error}") from error

        listed = environ.get("PERFDATA_ALLOW", "").split(",")
        allow = tuple(one.strip() for one in listed if one.strip())
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
            configured=found is not None,
        )

    def command(self, task: str) -> str:
        """Return the command that runs a task in this project."""
        return command(self.root, task)

    def make_home(self) -> Path:
        """Create the home folder, with a .gitignore of its own, and return it."""
        try:
            self.home.mkdir(parents=True, exist_ok=True)
            if not any(self.home.iterdir()):  # a folder that others use too is theirs to ignore
                (self.home / ".gitignore").write_text("*\n", encoding="utf-8")
        except OSError as error:
            raise ConfigError(
                f"PERFDATA_HOME {self.home} can't be written ({error.strerror}); "
                "set PERFDATA_HOME to a folder that can"
            ) from error
        return self.home


def command(root: Path, task: str) -> str:
    """Return the command that runs a task: invoke's where the project has tasks.

    A project without a tasks.py has the console script.
    """
    return f"{'invoke' if (root / 'tasks.py').is_file() else 'perfdata'} {task}"


def unknown_variables(environ: Mapping[str, str]) -> list[str]:
    """Say of each PERFDATA_* variable that is no setting that it isn't, with the near name."""
    said = []
    for name in sorted(environ):
        if name.startswith("PERFDATA_") and name not in {*_VARIABLES, *_INTERNAL}:
            near = difflib.get_close_matches(name, _VARIABLES, n=1, cutoff=0.8)
            hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(_VARIABLES)}"
            said.append(f"{name} is no setting of perfdata; {hint}")
    return said


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
            near = difflib.get_close_matches(key, _KEYS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(_KEYS)}"
            raise ConfigError(f"{path}: [tool.perfdata] has no key {key!r}; {hint}")
        wrong_item = kind is list and not all(isinstance(item, str) for item in value)
        if not isinstance(value, kind) or wrong_item:
            wanted = "a list of strings" if kind is list else "a string"
            found = type(value).__name__  # not the value: it may hold a password
            raise ConfigError(f"{path}: [tool.perfdata] {key} must be {wanted}, not a {found}")
    return table

"""Settings, read from ``[tool.perfdata]`` of the nearest pyproject.toml and from PERFDATA_*."""

from __future__ import annotations

import difflib
import os
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from string import Formatter
from typing import TYPE_CHECKING, Any

from perfdata.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

_KEYS: dict[str, type] = {
    "project": str,
    "home": str,
    "database_url": str,
    "pg_bin": str,
    "allow": list,
    "flag_column": str,
    "whole_tables": list,
    "flag_through": list,
    "session_class": str,
    "async_session_class": str,
    "own_packages": list,
    "environment": dict,
}
# What a variable of ``environment`` may say of the target.
PLACEHOLDERS = ("url", "host", "port", "user", "password", "database")
_EXPECTED: dict[type, str] = {
    str: "a string",
    list: "a list of strings",
    dict: "a table of strings",
}
SNAPSHOT_SUFFIX = ".json.zst"
# Set for the command of Migrations: the URL of the database that it is to migrate.
TARGET_VARIABLE = "PERFDATA_TARGET_URL"
_VARIABLES = (
    "PERFDATA_PROJECT",
    "PERFDATA_DATABASE_URL",
    "PERFDATA_HOME",
    "PERFDATA_PG_BIN",
    "PERFDATA_ALLOW",
)
# Set by perfdata for other processes: PERFDATA_COMPARE by perf.compare.
_INTERNAL = {"PERFDATA_COMPARE", TARGET_VARIABLE}
_OUTPUT = {"PERFDATA_TRACEBACK"}  # of tasks, no setting


@dataclass(frozen=True)
class Settings:
    """The settings of a project; environment variables override pyproject.toml.

    - ``root``: the folder of the pyproject.toml with ``[tool.perfdata]``, else the start folder;
      ``configured`` tells which
    - ``home``: the folder of snapshots, results and the embedded server
    - ``project``: where the Project is found, as ``package.module:attribute``; None if none is
      configured
    - ``database_url``: the target; None for the embedded server
    - ``pg_bin``: the folder of PostgreSQL's programs; None for the bundled ones
    - ``allow``: databases whose rows may be deleted, as ``host:port/database`` (wildcards are
      allowed in the database name); ``allow_environ`` holds those from PERFDATA_ALLOW
    - ``flag_column``: overrides the project's
    - ``whole_tables``: tables, wildcards allowed, that a snapshot of flagged rows saves and a
      restore loads with all their rows
    - ``flag_through``: foreign keys, as ``table.column``, of tables without the flag: their rows
      count as flagged if the row that they reference does
    - ``session_class``, ``async_session_class``: the classes of perf tests' sessions, as
      ``package.module:Class``; None for SQLAlchemy's
    - ``own_packages``: installed packages that belong to the application, by import name
    - ``environment``: the variables that the application reads, in whose values PLACEHOLDERS in
      braces stand for the target's address
    """

    root: Path
    home: Path
    project: str | None = None
    database_url: str | None = field(default=None, repr=False)
    pg_bin: Path | None = None
    allow: tuple[str, ...] = ()
    allow_environ: tuple[str, ...] = ()
    flag_column: str | None = None
    whole_tables: tuple[str, ...] = ()
    flag_through: tuple[str, ...] = ()
    session_class: str | None = None
    async_session_class: str | None = None
    own_packages: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict, repr=False, hash=False)
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
            project=environ.get("PERFDATA_PROJECT") or table.get("project") or None,
            database_url=environ.get("PERFDATA_DATABASE_URL") or table.get("database_url") or None,
            pg_bin=folder("PERFDATA_PG_BIN", "pg_bin"),
            allow=(*allow, *table.get("allow", ())),
            allow_environ=allow,
            flag_column=table.get("flag_column") or None,
            whole_tables=tuple(table.get("whole_tables", ())),
            flag_through=tuple(table.get("flag_through", ())),
            session_class=table.get("session_class") or None,
            async_session_class=table.get("async_session_class") or None,
            own_packages=tuple(table.get("own_packages", ())),
            environment=table.get("environment", {}),
            configured=configured is not None,
        )

    @property
    def gives_address(self) -> bool:
        """Whether a variable of ``environment`` has a part of the target's address in it."""
        return any(_placeholders(value) for value in self.environment.values())

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
    return f"{program(root)} {task}"


def program(root: Path) -> str:
    """Return the program that runs the tasks of the project in a folder."""
    return "invoke" if (root / "tasks.py").is_file() else "perfdata"


def unknown_variables(environ: Mapping[str, str]) -> list[str]:
    """Return a warning for each PERFDATA_* variable that is not a setting."""
    warnings = []
    for name in sorted(environ):
        if name.startswith("PERFDATA_") and name not in {*_VARIABLES, *_INTERNAL, *_OUTPUT}:
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
        if kind is dict and isinstance(value, dict):
            _check_environment(value, path)
            continue
        wrong_item = kind is list and not all(isinstance(item, str) for item in value)
        if not isinstance(value, kind) or wrong_item:
            expected = _EXPECTED[kind]
            actual = type(value).__name__  # not the value, which may contain a password
            raise ConfigError(f"{path}: [tool.perfdata] {key} must be {expected}, not {actual}")
    return table


def _check_environment(variables: Mapping[str, Any], path: Path) -> None:
    """Raise ConfigError for a variable that can't be set; its value is not shown."""
    braces = ", ".join(f"{{{name}}}" for name in PLACEHOLDERS)
    for name, value in variables.items():
        where = f"{path}: [tool.perfdata] environment.{name}"
        if not name or "=" in name or "\0" in name or name.startswith("PERFDATA_"):
            raise ConfigError(f"{where} is not a variable that an application reads")
        if not isinstance(value, str):
            raise ConfigError(
                f"{where} must be a string, not {type(value).__name__}; there are the "
                f"placeholders {braces}"
            )
        try:
            unknown = [found for found in _placeholders(value) if found not in PLACEHOLDERS]
        except ValueError as error:
            raise ConfigError(
                f"{where} can't be read ({error}); a brace that is no placeholder is doubled, and "
                f"the placeholders are {braces}"
            ) from None
        if unknown:
            raise ConfigError(
                f"{where} has an unknown placeholder {{{unknown[0]}}}; there are {braces}"
            )


def _placeholders(value: str) -> list[str]:
    """Return the placeholders in a variable's value; raise ValueError for a single brace."""
    return [
        name + (f"!{conversion}" if conversion else "") + (f":{form}" if form else "")
        for _, name, form, conversion in Formatter().parse(value)
        if name is not None
    ]

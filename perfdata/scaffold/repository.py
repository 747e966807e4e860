"""What a repository has that matters to perfdata: migrations, models, settings, tests."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from perfdata.errors import ConfigError
from perfdata.scaffold.models import Models, read_models
from perfdata.scaffold.sources import list_files, read_modules
from perfdata.scaffold.variables import find_variables

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path


@dataclass(frozen=True)
class Repository:
    """A repository as it was found.

    - ``pyproject``: the parsed pyproject.toml, empty if there is none
    - ``migrations``: each alembic.ini, else each folder with an env.py, relative to the root
    - ``variables``: see find_variables
    - ``django_apps``: the folders of Django's apps with migrations, if there is a manage.py
    """

    root: Path
    pyproject: Mapping[str, Any]
    migrations: tuple[str, ...]
    models: Models
    variables: Mapping[str, str]
    django_apps: tuple[str, ...]

    @property
    def name(self) -> str:
        """The application's name: that of its distribution, else of the folder."""
        return str(self.pyproject.get("project", {}).get("name") or self.root.name)

    @property
    def settings(self) -> Mapping[str, Any]:
        """The [tool.perfdata] that is there, empty if there is none."""
        settings: Mapping[str, Any] = self.pyproject.get("tool", {}).get("perfdata", {})
        return settings

    @property
    def project(self) -> str | None:
        """The project that [tool.perfdata] names, if any."""
        project = self.settings.get("project")
        return str(project) if project else None

    @property
    def new_variables(self) -> Mapping[str, str]:
        """The variables for the setting ``environment``, none if it is there."""
        return {} if "environment" in self.settings else self.variables

    @property
    def session_class(self) -> str:
        """The class for the setting ``session_class``; empty if SQLAlchemy's or set already."""
        sqlmodel = self.models.metadata == "SQLModel.metadata"
        return "sqlmodel:Session" if sqlmodel and "session_class" not in self.settings else ""

    def described(self) -> Iterator[str]:
        """Say what was found, in short phrases."""
        if self.migrations:
            yield f"migrations ({', '.join(self.migrations)})"
        if tables := self.models.tables:
            number = f"{len(tables)} table{'s' if tables[1:] else ''}"
            yield f"{number} of {self.models.metadata} in {', '.join(self.models.modules)}"
        if self.variables:
            yield f"variables of the database ({', '.join(self.variables)})"
        if self.django_apps:
            yield f"Django migrations of {', '.join(self.django_apps)}"


def read_repository(root: Path) -> Repository:
    """Look at a repository; none of its code is executed.

    Raises ConfigError for an unreadable pyproject.toml, and if the application is in a folder below
    that has a pyproject.toml of its own.
    """
    pyproject = _read_pyproject(root)
    files = list_files(root)
    if not pyproject:
        _refuse_folder_above(root, files)
    modules = read_modules(root, files)
    return Repository(
        root=root,
        pyproject=pyproject,
        migrations=tuple(_migrations(root, files)),
        models=read_models(modules),
        variables=find_variables(root, files, modules),
        django_apps=tuple(_django_apps(root, files)),
    )


def _read_pyproject(root: Path) -> dict[str, Any]:
    path = root / "pyproject.toml"
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} can't be read: {error}") from error


def _refuse_folder_above(root: Path, files: list[Path]) -> None:
    names = {path.name for path in files if path.parent == root}
    inner = [path.parent.name for path in files if path == path.parent / "pyproject.toml"]
    inner = [name for name in inner if (root / name / "pyproject.toml").is_file()]
    if inner and not names.intersection({"alembic.ini", "manage.py", "setup.py"}):
        raise ConfigError(
            f"{root} has no pyproject.toml, but {', '.join(inner)} below it has one",
            remedy=f"Run perfdata init there: cd {inner[0]}",
        )


def _migrations(root: Path, files: list[Path]) -> Iterator[str]:
    """Yield each alembic.ini, else each folder with env.py, those nearest to the root first."""
    inis = [path for path in files if path.name == "alembic.ini"]
    folders = [
        path.parent
        for path in files
        if path.name == "env.py" and path.with_name("script.py.mako").is_file()
    ]
    for path in sorted(inis or folders, key=lambda path: (len(path.parts), path)):
        yield path.relative_to(root).as_posix()


def _django_apps(root: Path, files: list[Path]) -> list[str]:
    if root / "manage.py" not in files:
        return []
    numbered = [path for path in files if path.parent.name == "migrations" and path.stem[:1] == "0"]
    return sorted({path.parent.parent.relative_to(root).as_posix() for path in numbered})

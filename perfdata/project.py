"""Projects: the datasets, migrations, metadata and flag column of an application."""

from __future__ import annotations

import difflib
import importlib
import sys
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from perfdata.driver_hooks import confined
from perfdata.errors import ConfigError, DatasetNotFoundError
from perfdata.postgres.url import normalise_url
from perfdata.server.environment import Variables, application_variables

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from sqlalchemy import MetaData

    from perfdata.config import Settings
    from perfdata.dataset import Dataset

FLAG_COLUMN = "is_test_data"
NO_PROJECT_REMEDY = (
    "Run: perfdata init, which sets one up, or set project in [tool.perfdata] of pyproject.toml"
)


@dataclass(frozen=True)
class Migration:
    """A migration: its revision and the SHA-256 of its file, None without a file."""

    revision: str
    sha256: str | None


@dataclass(frozen=True, kw_only=True)
class Migrations:
    """Migrations of another tool than Alembic, such as Django, Flyway, dbmate or SQL files.

    - ``command``: migrates the database that its environment names, as PERFDATA_TARGET_URL and in
      libpq's variables; it runs in the settings' root, ``python`` being this Python
    - ``files``: the migrations, as one or more patterns relative to that root
    - ``applied``: a query of one column that returns what a database has, one row a file: its
      path, name or version. Tables need their schema, as in ``public.schema_migrations``

    perfdata can't keep the command to the target: it checks afterwards that every file is applied
    there.
    """

    command: Sequence[str]
    files: str | Sequence[str]
    applied: str

    def __post_init__(self) -> None:
        """Check that nothing is empty, and that the command is no single string."""
        if isinstance(self.command, str) or not self.command:
            raise ConfigError(
                f"Migrations(command={self.command!r}) must be a list, such as "
                '["python", "manage.py", "migrate"]'
            )
        if not self.files or not self.applied.strip():
            raise ConfigError("Migrations needs files and applied, which is a query")


@dataclass(frozen=True, kw_only=True)
class Project:
    """An application's datasets and how its tables are made.

    - ``migrations``: an ``alembic.ini`` or the folder with ``env.py``, relative to the settings'
      root; for another tool, Migrations
    - ``metadata``: the SQLAlchemy MetaData, as ``package.module:Base.metadata``; imported when
      needed
    - ``tables_from_metadata``: create the tables with ``metadata.create_all``. With ``migrations``
      only in a database without tables, which is then stamped with their newest revision; later
      revisions run as migrations
    - ``sources``: default ``sources`` of its datasets
    - ``flag_column``: the boolean column that marks test data
    - ``settings``: those that it was loaded with; load_project sets them
    """

    name: str
    datasets: tuple[Dataset, ...] = ()
    migrations: Path | Migrations | None = None
    metadata: str | None = None
    tables_from_metadata: bool = False
    sources: tuple[str, ...] = ()
    flag_column: str = FLAG_COLUMN
    settings: Settings | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Check the combination of arguments, and pass ``sources`` on to the datasets."""
        if self.tables_from_metadata and self.metadata is None:
            raise ConfigError(f"project {self.name}: tables_from_metadata needs metadata")
        if self.sources:
            datasets = tuple(
                dataset if dataset.sources else replace(dataset, sources=self.sources)
                for dataset in self.datasets
            )
            object.__setattr__(self, "datasets", datasets)

    @property
    def has_only_metadata(self) -> bool:
        """Whether the metadata alone makes the tables, and no migration changes them."""
        return self.tables_from_metadata and self.migrations is None

    @property
    def makes_tables(self) -> bool:
        """Whether the project can make its tables in an empty database."""
        return self.migrations is not None or self.tables_from_metadata

    def dataset(self, name: str) -> Dataset:
        """Return the dataset of that name; DatasetNotFoundError suggests the closest name."""
        if (dataset := self.find_dataset(name)) is not None:
            return dataset
        names = [dataset.name for dataset in self.datasets]
        close = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {close[0]}?" if close else f"there are: {', '.join(names) or 'none'}"
        raise DatasetNotFoundError(f"no dataset is named {name!r} in project {self.name}; {hint}")

    def find_dataset(self, name: str) -> Dataset | None:
        """Return the dataset of that name, or None."""
        return next((dataset for dataset in self.datasets if dataset.name == name), None)

    def variables(self, conninfo: str | None = None) -> Variables:
        """Return the application's variables for a database, by default that of the settings."""
        return application_variables(self.settings, conninfo) if self.settings else Variables()

    def load_metadata(self) -> MetaData:
        """Import and return the project's SQLAlchemy MetaData.

        Raises ConfigError if there is none, or if it has no table.
        """
        if self.metadata is None:
            raise ConfigError(f"project {self.name} names no metadata")
        metadata = import_object(self.metadata, "metadata")
        from sqlalchemy import MetaData

        if not isinstance(metadata, MetaData):
            raise ConfigError(
                f"metadata {self.metadata!r} is a {type(metadata).__name__}, not a MetaData"
            )
        if not metadata.tables:
            raise ConfigError(
                f"metadata {self.metadata!r} has no table after {self.metadata.partition(':')[0]} "
                "was imported",
                remedy="Import the modules of the models there, or name a module that does",
            )
        return metadata


def find_project(settings: Settings) -> Project | None:
    """Return the project of the settings (see load_project), None if none is configured."""
    return load_project(settings) if settings.project else None


def load_project(settings: Settings) -> Project:
    """Import the project of the settings; their root is added to the import path.

    The variables of ``environment`` are set meanwhile. Raises ConfigError if none is configured or
    it is not found, ProjectCodeError if its code raises an exception, and ElsewhereError if it
    connects to a database other than the settings' while it is imported. It cannot connect to the
    embedded server, which may not be running yet.
    """
    if settings.project is None:
        raise ConfigError(no_project_reason(settings), remedy=NO_PROJECT_REMEDY)
    root = str(settings.root)
    if root not in sys.path:
        sys.path.insert(0, root)
    reference = settings.project if ":" in settings.project else f"{settings.project}:project"
    confinement = confined(f"project {reference}", _readable(settings.database_url))
    with application_variables(settings).applied(), confinement:
        project = import_object(reference, "[tool.perfdata] project")
    if not isinstance(project, Project):
        raise ConfigError(
            f"[tool.perfdata] project {reference!r} is a {type(project).__name__}, not a Project"
        )
    module = reference.partition(":")[0]
    return replace(
        project,
        datasets=tuple(replace(dataset, defined_in=module) for dataset in project.datasets),
        migrations=_anchored(project.migrations, settings),
        flag_column=flag_of(project, settings),
        settings=settings,
    )


def no_project_reason(settings: Settings) -> str:
    """Say where a project was looked for."""
    if settings.configured:
        where = f"[tool.perfdata] of {settings.root / 'pyproject.toml'} has no key project"
    else:
        where = f"no pyproject.toml at or above {settings.root} has [tool.perfdata]"
    return f"no project is configured: {where}"


def _anchored(migrations: Path | Migrations | None, settings: Settings) -> Path | Migrations | None:
    if migrations is None or isinstance(migrations, Migrations):
        return migrations
    return settings.root / migrations


def _readable(url: str | None) -> str | None:
    """Return the conninfo of a URL; None, with which nothing can be reached, if it is unreadable.

    The command that connects raises the error.
    """
    try:
        return url and normalise_url(url)
    except ConfigError:
        return None


def flag_of(project: Project | None, settings: Settings) -> str:
    """Return the flag column of the settings, else the project's."""
    return settings.flag_column or (project.flag_column if project else FLAG_COLUMN)


def import_object(reference: str, what: str) -> object:
    """Import ``package.module:attribute.path``; ``what`` names the reference in a ConfigError."""
    module_name, _, path = reference.partition(":")
    try:
        found: object = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        raise ConfigError(
            f"{what} {reference!r}: no module named {error.name!r} on the import path"
        ) from error
    for attribute in path.split("."):
        try:
            found = getattr(found, attribute)
        except AttributeError as error:
            raise ConfigError(f"{what} {reference!r}: {module_name} has no {path!r}") from error
    return found

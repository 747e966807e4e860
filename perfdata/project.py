"""What an application plugs in: its datasets, migrations, tables and flag column."""

from __future__ import annotations

import difflib
import importlib
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from perfdata.driver_hooks import confined
from perfdata.errors import ConfigError, DatasetNotFoundError
from perfdata.postgres.url import normalise_url

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import MetaData

    from perfdata.config import Settings
    from perfdata.dataset import Dataset


FLAG_COLUMN = "is_test_data"


@dataclass(frozen=True)
class Migration:
    """One migration: its revision and the hash of its file (None where there is no file)."""

    revision: str
    sha256: str | None


@dataclass(frozen=True, kw_only=True)
class Project:
    """An application, as perfdata sees it.

    ``migrations`` is an ``alembic.ini`` or the folder with ``env.py``, relative to the settings'
    root. ``metadata`` is where the SQLAlchemy MetaData is found, as
    ``package.module:Base.metadata``: imported only when needed. ``tables_from_metadata`` is for a
    project without migrations, whose tables are what ``metadata.create_all`` makes. ``sources``
    are the modules whose code decides the rows of every dataset that names none of its own.
    """

    name: str
    datasets: tuple[Dataset, ...] = ()
    migrations: Path | None = None
    metadata: str | None = None
    tables_from_metadata: bool = False
    sources: tuple[str, ...] = ()
    flag_column: str = FLAG_COLUMN

    def __post_init__(self) -> None:
        """Check what excludes one another, and hand ``sources`` to the datasets."""
        if self.tables_from_metadata and (self.metadata is None or self.migrations is not None):
            raise ConfigError(
                f"project {self.name}: tables_from_metadata needs metadata, and no migrations"
            )
        if self.sources:
            datasets = (
                one if one.sources else replace(one, sources=self.sources) for one in self.datasets
            )
            object.__setattr__(self, "datasets", tuple(datasets))

    def dataset(self, name: str) -> Dataset:
        """Return the dataset of that name, or raise DatasetNotFoundError with a near miss."""
        for dataset in self.datasets:
            if dataset.name == name:
                return dataset
        names = [dataset.name for dataset in self.datasets]
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(names) or 'none'}"
        raise DatasetNotFoundError(f"no dataset is named {name!r} in project {self.name}; {hint}")

    def find_dataset(self, name: str) -> Dataset | None:
        """Return the dataset of that name, or None."""
        return next((dataset for dataset in self.datasets if dataset.name == name), None)

    def load_metadata(self) -> MetaData:
        """Import the SQLAlchemy MetaData that the project names."""
        if self.metadata is None:
            raise ConfigError(f"project {self.name} names no metadata")
        found = import_object(self.metadata, "metadata")
        from sqlalchemy import MetaData

        if not isinstance(found, MetaData):
            raise ConfigError(
                f"metadata {self.metadata!r} is a {type(found).__name__}, not a MetaData"
            )
        return found


def load_project(settings: Settings) -> Project:
    """Import the project that the settings name; its folder is put on the import path.

    Raises ElsewhereError where it connects to another database than theirs meanwhile; to the
    embedded server's it can't connect: that may not run yet.
    """
    root = str(settings.root)
    if root not in sys.path:
        sys.path.insert(0, root)
    reference = settings.project if ":" in settings.project else f"{settings.project}:project"
    with confined(f"project {reference}", _readable(settings.database_url)):
        found = import_object(reference, "[tool.perfdata] project")
    if not isinstance(found, Project):
        raise ConfigError(
            f"[tool.perfdata] project {reference!r} is a {type(found).__name__}, not a Project"
        )
    found = replace(found, flag_column=flag_of(found, settings))
    module = reference.partition(":")[0]
    datasets = tuple(replace(one, defined_in=module) for one in found.datasets)
    migrations = found.migrations and settings.root / found.migrations
    return replace(found, datasets=datasets, migrations=migrations)


def _readable(url: str | None) -> str | None:
    """Return the conninfo of a URL; None, with which nothing can be reached, if it is unreadable.

    The command that connects raises the error.
    """
    try:
        return url and normalise_url(url)
    except ConfigError:
        return None


def flag_of(project: Project | None, settings: Settings) -> str:
    """Return the flag column: what the settings name, else the project's own."""
    return settings.flag_column or (project.flag_column if project else FLAG_COLUMN)


def import_object(reference: str, what: str) -> object:
    """Import ``package.module:attribute.path``; ``what`` says in an error whose reference it is."""
    module_name, _, path = reference.partition(":")
    try:
        found: object = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        raise ConfigError(
            f"{what} {reference!r}: there is no module {error.name!r} on the import path"
        ) from error
    for attribute in path.split("."):
        try:
            found = getattr(found, attribute)
        except AttributeError as error:
            raise ConfigError(f"{what} {reference!r}: {module_name} has no {path!r}") from error
    return found

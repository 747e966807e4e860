"""Jobs: what a worker does with a range, in its own process and over its own connection."""

from __future__ import annotations

import os
import socket
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from psycopg import sql

from perfdata.driver_hooks import confine
from perfdata.errors import ConfigError, LoadError, PerfdataError
from perfdata.generate.tables import GeneratedTable
from perfdata.load.loader import named_row
from perfdata.load.plan import TableLoad
from perfdata.load.private import open_private
from perfdata.load.ranges.done import claim, range_table
from perfdata.postgres.copy import TEXT
from perfdata.project import load_project
from perfdata.text import join_first

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from perfdata.config import Settings
    from perfdata.dataset import Dataset, TableRows
    from perfdata.generate.tables import GeneratedRows
    from perfdata.load.ranges.blocks import BlockRange
    from perfdata.postgres.catalog import Table
    from perfdata.postgres.link import Link
    from perfdata.project import Project

# So the server ends the session of a worker whose machine is gone, after 60 s instead of hours:
# another worker can load its range only then.
_KEEPALIVES = """
SELECT set_config(name, value, false) FROM (VALUES ('tcp_keepalives_idle', '30'),
  ('tcp_keepalives_interval', '10'), ('tcp_keepalives_count', '3')) AS s (name, value)"""


@dataclass(frozen=True)
class DatasetReference:
    """How a worker finds a dataset: plain data, which may contain passwords.

    ``parts`` are those of the dataset's fingerprint, ``target`` is the conninfo of the only
    database that the dataset's code may connect to.
    """

    settings: Settings = field(repr=False)
    name: str
    parts: Mapping[str, str] = field(repr=False)
    target: str = field(repr=False)

    @classmethod
    def of(cls, dataset: Dataset, settings: Settings, target: str | None) -> Self:
        """Return the reference to a dataset of the settings' project."""
        return cls(settings, dataset.name, dataset.fingerprint_parts(), target or "")


@dataclass(frozen=True)
class RangeJob:
    """A range to be loaded into a private database: plain data.

    ``conninfo`` is the private database's and may contain a password; ``done`` is the schema of its
    table of done ranges (see load.ranges.done).
    """

    dataset: DatasetReference
    blocks: BlockRange
    table: Table = field(repr=False)
    conninfo: str = field(repr=False)
    search_path: str
    done: str


@dataclass(frozen=True)
class _ImportedProject:
    """A project in this process, and its datasets' fingerprints when it was imported."""

    project: Project
    parts: Mapping[str, Mapping[str, str]]


# A project's variables and what its code may connect to hold for the whole process.
_one_job = threading.Lock()
_projects: dict[tuple[Path, str | None], _ImportedProject] = {}
# Of the last dataset, whose tables keep what they have computed.
_tables: dict[tuple[object, ...], Mapping[str, list[GeneratedRows]]] = {}


def load_range(job: RangeJob) -> None:
    """Generate a range and load it in one transaction, unless it is loaded already.

    Waits while another transaction is loading it. Raises ConfigError if this process has another
    version of the dataset, and what generating and loading raise.
    """
    with _one_job, open_private(job.conninfo, job.search_path) as database:
        database.link.rows(_KEEPALIVES)
        _load(database.link, job)


def _load(link: Link, job: RangeJob) -> None:
    dataset, project = _find_dataset(job.dataset)
    variables = project.variables(job.dataset.target)
    where = (f"dataset {dataset.name}", job.dataset.target, variables.loopback)
    blocks = job.blocks
    with variables.applied(), link.transaction():
        if not claim(link, job.done, blocks):
            return
        key = (project.settings, dataset.name, job.dataset.target)
        if key not in _tables:
            _tables.clear()
            _tables[key] = _generated_tables(confine(lambda: dataset.generate(dataset), *where))
        rows = _tables[key][blocks.table][blocks.part]
        made = confine(lambda: map(rows.block, range(blocks.first, blocks.end)), *where)
        _copy(link, job, TableLoad(job.table, rows.loaded, made, TEXT, f"{where[0]}: {blocks}"))


def _copy(link: Link, job: RangeJob, load: TableLoad) -> None:
    """Copy a range's rows into a new table of their own."""
    table = range_table(job.done, job.table, job.blocks).identifier
    columns = sql.SQL(", ").join(map(sql.Identifier, load.columns))
    create = sql.SQL("CREATE TABLE {} AS SELECT {} FROM {} WITH NO DATA")
    link.execute(create.format(table, columns, job.table.identifier))
    with named_row(load), link.own_path():
        rows = link.copy_in(table, load.columns, load.blocks, TEXT, freeze=True)
    if rows != job.blocks.rows:
        raise LoadError(f"{job.blocks}: expected {job.blocks.rows:,} rows, received {rows:,}")


def _generated_tables(tables: Iterable[TableRows]) -> Mapping[str, list[GeneratedRows]]:
    """Return the rows of generated tables, by table, in the dataset's order."""
    found: dict[str, list[GeneratedRows]] = {}
    for table in tables:
        if isinstance(table, GeneratedTable):
            found.setdefault(table.table, []).append(table.blocks)
    return found


def _find_dataset(reference: DatasetReference) -> tuple[Dataset, Project]:
    """Return a dataset whose code is the client's; raise ConfigError if it is another version."""
    settings = reference.settings
    key = (settings.root, settings.project)
    if key not in _projects:
        project = load_project(settings)
        # Those of all datasets now, before their files may change: imported code stays.
        _projects[key] = _ImportedProject(project, _fingerprints(project))
    imported = _projects[key]
    dataset = imported.project.dataset(reference.name)
    here = imported.parts.get(reference.name) or dataset.fingerprint_parts()
    names = sorted(here.keys() | reference.parts.keys())
    if different := [name for name in names if here.get(name) != reference.parts.get(name)]:
        raise ConfigError(
            f"a worker on {socket.gethostname()} (process {os.getpid()}) has another version of "
            f"dataset {reference.name} than this process: {join_first(different)} differ",
            remedy="Give all workers the same checkout and packages, then restart them: a worker "
            "keeps the code that it has imported",
        )
    return dataset, imported.project


def _fingerprints(project: Project) -> dict[str, Mapping[str, str]]:
    found: dict[str, Mapping[str, str]] = {}
    for dataset in project.datasets:
        try:
            found[dataset.name] = dataset.fingerprint_parts()
        except PerfdataError:  # raised again where that dataset is asked for
            continue
    return found

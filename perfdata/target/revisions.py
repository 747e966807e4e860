"""A project's Alembic scripts, read, hashed and run. For the worker only."""

from __future__ import annotations

import graphlib
import hashlib
import heapq
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perfdata.errors import MigrationError
from perfdata.postgres.connection import make_engine, open_link
from perfdata.postgres.url import make_url
from perfdata.progress import Event
from perfdata.project import Migration
from perfdata.target.migrations import History, database_heads, hash_file_stats

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from alembic.config import Config
    from alembic.script import Script, ScriptDirectory

    from perfdata.progress import Report
    from perfdata.target.job import Job


def read_scripts(job: Job, _report: Report) -> dict[str, Any]:
    """Read and hash a project's migrations.

    Returns the fields of a History, and the state of the files before they were read: ``folders``
    are the places that they come from, ``stamp`` is the hash_file_stats of these.
    """
    return _read(job, _config(job))


def upgrade(job: Job, report: Report) -> dict[str, Any]:
    """Bring a database to the heads, or to the job's revisions; return what read_scripts does.

    The project's env.py runs the migrations, on ``config.attributes["connection"]`` or on the
    ``sqlalchemy.url`` that is set for it here.
    """
    from alembic import command

    conninfo = job.conninfo or ""
    config = _config(job)
    answer = _read(job, config)
    history = History.from_fields(answer)
    wanted = job.revisions or history.heads
    with open_link(conninfo) as link:
        if history.missing(wanted, database_heads(link)):
            report(Event(f"migrating to {', '.join(wanted)}"))
    engine = make_engine(conninfo)
    try:
        with engine.connect() as connection:
            config.attributes["connection"] = connection
            url = make_url(conninfo, "psycopg")
            config.set_main_option("sqlalchemy.url", url.replace("%", "%%"))
            for revision in job.revisions or ("heads",):
                command.upgrade(config, revision)
                connection.commit()
    finally:
        engine.dispose()
    return answer


def _read(job: Job, config: Config) -> dict[str, Any]:
    from alembic.script import ScriptDirectory

    directory = ScriptDirectory.from_config(config)
    folders = _folders(job, directory)
    stamp = hash_file_stats(folders)
    scripts = {script.revision: script for script in directory.walk_revisions()}
    parents = {revision: _parents(script) for revision, script in scripts.items()}
    migrations = tuple(
        Migration(revision, hashlib.sha256(Path(scripts[revision].path).read_bytes()).hexdigest())
        for revision in _topological(parents)
    )
    anchors = (_anchor(_migrations(job)), Path(directory.dir).resolve())
    paths = {key: _portable(Path(script.path), anchors) for key, script in scripts.items()}
    history = History(migrations, parents, paths, tuple(sorted(directory.get_heads())))
    return asdict(history) | {"folders": folders, "stamp": stamp}


def _folders(job: Job, directory: ScriptDirectory) -> list[str]:
    """Return alembic.ini, if there is one, and the folders with scripts."""
    versions = directory._version_locations  # noqa: SLF001  ``versions`` omits folders that don't exist yet
    return sorted({str(Path(path).resolve()) for path in (_migrations(job), *versions)})


def _migrations(job: Job) -> Path:
    path = Path(job.migrations or "")
    if not path.exists():
        raise MigrationError(
            f"the migrations of project {job.project} are not there: no {path}",
            remedy="Name the alembic.ini, or the folder with env.py, in Project(migrations=…); a "
            "relative path begins at the folder of pyproject.toml",
        )
    return path


def _anchor(migrations: Path) -> Path:
    """Return the folder that migrations are named relative to: of alembic.ini, or of env.py."""
    return (migrations.parent if migrations.is_file() else migrations).resolve()


def _portable(path: Path, anchors: Sequence[Path]) -> str:
    """Return a path relative to the first anchor above it, or the file's name if there is none."""
    path = path.resolve()
    for anchor in anchors:
        if path.is_relative_to(anchor):
            return path.relative_to(anchor).as_posix()
    return path.name


def _config(job: Job) -> Config:
    from alembic.config import Config

    path = _migrations(job)
    if path.is_file():
        config = Config(str(path))
        location = config.get_main_option("script_location")
        if location and ":" not in location and not Path(location).is_absolute():
            # Alembic would take it as relative to the current folder.
            location = str(path.parent / location)
            config.set_main_option("script_location", location.replace("%", "%%"))
        _anchor_versions(config, path.parent)
        return config
    config = Config()
    config.set_main_option("script_location", str(path).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def _anchor_versions(config: Config, folder: Path) -> None:
    """Make version_locations absolute, as Alembic takes them as relative to the current folder."""
    locations = config.get_version_locations_list() or []
    anchored = [path if ":" in path else str(folder / path) for path in locations]
    if anchored != locations:
        # With the file's own separator, by which other options may be split too.
        name = (
            config.get_main_option("path_separator")
            or config.get_main_option("version_path_separator")
            or "space"
        )
        separator = {"space": " ", "newline": "\n", "os": os.pathsep}.get(name, name)
        config.set_main_option("version_locations", separator.join(anchored).replace("%", "%%"))


def _parents(script: Script) -> list[str]:
    """Return the revisions that must run before, by ``down_revision`` and ``depends_on``."""
    return [*_listed(script.down_revision), *_listed(script._resolved_dependencies)]  # noqa: SLF001  only there are labels resolved


def _listed(value: Any) -> Sequence[str]:
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else tuple(value)


def _topological(parents: dict[str, list[str]]) -> Iterator[str]:
    """Yield parents before children, otherwise in alphabetical order: the same on every machine."""
    graph = {
        revision: [parent for parent in listed if parent in parents]
        for revision, listed in parents.items()
    }
    sorter = graphlib.TopologicalSorter(graph)
    sorter.prepare()
    ready: list[str] = []
    while sorter.is_active():
        for revision in sorter.get_ready():
            heapq.heappush(ready, revision)
        revision = heapq.heappop(ready)
        yield revision
        sorter.done(revision)

"""A project's Alembic scripts, read, hashed and run. For the worker only."""

from __future__ import annotations

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
from perfdata.target.migrations import History, database_heads, stamp_files

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from alembic.config import Config
    from alembic.script import Script, ScriptDirectory

    from perfdata.progress import Report
    from perfdata.target.job import Job


def read_scripts(job: Job, _report: Report) -> dict[str, Any]:
    """Read and hash a project's migrations; return a History's fields, and how files stood.

    ``folders`` are all places that they come from, ``stamp`` is stamp_files of these before.
    """
    return _read(job, _config(job))


def upgrade(job: Job, report: Report) -> dict[str, Any]:
    """Bring a database to the heads, by the project's own env.py; return what read_scripts does.

    It runs on ``config.attributes["connection"]``, or on the ``sqlalchemy.url`` set for it here.
    """
    from alembic import command

    conninfo = job.conninfo or ""
    config = _config(job)
    found = _read(job, config)
    history = History.from_fields(found)
    with open_link(conninfo) as link:
        if history.pending(database_heads(link)):
            report(Event(f"migrating to {', '.join(history.heads)}"))
    engine = make_engine(conninfo)
    try:
        with engine.connect() as connection:
            config.attributes["connection"] = connection
            url = make_url(conninfo, "psycopg")
            config.set_main_option("sqlalchemy.url", url.replace("%", "%%"))
            command.upgrade(config, "heads")
            connection.commit()
    finally:
        engine.dispose()
    return found


def _read(job: Job, config: Config) -> dict[str, Any]:
    from alembic.script import ScriptDirectory

    directory = ScriptDirectory.from_config(config)
    folders = _folders(job, directory)
    stamp = stamp_files(folders)
    scripts = {one.revision: one for one in directory.walk_revisions()}
    parents = {revision: _parents(script) for revision, script in scripts.items()}
    migrations = tuple(
        Migration(revision, hashlib.sha256(Path(scripts[revision].path).read_bytes()).hexdigest())
        for revision in _topological(parents)
    )
    anchors = (_anchor(_migrations(job)), Path(directory.dir).resolve())
    paths = {revision: _portable(Path(one.path), anchors) for revision, one in scripts.items()}
    history = History(migrations, parents, paths, tuple(sorted(directory.get_heads())))
    return asdict(history) | {"folders": folders, "stamp": stamp}


def _folders(job: Job, directory: ScriptDirectory) -> list[str]:
    """Return alembic.ini, where there is one, and the folders that hold scripts."""
    versions = directory._version_locations  # noqa: SLF001  versions leaves out what is not there yet
    return sorted({str(Path(one).resolve()) for one in (_migrations(job), *versions)})


def _migrations(job: Job) -> Path:
    path = Path(job.migrations or "")
    if not path.exists():
        raise MigrationError(f"project {job.project}: there are no migrations in {path}")
    return path


def _anchor(migrations: Path) -> Path:
    """Return the folder that migrations are named from: that of alembic.ini, or of env.py."""
    return (migrations.parent if migrations.is_file() else migrations).resolve()


def _portable(path: Path, anchors: Sequence[Path]) -> str:
    """Name a file from the first folder that it lies below; one below none by its own name."""
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
            # Alembic would look below the folder that one happens to be in.
            location = str(path.parent / location)
            config.set_main_option("script_location", location.replace("%", "%%"))
        _anchor_versions(config, path.parent)
        return config
    config = Config()
    config.set_main_option("script_location", str(path).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def _anchor_versions(config: Config, folder: Path) -> None:
    """Have relative version_locations mean the same from wherever one happens to be."""
    locations = config.get_version_locations_list() or []
    anchored = [one if ":" in one else str(folder / one) for one in locations]
    if anchored != locations:
        # Joined as the file separates them: other options may be split in the same way.
        named = [config.get_main_option(f"{kind}path_separator") for kind in ("", "version_")]
        chosen = next((one for one in named if one), "space")
        separator = {"space": " ", "newline": "\n", "os": os.pathsep}.get(chosen, chosen)
        config.set_main_option("version_locations", separator.join(anchored).replace("%", "%%"))


def _parents(script: Script) -> list[str]:
    """Return what must have run before, by ``down_revision`` and by ``depends_on``."""
    return [*_listed(script.down_revision), *_listed(script._resolved_dependencies)]  # noqa: SLF001  Alembic resolves labels there alone


def _listed(value: Any) -> Sequence[str]:
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else tuple(value)


def _topological(parents: dict[str, list[str]]) -> Iterator[str]:
    """Yield parents before children, ties in alphabetical order: the same on every machine."""
    waiting = {key: {one for one in ones if one in parents} for key, ones in parents.items()}
    ready = [key for key, ones in waiting.items() if not ones]
    heapq.heapify(ready)
    while ready:
        done = heapq.heappop(ready)
        yield done
        for key, ones in waiting.items():
            if done in ones:
                ones.remove(done)
                if not ones:
                    heapq.heappush(ready, key)

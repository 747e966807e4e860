"""A project's Alembic revisions, read and hashed. Only for the child process."""

from __future__ import annotations

import graphlib
import hashlib
import heapq
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perfdata.errors import MigrationError
from perfdata.migrations.history import History
from perfdata.migrations.inputs import has_literal_identifiers, hash_file, list_files
from perfdata.project import Migration
from perfdata.text import join_first

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from alembic.config import Config
    from alembic.script import Script, ScriptDirectory

    from perfdata.migrations.job import Job

_ALEMBICS = {".ini", ".mako", ".md", ".py", ".pyc", ".pyi", ".rst"}


def read_revisions(job: Job, directory: ScriptDirectory) -> dict[str, Any]:
    """Read and hash the revisions of a script directory.

    Returns the fields of a History, and the ``inputs`` that it was read from (see Inputs). Raises
    MigrationError, with the folders, if there is no revision.
    """
    folders = _folders(job, directory)
    listed = list_files(folders)
    scripts = {script.revision: script for script in directory.walk_revisions()}
    if not scripts:
        raise MigrationError(
            f"the migrations of project {job.project} have no revision in "
            f"{join_first(version_folders(directory))}",
            remedy="Name the folders in version_locations: in alembic.ini, or in env.py before it "
            "connects to the database",
        )
    parents = {revision: _parents(script) for revision, script in scripts.items()}
    migrations = tuple(
        Migration(revision, hashlib.sha256(Path(scripts[revision].path).read_bytes()).hexdigest())
        for revision in _topological(parents)
    )
    anchors = (_anchor(_migrations(job)), Path(directory.dir).resolve())
    paths = {key: _portable(Path(script.path), anchors) for key, script in scripts.items()}
    files = _other_files(listed, anchors)
    history = History(migrations, parents, paths, tuple(sorted(directory.get_heads())), files)
    fixed = all(has_literal_identifiers(script.path) for script in scripts.values())
    return asdict(history) | {"inputs": {"folders": folders, "listed": listed, "fixed": fixed}}


def version_folders(directory: ScriptDirectory) -> list[str]:
    """Return the folders in which a script directory looks for revisions."""
    locations: Sequence[Path] = directory._version_locations  # noqa: SLF001  ``versions`` omits folders that don't exist yet
    return [str(path) for path in locations]


def _folders(job: Job, directory: ScriptDirectory) -> list[str]:
    """Return alembic.ini, if there is one, and the folders with scripts.

    Of a script folder that is the whole project's only env.py counts.
    """
    scripts = Path(directory.dir)
    if (scripts / "pyproject.toml").exists():
        scripts /= "env.py"
    migrations = _migrations(job)
    own = [migrations] if migrations.is_file() else []
    places = [*own, scripts, *map(Path, version_folders(directory))]
    return sorted({str(place.resolve()) for place in places})


def _other_files(listed: Sequence[str], anchors: Sequence[Path]) -> dict[str, str]:
    """Hash the files that revisions may read, such as SQL: those that are no part of Alembic's."""
    paths = [path for path in map(Path, listed) if not _is_alembics(path)]
    hashed = ((_portable(path, anchors), hash_file(str(path))) for path in paths)
    return {name: digest for name, digest in sorted(hashed) if digest is not None}


def _is_alembics(path: Path) -> bool:
    """Tell whether a file is code, a template, a setting or a text about them."""
    return path.suffix in _ALEMBICS or path.stem.upper() == "README"


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


def alembic_config(job: Job) -> Config:
    """Return the configuration of a project's migrations, with absolute folders."""
    from alembic.config import Config

    path = _migrations(job)
    if path.is_file():
        config = Config(str(path))
        location = config.get_main_option("script_location")
        if location and ":" not in location and not Path(location).is_absolute():
            # Alembic would take it as relative to the current folder.
            location = str(path.parent / location)
            config.set_main_option("script_location", location.replace("%", "%%"))
        anchor_versions(config, path.parent)
        return config
    config = Config()
    config.set_main_option("script_location", str(path).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def anchor_versions(config: Config, folder: Path) -> None:
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

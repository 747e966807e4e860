"""The plan of ``init``: which files a repository gets, which it has, and what comes next."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from perfdata.errors import ConfigError
from perfdata.scaffold import texts
from perfdata.scaffold.first_dataset import choose_table
from perfdata.scaffold.repository import read_repository
from perfdata.temporary import write_whole

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from perfdata.scaffold.repository import Repository

PROJECT = "perf_project:project"
_PYPROJECT, _MODULE = "pyproject.toml", "perf_project.py"
_HEADING = re.compile(r"^\[tool\.perfdata\][ \t]*(?:#.*)?$", re.MULTILINE)


@dataclass(frozen=True)
class PlannedFile:
    """A file of the plan: its path from the root, what it holds, and its whole new text.

    The text is empty if the file is there and stays as it is.
    """

    path: str
    content: str
    text: str = ""


@dataclass(frozen=True)
class InitPlan:
    """What ``init`` does in a repository.

    ``found`` says what was found there, ``notes`` what the user should know, ``commands`` what to
    run next.
    """

    root: Path
    found: tuple[str, ...]
    files: tuple[PlannedFile, ...]
    notes: tuple[str, ...]
    commands: tuple[str, ...]

    def write(self) -> None:
        """Write the files that are not there, and complete pyproject.toml; overwrite nothing."""
        for file in self.files:
            path = (self.root / file.path).resolve()
            try:
                if file.text and (path.name == _PYPROJECT or not path.exists()):
                    path.parent.mkdir(parents=True, exist_ok=True)
                    mode = path.stat().st_mode & 0o777 if path.exists() else 0o666
                    write_whole(path, file.text, mode)
            except OSError as error:
                raise ConfigError(f"{path} can't be written: {error.strerror or error}") from error


def plan_init(folder: Path) -> InitPlan:
    """Look at the repository around a folder; return what init writes into it.

    The root is the nearest folder upwards with a pyproject.toml, else the folder itself. Nothing of
    the application is executed. Raises ConfigError for what read_repository does.
    """
    repository = read_repository(_root(folder))
    found = tuple(repository.described())
    if repository.project not in {None, PROJECT}:
        file = PlannedFile(_PYPROJECT, f"[tool.perfdata] project = {repository.project}")
        return InitPlan(repository.root, found, (file,), (), (f"{texts.PROGRAM} dataset.list",))
    return InitPlan(
        repository.root,
        found,
        tuple(_files(repository)),
        tuple(_notes(repository)),
        _commands(repository),
    )


def _root(folder: Path) -> Path:
    folder = folder.resolve()
    for place in (folder, *folder.parents):
        if (place / "pyproject.toml").is_file():
            return place
        if (place / ".git").exists():
            break
    return folder


def _dataset(repository: Repository) -> str:
    first = choose_table(repository.models.tables)
    return first.dataset if first else texts.EMPTY_DATASET


def _is_set_up(repository: Repository) -> bool:
    """Tell whether init ran here before: what it wrote then may be changed or removed by now."""
    return repository.project == PROJECT and (repository.root / _MODULE).exists()


def _commands(repository: Repository) -> tuple[str, ...]:
    if _is_set_up(repository):
        return (f"{texts.PROGRAM} dataset.list",)
    name = _dataset(repository)
    return (
        f"{texts.PROGRAM} dataset.build --name {name}",
        f"{texts.PROGRAM} snapshot.restore --name {name}",
        "pytest tests/perf",
    )


def _files(repository: Repository) -> Iterator[PlannedFile]:
    first, dataset = choose_table(repository.models.tables), _dataset(repository)
    metadata = _metadata(repository)

    def new(path: str, content: str, text: str) -> PlannedFile:
        return PlannedFile(path, content, "" if (repository.root / path).exists() else text)

    yield _pyproject(repository)
    if _is_set_up(repository):
        yield PlannedFile(_MODULE, "the project")
        return
    project = texts.project_module(repository, first, metadata)
    yield new(_MODULE, f"the project, with dataset {dataset}", project)
    if metadata.startswith("perf_tables:"):
        yield new("perf_tables.py", "imports of all models", texts.tables_module(repository))
    yield new("tests/perf/test_first.py", "a perf test", texts.perf_test(first))
    workflow = texts.workflow(repository, dataset)
    yield new(".github/workflows/perf.yml", "the nightly workflow", workflow)


def _pyproject(repository: Repository) -> PlannedFile:
    path = repository.root / _PYPROJECT
    content = f"[tool.perfdata] project = {PROJECT}"
    if repository.project:
        return PlannedFile(path.name, content)
    if not path.exists():
        text = texts.settings_table(PROJECT, repository)
        return PlannedFile(path.name, content, text)
    with path.open(encoding="utf-8", newline="") as opened:
        old = opened.read()
    newline = "\r\n" if "\r\n" in old else "\n"
    lines = texts.settings_lines(PROJECT, repository)
    if heading := _HEADING.search(old):
        head, tail = old[: heading.end()].rstrip("\r"), old[heading.end() :].lstrip("\r")
        text = f"{head}\n{lines.rstrip()}{tail}"
    else:
        text = f"{old.rstrip()}\n\n[tool.perfdata]\n{lines}".lstrip()
    text = text.replace("\r\n", "\n").replace("\n", newline)
    _check_added(path, text, repository)
    return PlannedFile(path.name, content, text)


def _check_added(path: Path, text: str, repository: Repository) -> None:
    """Raise ConfigError if the completed text does not mean the old one and the project."""
    try:
        tool = tomllib.loads(text)["tool"]
        added = tool["perfdata"].pop("project") == PROJECT
    except (ValueError, KeyError):
        added = False
    if not added:
        raise ConfigError(
            f"[tool.perfdata] can't be added to {path}",
            remedy=f"Write it yourself: {texts.settings_table(PROJECT, repository)}",
        )


def _metadata(repository: Repository) -> str:
    """Return the reference of the MetaData for a project without migrations, or ""."""
    models = repository.models
    if repository.migrations or not models.tables:
        return ""
    if len(models.modules) == 1 and models.modules[0] in models.binding:
        return f"{models.modules[0]}:{models.metadata}"
    return "perf_tables:metadata"


def _notes(repository: Repository) -> Iterator[str]:
    if repository.migrations[1:]:
        others = ", ".join(repository.migrations[1:])
        yield f"perf_project.py names {repository.migrations[0]}; there are also {others}"
    if repository.django_apps and not repository.migrations:
        yield "Django's settings must read the database from the environment: PGHOST and others"
    elif not repository.migrations and not repository.models.tables:
        yield "neither migrations nor models were found: name yours in perf_project.py"
    elif choose_table(repository.models.tables) is None:
        yield "no table was found that can be filled alone: write the rows in perf_project.py"
    if (repository.root / "tasks.py").is_file():
        yield "the tasks can be added to tasks.py: Collection(dataset, db, perf, snapshot, init)"
    if (repository.root / "src").is_dir():
        yield "modules in src are found if they are installed: pip install -e ."

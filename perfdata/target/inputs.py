"""The files that an answer of the child process was made from."""

from __future__ import annotations

import ast
import hashlib
import os
import sys
import sysconfig
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from perfdata.sources import INSTALLED, top_level_folders

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

# Alembic reads these from a revision's module.
_IDENTIFIERS = {"revision", "down_revision", "depends_on", "branch_labels"}
# With these a module can assign a name that is not written in it.
_DYNAMIC = {"__getattr__", "eval", "exec", "globals", "locals", "setattr", "vars"}
_NAMED = (ast.FunctionDef, ast.ClassDef, ast.ExceptHandler, ast.MatchAs, ast.MatchStar)
_NO_SOURCES = {"__pycache__", "node_modules"}
# Their versions are part of an answer; __init__.py of each contains its own.
_VERSIONED = ("alembic", "sqlalchemy")
_PERFDATA = "perfdata"  # all its modules that were imported decide an answer


@dataclass(frozen=True)
class Inputs:
    """What an answer was made from.

    - ``folders``: folders, of which every file counts, and single files
    - ``listed``: the files in them before they were read
    - ``modules``: files of the project's modules that were imported
    - ``packages``: the folders in which the top-level modules of these were found
    - ``fixed``: whether nothing else decides the answer, so that other processes may use it
    """

    folders: Sequence[str] = ()
    listed: Sequence[str] = ()
    modules: Sequence[str] = ()
    packages: Mapping[str, Sequence[str]] = field(default_factory=dict)
    fixed: bool = True

    def paths(self) -> list[str]:
        """Return the paths of all files, as they are now."""
        return sorted({*list_files(self.folders), *self.modules})

    def stats(self) -> dict[str, tuple[int, ...]]:
        """Return the size and times of each file."""
        return {path: _stat(path) for path in self.paths()}

    def digest(self) -> str:
        """Hash the names and contents of the files."""
        lines = (f"{path}\0{hash_file(path)}\n" for path in self.paths())
        return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()

    def unchanged_since(self, started_ns: int) -> bool:
        """Tell whether no file was written, added or removed since a time."""
        newest_ns = max((max(stat[1:], default=0) for stat in self.stats().values()), default=0)
        return list_files(self.folders) == list(self.listed) and newest_ns < started_ns

    def found_again(self) -> bool:
        """Tell whether the import path still leads to the same modules."""
        return all(_folders(name) == list(folders) for name, folders in self.packages.items())


def list_files(folders: Iterable[str]) -> list[str]:
    """Return files and all files in folders; bytecode, hidden ones and installed packages aside."""
    found = set[str]()
    for place in folders:
        found.update([place] if Path(place).is_file() else _files_below(place, ()))
    return sorted(found)


def hash_file(path: str) -> str | None:
    """Return the SHA-256 of a file's content, None if it can't be read."""
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError:
        return None


def loaded_inputs(answer: Any) -> Inputs:
    """Return the inputs of an answer: those that it names, and all project modules that are loaded.

    Project modules are those that are neither installed nor in the standard library; perfdata's
    own count too.
    """
    standard = tuple(sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib"))
    loaded = {
        name: str(module.__dict__.get("__file__") or "")
        for name, module in sys.modules.items()
        if isinstance(module, ModuleType)
    }
    own = {
        name: file
        for name, file in loaded.items()
        if (file and not INSTALLED.intersection(Path(file).parts) and not file.startswith(standard))
        or name.partition(".")[0] == _PERFDATA
    }
    versioned = [loaded[name] for name in _VERSIONED if name in loaded]
    packages = {name.partition(".")[0] for name in own} - {"__main__"}
    named = answer.pop("inputs", {}) if isinstance(answer, dict) else {}
    return Inputs(
        **named,
        modules=sorted({*own.values(), *versioned}),
        packages={name: _folders(name) for name in sorted(packages)},
    )


def has_literal_identifiers(path: str) -> bool:
    """Tell whether a revision's identifiers are literals, each assigned at most once."""
    try:
        module = ast.parse(Path(path).read_bytes())
    except (OSError, SyntaxError, ValueError):  # bytecode without its source
        return False
    literal = [name for node in module.body for name in _literal_names(node)]
    return len(literal) == len(set(literal)) and literal == list(_bound_names(module))


def _literal_names(node: ast.stmt) -> Iterator[str]:
    """Yield the identifier that a statement assigns a literal to."""
    if isinstance(node, ast.Assign) and len(node.targets) == 1:
        target = node.targets[0]
    elif isinstance(node, ast.AnnAssign):
        target = node.target
    else:
        return
    if isinstance(target, ast.Name) and target.id in _IDENTIFIERS and node.value is not None:
        try:
            ast.literal_eval(node.value)
        except (ValueError, TypeError):
            return
        yield target.id


def _bound_names(module: ast.Module) -> Iterator[str]:
    """Yield every identifier that a module binds anywhere, and names that may bind others."""
    for node in ast.walk(module):
        if isinstance(node, (ast.Name, ast.Attribute)):
            name = node.id if isinstance(node, ast.Name) else node.attr
            loaded = isinstance(node.ctx, ast.Load)
        elif isinstance(node, ast.alias):
            name, loaded = node.asname or node.name.partition(".")[0], False
        elif isinstance(node, _NAMED):
            name, loaded = node.name or "", False
        else:
            continue
        if name in _DYNAMIC or (not loaded and name in {*_IDENTIFIERS, "*"}):
            yield name


def _files_below(folder: str, above: Sequence[str]) -> Iterator[str]:
    """Yield the files in a folder; ``above`` are the folders that it is in, as links may loop."""
    real = os.path.realpath(folder)
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return
    if real in above or any(entry.name == "pyvenv.cfg" for entry in entries):
        return
    for entry in entries:
        if entry.name.startswith(".") or entry.name in _NO_SOURCES:
            continue
        if entry.is_dir():
            yield from _files_below(entry.path, (*above, real))
        elif entry.is_file():
            yield entry.path


def _stat(path: str) -> tuple[int, ...]:
    """Return a file's size and times; the last one changes with every write, unlike the other."""
    try:
        stat = os.stat(path)  # noqa: PTH116  half the time of Path's
    except OSError:
        return ()
    return stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


def _folders(name: str) -> list[str]:
    return [str(folder) for folder in top_level_folders(name)]

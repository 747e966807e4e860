"""The files that an answer of the child process was made from."""

from __future__ import annotations

import ast
import hashlib
import importlib
import os
import sys
import sysconfig
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from perfdata.callers import INSTALLED
from perfdata.sources import top_level_folders

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

# Alembic reads these from a revision's module.
_IDENTIFIERS = {"revision", "down_revision", "depends_on", "branch_labels"}
# With these a module can assign a name that is not written in it.
_DYNAMIC = {"__getattr__", "eval", "exec", "globals", "locals", "setattr", "vars"}
_NAMED = (ast.FunctionDef, ast.ClassDef, ast.ExceptHandler, ast.MatchAs, ast.MatchStar)
_STANDARD = tuple(sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib"))
# Python's own search for modules and packages.
_IMPORTS = ("<frozen importlib", str(Path(importlib.__file__).parent))
_SYSTEM = ("/dev/", "/proc/", "/sys/")
_NO_SOURCES = {"__pycache__", "node_modules"}
# Their versions are part of an answer; __init__.py of each contains its own.
_VERSIONED = ("alembic", "sqlalchemy")
_PERFDATA = "perfdata"  # all its modules that were imported decide an answer


@dataclass(frozen=True)
class Inputs:
    """What an answer was made from.

    - ``folders``: folders, of which every file counts, and single files
    - ``listed``: the files in them before they were read
    - ``modules``: files of the project's modules that were imported, and files that it opened
    - ``packages``: the folders in which the top-level modules of these were found
    - ``searched``: folders that the project's code listed, whose names two levels deep count
    - ``fixed``: whether nothing else decides the answer, so that other processes may use it
    """

    folders: Sequence[str] = ()
    listed: Sequence[str] = ()
    modules: Sequence[str] = ()
    packages: Mapping[str, Sequence[str]] = field(default_factory=dict)
    searched: Sequence[str] = ()
    fixed: bool = True

    def paths(self) -> list[str]:
        """Return the paths of all files, as they are now."""
        return sorted({*list_files(self.folders), *self.modules})

    def names(self) -> list[str]:
        """Return the paths in the folders that were searched."""
        return [name for folder in self.searched for name in _names_below(folder)]

    def stats(self) -> dict[str, tuple[int, ...]]:
        """Return the size and times of each file, and the names in folders without any."""
        return {**dict.fromkeys(self.names(), ()), **{path: _stat(path) for path in self.paths()}}

    def digest(self) -> str:
        """Hash the names and contents of the files, and the names in folders."""
        lines = [f"{path}\0{hash_file(path)}\n" for path in self.paths()]
        text = "".join([*lines, *self.names()])
        return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()

    def unchanged_since(self, started_ns: int) -> bool:
        """Tell whether no file was written, added or removed since a time."""
        stats = [*self.stats().values(), *map(_stat, self.searched)]
        newest_ns = max((max(stat[1:], default=0) for stat in stats), default=0)
        return list_files(self.folders) == list(self.listed) and newest_ns < started_ns

    def found_again(self) -> bool:
        """Tell whether the import path still leads to the same modules."""
        return all(_folders(name) == list(folders) for name, folders in self.packages.items())


class Reads:
    """The files that a process opens, and the folders that it lists, from its beginning on."""

    def __init__(self) -> None:
        self._opened: set[str] = set()
        self._listed: set[str] = set()
        sys.addaudithook(self._record)

    def _record(self, event: str, args: tuple[Any, ...]) -> None:
        """Note an event; Python calls it in the frame of the code that opens or lists."""
        if event == "open":
            path, _, flags = args
            if isinstance(path, str) and not flags & (os.O_WRONLY | os.O_RDWR):
                self._opened.add(str(Path(path).absolute()))
        elif event in {"os.listdir", "os.scandir"} and isinstance(args[0] or ".", (str, Path)):
            caller = sys._getframe(1).f_code.co_filename  # noqa: SLF001  there is no other way
            if not caller.startswith(_IMPORTS):
                self._listed.add(str(Path(args[0] or ".").absolute()))

    def opened(self) -> set[str]:
        """Return the files that are neither Python's, an installed package's nor the system's."""
        return {path for path in self._opened if _is_own(path) and not path.endswith(".pyc")}

    def listed(self, folders: Sequence[str]) -> list[str]:
        """Return the folders likewise, but those that ``folders`` contain."""
        inside = tuple(f"{folder}{os.sep}" for folder in folders)
        return sorted(
            path
            for path in self._listed
            if _is_own(path) and not f"{path}{os.sep}".startswith(inside)
        )


def _is_own(path: str) -> bool:
    return not path.startswith((*_STANDARD, *_SYSTEM)) and not INSTALLED.intersection(
        Path(path).parts
    )


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


def loaded_inputs(answer: Any, reads: Reads) -> Inputs:
    """Return the inputs of an answer: those that it names, and what the project's code loaded.

    Project modules are those that are neither installed nor in the standard library; perfdata's
    own count too.
    """
    loaded = {
        name: str(module.__dict__.get("__file__") or "")
        for name, module in sys.modules.items()
        if isinstance(module, ModuleType)
    }
    own = {
        name: file
        for name, file in loaded.items()
        if (file and _is_own(file)) or name.partition(".")[0] == _PERFDATA
    }
    versioned = [loaded[name] for name in _VERSIONED if name in loaded]
    packages = {name.partition(".")[0] for name in own} - {"__main__"}
    named = answer.pop("inputs", {}) if isinstance(answer, dict) else {}
    return Inputs(
        **named,
        modules=sorted({*own.values(), *versioned, *reads.opened()}),
        searched=reads.listed(named.get("folders", ())),
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


def _names_below(folder: str, levels: int = 2) -> Iterator[str]:
    """Yield the paths in a folder and in its folders, sorted; without what _files_below skips."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries:
        if not entry.name.startswith(".") and entry.name not in _NO_SOURCES:
            yield entry.path
            if levels > 1 and entry.is_dir():
                yield from _names_below(entry.path, levels - 1)


def _stat(path: str) -> tuple[int, ...]:
    """Return a file's size and times; the last one changes with every write, unlike the other."""
    try:
        stat = os.stat(path)  # noqa: PTH116  half the time of Path's
    except OSError:
        return ()
    return stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


def _folders(name: str) -> list[str]:
    return [str(folder) for folder in top_level_folders(name)]

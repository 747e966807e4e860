"""Sources: hashes of the modules whose code decides a dataset's rows, found without running it."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from perfdata.callers import INSTALLED
from perfdata.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_PERFDATA = "perfdata"  # left out in a checkout too: the cache key's format covers it


def named_sources(modules: Iterable[str]) -> dict[str, str]:
    """Return the SHA-256 of each named module; of a package, one of all its modules.

    Raises ConfigError for a name that is not a module with a file.
    """
    return {module: _hash(_files(module)) for module in modules}


def imported_sources(module: str) -> dict[str, str]:
    """Return the SHA-256 of a module and of the project's modules that it imports, recursively.

    The project's modules are those of the same top-level package, and all others that are neither
    installed nor in the standard library. Imports are read from the source, including those inside
    functions; nothing is executed, so imports of computed names are not found. Values
    that rows take from installed packages belong in ``pools``.
    """
    files = _project_files(module, _files(module)[0])
    return {name: _hash([files[name]]) for name in sorted(files)}


def source_files(modules: Iterable[str], importing: Iterable[str] = ()) -> set[Path]:
    """Return the files of modules, of packages all, and of what ``importing`` modules import."""
    named = {file for module in modules for file in _files(module)}
    found = (_project_files(module, _files(module)[0]).values() for module in importing)
    return named.union(*found)


def imported_files(path: Path) -> list[Path]:
    """Return the files of the project's modules that a source file imports, recursively."""
    return list(_project_files("", path).values())[1:]


def _project_files(module: str, path: Path) -> dict[str, Path]:
    """Return the file of a module, then those of the project's modules that it imports."""
    top = module.partition(".")[0]
    files = {module: path}
    waiting = list(_imports(module, path))
    while waiting:
        name = waiting.pop()
        if name in files or (file := _module_file(name)) is None:
            continue
        other = name.partition(".")[0]
        if other == top or (other != _PERFDATA and not INSTALLED.intersection(file.parts)):
            files[name] = file
            waiting += _imports(name, file)
    return files


def _files(module: str) -> list[Path]:
    """Return a module's file; for a package its ``__init__.py``, then all modules below it."""
    try:
        spec = importlib.util.find_spec(module)
    except (ModuleNotFoundError, ValueError):
        spec = None
    if spec is None or spec.origin is None or not Path(spec.origin).is_file():
        raise ConfigError(
            f"dataset source {module!r} is not a module with a source file; list such modules in "
            "sources"
        )
    own = Path(spec.origin)
    if not spec.submodule_search_locations:
        return [own]
    return [own, *sorted(path for path in own.parent.rglob("*.py") if path != own)]


def _hash(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        if len(files) > 1:  # renaming files within a package changes its hash
            digest.update(f"{file.relative_to(files[0].parent).as_posix()}\0".encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _module_file(name: str) -> Path | None:
    top, _, rest = name.partition(".")
    for folder in top_level_folders(top):
        base = folder.joinpath(top, *rest.split(".")) if rest else folder / top
        for path in (base.with_name(f"{base.name}.py"), base / "__init__.py"):
            if path.is_file():
                return path
    return None


@cache
def top_level_folders(top: str) -> tuple[Path, ...]:
    """Return the folders that contain a top-level module or package, without importing it."""
    if not top or top in sys.stdlib_module_names:
        return ()
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return ()
    if spec is None:
        return ()
    if spec.submodule_search_locations:
        return tuple(Path(location).parent for location in spec.submodule_search_locations)
    return (Path(spec.origin).parent,) if spec.origin else ()


def _imports(name: str, path: Path) -> Iterator[str]:
    """Yield every module that a source file may import, and their parent packages."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    try:
        tree = ast.parse(path.read_bytes(), str(path))
    except SyntaxError:
        return  # written for another Python: it is hashed, but its imports are unknown
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _with_parents(alias.name)
        elif isinstance(node, ast.ImportFrom):
            origin = _absolute(node, package)
            yield from _with_parents(origin)
            yield from (f"{origin}.{alias.name}" for alias in node.names)


def _absolute(node: ast.ImportFrom, package: str) -> str:
    if not node.level:
        return node.module or ""
    parents = package.split(".")
    kept = parents[: len(parents) - node.level + 1]
    return ".".join([*kept, *([node.module] if node.module else [])])


def _with_parents(name: str) -> Iterator[str]:
    parts = name.split(".")
    return (".".join(parts[:count]) for count in range(1, len(parts) + 1))

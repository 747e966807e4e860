"""Sources: the files of the modules whose code decides a dataset's rows, found without a run."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from perfdata.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# What is installed has a release of its own; what decides rows in it belongs into ``pools``.
_INSTALLED = {"site-packages", "dist-packages"}
_PERFDATA = "perfdata"  # also where it is a checkout: the key's format stands for it


def named_sources(modules: Iterable[str]) -> dict[str, str]:
    """Hash the named modules, a package with all modules in it: name → sha256.

    Raises ConfigError for a name that is no module with a file.
    """
    return {module: _hash(_files(module)) for module in modules}


def imported_sources(module: str) -> dict[str, str]:
    """Hash a module and all that it imports of its own project, and these in turn.

    Its own project's are the modules of its top package, and all others that are neither installed
    nor Python's own, wherever they lie. The imports are read from the source, also those inside
    functions; nothing is executed. Modules that are imported by computed names are not found.
    """
    (own, *_) = _files(module)
    top = module.partition(".")[0]
    found: dict[str, Path] = {module: own}
    waiting = list(_imports(module, own))
    while waiting:
        name = waiting.pop()
        if name in found or (path := _module_file(name)) is None:
            continue
        other = name.partition(".")[0]
        if other == top or (other != _PERFDATA and not _INSTALLED.intersection(path.parts)):
            found[name] = path
            waiting += _imports(name, path)
    return {name: _hash([found[name]]) for name in sorted(found)}


def _files(module: str) -> list[Path]:
    """Return a module's file; of a package its own first, then all below it."""
    try:
        spec = importlib.util.find_spec(module)
    except (ModuleNotFoundError, ValueError):
        spec = None
    if spec is None or spec.origin is None or not Path(spec.origin).is_file():
        raise ConfigError(
            f"dataset source {module!r} is not a module with a file; name modules in sources"
        )
    own = Path(spec.origin)
    if not spec.submodule_search_locations:
        return [own]
    return [own, *sorted(path for path in own.parent.rglob("*.py") if path != own)]


def _hash(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        if len(files) > 1:  # two files of a package that change places are another package
            digest.update(f"{file.relative_to(files[0].parent).as_posix()}\0".encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _module_file(name: str) -> Path | None:
    top, _, rest = name.partition(".")
    for folder in _folders(top):
        place = folder.joinpath(top, *rest.split(".")) if rest else folder / top
        for path in (place.with_name(f"{place.name}.py"), place / "__init__.py"):
            if path.is_file():
                return path
    return None


@cache
def _folders(top: str) -> tuple[Path, ...]:
    """Return the folders that a top-level module or package lies in; finding it runs nothing."""
    if not top or top in sys.stdlib_module_names:
        return ()
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return ()
    if spec is None:
        return ()
    if spec.submodule_search_locations:
        return tuple(Path(one).parent for one in spec.submodule_search_locations)
    return (Path(spec.origin).parent,) if spec.origin else ()


def _imports(name: str, path: Path) -> Iterator[str]:
    """Yield every name that a source may import, and the packages around it."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    try:
        tree = ast.parse(path.read_bytes(), str(path))
    except SyntaxError:
        return  # for another Python: its bytes count, and it imports nothing here
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

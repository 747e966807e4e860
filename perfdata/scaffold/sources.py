"""The Python files of a repository, parsed; nothing of them is executed."""

from __future__ import annotations

import ast
import os
from dataclasses import dataclass, field
from pathlib import Path

_FOREIGN = {"node_modules", "site-packages", "dist-packages", "__pycache__", "build", "dist"}
# More is no application, but a folder with everything in it.
_MOST_FILES = 5_000


@dataclass(frozen=True)
class SourceModule:
    """A module: its name as the application imports it, its file, and its syntax tree."""

    name: str
    path: Path
    tree: ast.Module = field(repr=False, compare=False)


def list_files(root: Path) -> list[Path]:
    """Return the files below a folder; hidden folders and installed packages are left out."""
    found: list[Path] = []
    for text, folders, names in os.walk(root):
        folder = Path(text)
        folders[:] = sorted(
            name
            for name in folders
            if name not in _FOREIGN
            and not name.startswith(".")
            and not (folder / name / "pyvenv.cfg").is_file()
        )
        found += (folder / name for name in sorted(names))
        if len(found) > _MOST_FILES:
            break
    return found


def read_modules(root: Path, files: list[Path]) -> list[SourceModule]:
    """Parse the Python files, apart from tests; those with syntax errors are left out."""
    modules = []
    for path in files:
        parts = path.relative_to(root).parts
        if path.suffix != ".py" or {"test", "tests"}.intersection(parts):
            continue
        try:
            tree = ast.parse(path.read_bytes())
        except (OSError, SyntaxError, ValueError):
            continue
        modules.append(SourceModule(module_name(parts), path, tree))
    return modules


def module_name(parts: tuple[str, ...]) -> str:
    """Return the name of the module in a file, given the file's path from the root."""
    inside = parts[1:] if parts[0] == "src" else parts
    names = [*inside[:-1], inside[-1].removesuffix(".py")]
    return ".".join(names[:-1] if names[-1] == "__init__" and names[1:] else names)


def last_name(node: ast.expr | None) -> str:
    """Return the last part of a dotted name, of what is called or of what is subscripted, or ""."""
    if isinstance(node, ast.Call):
        return last_name(node.func)
    if isinstance(node, ast.Subscript):
        return last_name(node.value)
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def constant(node: ast.expr | None) -> object:
    """Return the value of a constant, None for any other expression."""
    return node.value if isinstance(node, ast.Constant) else None

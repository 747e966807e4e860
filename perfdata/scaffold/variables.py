"""The environment variables from which an application reads its database's address."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

from perfdata.scaffold.sources import constant, last_name
from perfdata.variables import placeholder_for, read_dotenv

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from perfdata.scaffold.sources import SourceModule

_READERS = {"getenv", "config", "env"}
_DRIVER = re.compile(r"""postgres(?:ql)?\+(\w+)://""")
_PARTS = "{user}:{password}@{host}:{port}/{database}"


def find_variables(
    root: Path, files: Sequence[Path], modules: Sequence[SourceModule]
) -> dict[str, str]:
    """Return the variables that name a database, each with the value that leads to the target.

    The values have placeholders such as ``{url}``. A URL keeps the driver that the code's default
    or a ``.env`` file gives it.
    """
    examples = _example_values(root, files)
    found: dict[str, str] = {}
    for module in modules:
        for name, default in _read_in(module):
            placeholder = placeholder_for(name)
            if placeholder == "{url}":
                driver = _DRIVER.search(f"{default} {examples.get(name, '')}")
                if driver:
                    placeholder = f"postgresql+{driver[1]}://{_PARTS}"
            if placeholder and found.get(name) in {None, "{url}"}:
                found[name] = placeholder
    return dict(sorted(found.items()))


def _read_in(module: SourceModule) -> Iterator[tuple[str, object]]:
    """Yield the variables that a module reads, with their defaults."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ClassDef):
            if any(last_name(base) == "BaseSettings" for base in node.bases):
                yield from _settings_fields(node)
        elif isinstance(node, ast.Subscript) and last_name(node.value) == "environ":
            yield from _named(node.slice, None)
        elif isinstance(node, ast.Call) and node.args:
            of_environ = (
                isinstance(node.func, ast.Attribute)
                and node.func.attr in {"get", "pop", "setdefault"}
                and last_name(node.func.value) == "environ"
            )
            if of_environ or last_name(node) in _READERS:
                yield from _named(node.args[0], node.args[1] if node.args[1:] else None)


def _named(node: ast.expr, default: ast.expr | None) -> Iterator[tuple[str, object]]:
    if isinstance(name := constant(node), str):
        yield name, constant(default)


def _settings_fields(node: ast.ClassDef) -> Iterator[tuple[str, object]]:
    """Yield the variables of a pydantic BaseSettings: its fields' names, with its env_prefix."""
    prefix = ""
    for part in ast.walk(node):
        if isinstance(part, ast.keyword) and part.arg == "env_prefix":
            prefix = str(constant(part.value) or "")
    for field in node.body:
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            yield f"{prefix}{field.target.id}".upper(), constant(field.value)


def _example_values(root: Path, files: Sequence[Path]) -> dict[str, str]:
    """Return the values of ``.env`` files; they serve to recognise a URL's driver only."""
    values: dict[str, str] = {}
    for path in [*files, root / ".env"]:
        if path.name.startswith(".env"):
            values |= read_dotenv(path)
    return values

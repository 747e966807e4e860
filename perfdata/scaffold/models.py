"""The tables of an application's models, found by reading its source."""

from __future__ import annotations

import ast
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from perfdata.scaffold.columns import ModelColumn, class_column, core_column
from perfdata.scaffold.sources import constant, last_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from perfdata.scaffold.sources import SourceModule

_BASES = {"DeclarativeBase", "DeclarativeBaseNoMeta", "MappedAsDataclass", "SQLModel"}
_BASE_CALLS = {"declarative_base", "generate_base", "automap_base"}
_CONSTRAINTS = {"CheckConstraint", "ForeignKeyConstraint", "ExcludeConstraint"}


@dataclass(frozen=True)
class ModelTable:
    """A table that a model or a Table defines.

    ``base`` is the name of the declarative base or the MetaData. ``constrained`` says that it has
    constraints which rows may violate.
    """

    name: str
    module: str
    base: str
    columns: tuple[ModelColumn, ...]
    constrained: bool


@dataclass(frozen=True)
class Models:
    """The tables of a repository, and the modules that bind each base, the defining one first."""

    tables: tuple[ModelTable, ...]
    base: str = ""
    binding: tuple[str, ...] = ()

    @property
    def modules(self) -> list[str]:
        """The modules that define tables."""
        return sorted({table.module for table in self.tables})

    @property
    def metadata(self) -> str:
        """The MetaData as an expression: ``Base.metadata``, or the MetaData's name."""
        is_metadata = any(table.base == f"{self.base}()" for table in self.tables)
        return self.base if is_metadata else f"{self.base}.metadata"


@dataclass(frozen=True)
class _Class:
    node: ast.ClassDef
    module: SourceModule


def read_models(modules: Sequence[SourceModule]) -> Models:
    """Return the tables of the declarative base, or the MetaData, that has most of them."""
    classes = {
        node.name: _Class(node, module)
        for module in modules
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ClassDef)
    }
    called = {
        name
        for module in modules
        for name, value in _assignments(module)
        if last_name(value) in _BASE_CALLS
    }
    tables = [*_class_tables(classes, called)]
    for module in modules:
        tables += _core_tables(module)
    if not tables:
        return Models(())
    base = Counter(table.base for table in tables).most_common(1)[0][0]
    name = base.removesuffix("()")
    binding = [module for module in modules if name in _bound(module)]
    binding.sort(key=lambda module: name not in _defined(module))
    return Models(
        tuple(table for table in tables if table.base == base),
        name,
        tuple(module.name for module in binding),
    )


def _class_tables(classes: dict[str, _Class], called: set[str]) -> Iterator[ModelTable]:
    for found in classes.values():
        bases = list(_ancestors(found.node.name, classes))
        roots = [name for name in bases if _is_root(name, classes, called)]
        if not roots or found.node.name in roots:
            continue
        sqlmodel = "SQLModel" in roots
        name = _table_name(found.node, sqlmodel=sqlmodel)
        if not name:
            continue
        columns: dict[str, ModelColumn] = {}
        constrained = False
        for ancestor in reversed([found.node.name, *bases]):
            if ancestor in classes:
                body = classes[ancestor].node.body
                constrained |= _constrained(body)
                for node in body:
                    column = class_column(node, sqlmodel=sqlmodel)
                    if column is not None:
                        columns[column.name] = column
        base = "SQLModel" if sqlmodel else roots[0]
        yield ModelTable(name, found.module.name, base, tuple(columns.values()), constrained)


def _ancestors(name: str, classes: dict[str, _Class]) -> Iterator[str]:
    """Yield the names of a class's bases, and of theirs."""
    waiting, seen = [name], {name}
    while waiting:
        found = classes.get(waiting.pop(0))
        for base in found.node.bases if found else ():
            if (ancestor := last_name(base)) and ancestor not in seen:
                seen.add(ancestor)
                yield ancestor
                waiting.append(ancestor)


def _is_root(name: str, classes: dict[str, _Class], called: set[str]) -> bool:
    if name in called or name == "SQLModel":
        return True
    found = classes.get(name)
    return (
        found is not None
        and any(last_name(base) in _BASES for base in found.node.bases)
        and ("SQLModel" not in {last_name(base) for base in found.node.bases})
    )


def _table_name(node: ast.ClassDef, *, sqlmodel: bool) -> str:
    named, schema = "", ""
    for statement in node.body:
        if isinstance(statement, ast.Assign):
            target, value = last_name(statement.targets[0]), statement.value
        elif isinstance(statement, ast.AnnAssign) and statement.value is not None:
            target, value = last_name(statement.target), statement.value
        else:
            continue
        if target == "__tablename__":
            named = str(constant(value) or "")
        elif target == "__table_args__":
            schema = _schema(value)
    if not named and sqlmodel:
        is_table = any(
            keyword.arg == "table" and constant(keyword.value) is True for keyword in node.keywords
        )
        named = node.name.lower() if is_table else ""
    return f"{schema}.{named}" if named and schema else named


def _schema(node: ast.expr) -> str:
    for part in ast.walk(node):
        if isinstance(part, ast.Dict):
            for key, value in zip(part.keys, part.values, strict=True):
                if constant(key) == "schema":
                    return str(constant(value) or "")
    return ""


def _constrained(body: Sequence[ast.AST]) -> bool:
    return any(
        isinstance(part, ast.Call) and last_name(part) in _CONSTRAINTS
        for node in body
        for part in ast.walk(node)
    )


def _core_tables(module: SourceModule) -> Iterator[ModelTable]:
    """Yield the tables of ``Table("name", metadata, Column(…), …)`` of a MetaData() anywhere."""
    for node in ast.walk(module.tree):
        if not isinstance(node, ast.Call) or last_name(node) != "Table" or len(node.args) < 2:  # noqa: PLR2004
            continue
        name, metadata = constant(node.args[0]), node.args[1]
        if not isinstance(name, str) or not isinstance(metadata, ast.Name):
            continue
        schema = next((constant(k.value) for k in node.keywords if k.arg == "schema"), None)
        columns = tuple(filter(None, map(core_column, node.args[2:])))
        yield ModelTable(
            f"{schema}.{name}" if schema else name,
            module.name,
            f"{metadata.id}()",
            columns,
            _constrained([node]),
        )


def _assignments(module: SourceModule) -> Iterator[tuple[str, ast.expr]]:
    for node in module.tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            yield node.targets[0].id, node.value
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            yield last_name(node.target), node.value


def _defined(module: SourceModule) -> set[str]:
    classes = {node.name for node in module.tree.body if isinstance(node, ast.ClassDef)}
    return classes | {name for name, _ in _assignments(module)}


def _bound(module: SourceModule) -> set[str]:
    """Return the names that a module's top level defines or imports."""
    imported = {
        alias.asname or alias.name
        for node in module.tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    return _defined(module) | imported

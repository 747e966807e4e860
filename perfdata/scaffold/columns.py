"""Columns of models, read from their definitions in SQLAlchemy's and SQLModel's forms."""

from __future__ import annotations

import ast
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from perfdata.scaffold.sources import constant, last_name

if TYPE_CHECKING:
    from collections.abc import Iterator

_KINDS = {
    "integer": "Integer BigInteger SmallInteger INTEGER BIGINT SMALLINT int",
    "text": "String Text Unicode UnicodeText VARCHAR TEXT CITEXT AutoString str EmailStr",
    "boolean": "Boolean BOOLEAN bool",
    "date": "Date DATE date",
    "timestamp": "DateTime TIMESTAMP datetime",
    "number": "Numeric NUMERIC DECIMAL Decimal Float FLOAT Double float",
    "uuid": "Uuid UUID",
    "json": "JSON JSONB",
}
_KIND = {name: kind for kind, names in _KINDS.items() for name in names.split()}
_WRAPPERS = {"Mapped", "Optional", "Annotated"}
_MAPPED = {"mapped_column", "Column", "Field"}
_FILLED_IN = {"Identity", "FetchedValue", "Sequence"}


@dataclass(frozen=True)
class ModelColumn:
    """A column; ``kind`` is empty if the type is unknown, ``length`` None without a limit."""

    name: str
    kind: str = ""
    length: int | None = None
    nullable: bool = False
    has_default: bool = False
    primary_key: bool = False
    references: str = ""

    @property
    def required(self) -> bool:
        """Whether a row must give a value."""
        return self.primary_key or not (self.nullable or self.has_default)


def class_column(node: ast.stmt, *, sqlmodel: bool) -> ModelColumn | None:
    """Return the column that a statement in a model's body defines, None if it defines none."""
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
        if last_name(node.value) not in {"Column", "mapped_column"}:
            return None
        return _from_call(ModelColumn(node.targets[0].id, nullable=True), node.value)
    if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
        return None
    is_call = isinstance(node.value, ast.Call)
    foreign_call = is_call and last_name(node.value) not in _MAPPED
    mapped = last_name(node.annotation) == "Mapped"
    if foreign_call or not (mapped or sqlmodel) or last_name(node.annotation) == "ClassVar":
        return None
    kind, nullable = _from_annotation(node.annotation)
    column = ModelColumn(node.target.id, kind, nullable=nullable)
    return _from_call(column, node.value) if is_call else column


def core_column(call: ast.expr) -> ModelColumn | None:
    """Return the column of ``Column("name", …)`` in a Table, None for other arguments."""
    if not isinstance(call, ast.Call) or last_name(call) != "Column" or not call.args:
        return None
    return _from_call(ModelColumn("", nullable=True), call)


def _from_annotation(node: ast.expr) -> tuple[str, bool]:
    """Return the kind and whether None is allowed."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return _from_annotation(ast.parse(node.value, mode="eval").body)
    if isinstance(node, ast.BinOp):  # X | None
        sides = [node.left, node.right]
        others = [side for side in sides if constant(side) is not None or last_name(side)]
        kind, nullable = _from_annotation(others[0]) if others else ("", False)
        return kind, nullable or len(others) < len(sides)
    if isinstance(node, ast.Subscript) and (name := last_name(node)) in _WRAPPERS:
        inside = node.slice.elts[0] if isinstance(node.slice, ast.Tuple) else node.slice
        kind, nullable = _from_annotation(inside)
        return kind, nullable or name == "Optional"
    return "" if isinstance(node, ast.Subscript) else _KIND.get(last_name(node), ""), False


def _from_call(column: ModelColumn, node: ast.expr | None) -> ModelColumn:
    """Apply the arguments of mapped_column, Column or Field."""
    if not isinstance(node, ast.Call):
        return column
    for argument in node.args:
        column = _from_argument(column, argument)
    for name, value in _keywords(node):
        if name == "sa_column":
            column = _from_call(replace(column, nullable=True), value)
        elif name in {"primary_key", "nullable"}:
            flags: dict[str, Any] = {name: constant(value) is True}
            column = replace(column, **flags)
        elif name == "server_default":
            column = replace(column, has_default=True)
        elif name == "foreign_key" and isinstance(text := constant(value), str):
            column = replace(column, references=text.rpartition(".")[0])
        elif name == "max_length" and isinstance(length := constant(value), int):
            column = replace(column, length=length)
        elif name in {"sa_type", "type_"}:
            column = _from_argument(column, value)
    return column


def _keywords(node: ast.Call) -> Iterator[tuple[str, ast.expr]]:
    for keyword in node.keywords:
        if keyword.arg is not None:
            yield keyword.arg, keyword.value


def _from_argument(column: ModelColumn, node: ast.expr) -> ModelColumn:
    """Apply a positional argument: the name, the type, a foreign key or a default."""
    name = last_name(node)
    first = node.args[0] if isinstance(node, ast.Call) and node.args else None
    if isinstance(text := constant(node), str):
        return replace(column, name=text)
    if name == "ForeignKey":
        target = constant(first)
        known = isinstance(target, str)
        return replace(column, references=str(target).rpartition(".")[0] if known else "?")
    if name in _FILLED_IN or name == "Computed":
        return replace(column, has_default=True)
    length = constant(first)
    is_text = _KIND.get(name) == "text"
    return replace(
        column,
        kind=_KIND.get(name, ""),
        length=length if is_text and isinstance(length, int) else column.length,
    )

"""The model of a database's tables: columns, foreign keys and sequences."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, LiteralString

from psycopg import sql

from perfdata.errors import SchemaError
from perfdata.postgres.types import render_type
from perfdata.text import join_first

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from perfdata.postgres.types import TypeDetail

_OUTPUTS: dict[str, LiteralString] = {
    "cast": "{}::text",
    "bpchar": "textin(bpcharout({}))",
    "format": "CASE WHEN {0} IS NOT DISTINCT FROM NULL THEN NULL ELSE format('%s', {0}) END",
}


@dataclass(frozen=True)
class Column:
    """One column.

    ``base`` is the type without modifiers, with domains resolved to their base type. ``output`` is
    the way to get a value's text, a key of ``_OUTPUTS``. ``detail`` describes a user-defined type;
    ``labels`` are those of the column's own enum type.
    """

    name: str
    type: str
    base: str
    not_null: bool
    generated: bool
    output: str
    labels: Sequence[str]
    has_default: bool
    detail: TypeDetail

    def text(self, *qualifier: str) -> sql.Composed:
        """Make the expression for a value's text, which calls no user-defined cast."""
        return sql.SQL(_OUTPUTS[self.output]).format(sql.Identifier(*qualifier, self.name))

    @property
    def as_text(self) -> bool:
        """Whether to compare values as text, since the type's operators are not in pg_catalog.

        Then two citext keys that differ only in case count as different. What this misses, the
        foreign key's own check finds at the end of a load, which is then rolled back.
        """
        return self.output == "format"

    def described(self) -> str:
        """Describe what decides whether a value fits: the type, its definition, and nullability.

        Two types of the same name may have different attributes, labels or base types.
        """
        return f"{self.type}{render_type(self.detail)}{' not null' if self.not_null else ''}"

    def described_in_short(self) -> str:
        """Describe the column as older snapshots do: of a type's definition, only enum labels."""
        labels = f" ({', '.join(self.labels)})" if self.labels else ""
        return f"{self.type}{labels}{' not null' if self.not_null else ''}"


@dataclass(frozen=True)
class Relation:
    """The name of a table or a partition."""

    schema: str
    name: str
    partitioned: bool

    @property
    def identifier(self) -> sql.Identifier:
        """The qualified name, as SQL."""
        return sql.Identifier(self.schema, self.name)

    @property
    def only(self) -> sql.Composed:
        """The operand of FROM or TRUNCATE, without tables that inherit from this one."""
        return sql.SQL("{}" if self.partitioned else "ONLY {}").format(self.identifier)


@dataclass(frozen=True)
class VersionTable(Relation):
    """Alembic's version table; ``denied`` is the current role, as SQL, if it may not read it."""

    denied: str | None

    @property
    def written(self) -> str:
        """The name as SQL, without the schema if that is public."""
        return self.name if self.schema == "public" else self.identifier.as_string(None)


@dataclass(frozen=True)
class Table(Relation):
    """A table, or the root of a partitioned one, with its columns in order.

    ``hidden`` tells that row-level security applies to the current role.
    """

    oid: int
    hidden: bool
    primary_key: Sequence[str]
    columns: Sequence[Column]

    @property
    def key(self) -> str:
        """The table's name in snapshots and messages; see ``table_key``."""
        return table_key(self.schema, self.name)

    @cached_property
    def stored(self) -> tuple[Column, ...]:
        """The columns that a COPY contains: all but the generated ones."""
        return tuple(column for column in self.columns if not column.generated)

    def column(self, name: str) -> Column:
        """Return the column of that name."""
        return next(column for column in self.columns if column.name == name)

    def column_key(self, name: str) -> str:
        """Return a column's name in settings and messages: the table's key, then the column."""
        return f"{self.key}.{_written(name)}"

    def has_flag(self, flag_column: str) -> bool:
        """Tell whether the table has the boolean flag column."""
        return any(c.name == flag_column and c.base == "boolean" for c in self.columns)


@dataclass(frozen=True)
class ForeignKey:
    """A foreign key, with all that is needed to create it again.

    ``child`` and ``parent`` are the oids of tables. ``referencing`` and ``referenced`` are the
    relations that the key is defined on: these tables, or single partitions of them. In a key with
    ``period``, the last columns match if they overlap.
    """

    oid: int = field(compare=False)  # changes when a load drops the key and creates it again
    name: str
    child: int
    parent: int
    referencing: Relation
    referenced: Relation
    definition: str
    comment: str | None
    child_columns: Sequence[str]
    parent_columns: Sequence[str]
    period: bool

    @property
    def unchecked(self) -> bool:
        """Whether rows may violate the key, because it is NOT VALID or NOT ENFORCED."""
        return self.definition.endswith((" NOT VALID", " NOT ENFORCED"))

    def join(self, catalog: Catalog, child: str | None, parent: str) -> sql.Composed:
        """Make the condition under which row ``child`` references row ``parent``, both aliases.

        ``child`` None is the referencing relation under its own name.
        """
        own = (self.referencing.schema, self.referencing.name)
        qualifier = own if child is None else (child,)
        child_columns = map(catalog.by_oid[self.child].column, self.child_columns)
        parent_columns = map(catalog.by_oid[self.parent].column, self.parent_columns)
        conditions = []
        for column, referenced in zip(child_columns, parent_columns, strict=True):
            sides: list[sql.Composable] = [
                sql.Identifier(*qualifier, column.name),
                sql.Identifier(parent, referenced.name),
            ]
            overlaps = self.period and column.name == self.child_columns[-1]
            if not overlaps and (column.as_text or referenced.as_text):
                sides = [column.text(*qualifier), referenced.text(parent)]
            conditions.append(sql.SQL(" && " if overlaps else " = ").join(sides))
        return sql.SQL(" AND ").join(conditions)


@dataclass(frozen=True)
class ColumnSequence:
    """A sequence and a column whose values come from it; ``table`` is an oid."""

    schema: str
    name: str
    table: int
    column: str
    increment: int
    minimum: int
    maximum: int

    @property
    def identifier(self) -> sql.Identifier:
        """The qualified name, as SQL."""
        return sql.Identifier(self.schema, self.name)


@dataclass(frozen=True)
class Catalog:
    """The tables of a database: parents before children, as far as cycles allow.

    Alembic's version tables are in ``versions`` and not in ``tables``.
    """

    tables: tuple[Table, ...]
    foreign_keys: tuple[ForeignKey, ...]
    sequences: tuple[ColumnSequence, ...]
    versions: tuple[VersionTable, ...]

    @cached_property
    def by_key(self) -> Mapping[str, Table]:
        """The tables by their key."""
        return {table.key: table for table in self.tables}

    @cached_property
    def by_oid(self) -> Mapping[int, Table]:
        """The tables by their oid."""
        return {table.oid: table for table in self.tables}

    def table(self, key: str) -> Table:
        """Return the table of that key, or raise SchemaError."""
        try:
            return self.by_key[key]
        except KeyError:
            raise self._no_table(key) from None

    def _no_table(self, key: str) -> SchemaError:
        close = difflib.get_close_matches(key, self.by_key, n=1)
        others = f"it has: {join_first(sorted(self.by_key)) or 'none'}"
        return SchemaError(
            f"the database has no table {key}; {f'did you mean {close[0]}?' if close else others}",
            remedy="Tables come from the project's migrations, or from its metadata: correct the "
            "name, or add what makes the table",
        )

    def flagged(self, flag_column: str) -> tuple[Table, ...]:
        """Return the tables that have the flag column."""
        return tuple(table for table in self.tables if table.has_flag(flag_column))


def table_key(schema: str, name: str) -> str:
    """Return the name for snapshots and messages: ``table`` in public, else ``schema.table``."""
    parts = [name] if schema == "public" else [schema, name]
    return ".".join(map(_written, parts))


def _written(part: str) -> str:
    """Quote a part of a name in which a dot or a quotation mark would mislead."""
    return '"' + part.replace('"', '""') + '"' if "." in part or '"' in part else part


def json_rows(
    table: Table, where: sql.Composable, columns: Sequence[str] | None = None
) -> sql.Composed:
    """Make the query for a table's rows, each as a JSON array of texts.

    ``columns`` defaults to all stored ones.
    """
    chosen = table.stored if columns is None else [table.column(name) for name in columns]
    values = sql.SQL(", ").join(column.text() for column in chosen)
    return sql.SQL("SELECT array_to_json(ARRAY[{}]::text[]) FROM {} WHERE {}").format(
        values, table.only, where
    )

"""The tables of a database: their columns, foreign keys and sequences, in foreign-key order."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, LiteralString

from psycopg import sql

from perfdata.errors import SchemaError
from perfdata.postgres.types import render_type

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
    """One column; ``output`` says how its text is taken (cast, bpchar or format).

    ``base`` is the type itself, or what a domain is made of, with no modifier; ``detail`` what a
    type that somebody made is made of, ``labels`` those of an enum itself.
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

    def text(self, alias: str | None = None) -> sql.Composed:
        """Make the expression for its output text, which runs no code of the type's owner."""
        name = sql.Identifier(*([alias, self.name] if alias else [self.name]))
        return sql.SQL(_OUTPUTS[self.output]).format(name)

    @property
    def as_text(self) -> bool:
        """Whether the column is compared as text: operators of its type stand outside pg_catalog.

        Two citext keys that differ in case alone are then taken for two. What that misses the
        foreign key itself finds when it is checked at the end: all is rolled back.
        """
        return self.output == "format"

    def described(self) -> str:
        """Say what decides whether rows fit: the type, what it is made of, whether null may stand.

        By name alone a composite's attributes and a domain's base would load what they are not.
        """
        return f"{self.type}{render_type(self.detail)}{' not null' if self.not_null else ''}"

    def described_in_short(self) -> str:
        """Say as much of it as older snapshots do: of what somebody made, enums' labels alone."""
        labels = f" ({', '.join(self.labels)})" if self.labels else ""
        return f"{self.type}{labels}{' not null' if self.not_null else ''}"


@dataclass(frozen=True)
class Relation:
    """A table or a partition by its name."""

    schema: str
    name: str
    partitioned: bool

    @property
    def identifier(self) -> sql.Identifier:
        """The quoted, qualified name."""
        return sql.Identifier(self.schema, self.name)

    @property
    def only(self) -> sql.Composed:
        """What stands behind FROM or TRUNCATE: its own rows, or all its partitions'."""
        return sql.SQL("{}" if self.partitioned else "ONLY {}").format(self.identifier)


@dataclass(frozen=True)
class VersionTable(Relation):
    """A table of Alembic's own; ``denied`` is the role, as SQL, where that may not read it."""

    denied: str | None

    @property
    def written(self) -> str:
        """The name as SQL that is shown."""
        return self.name if self.schema == "public" else self.identifier.as_string(None)


@dataclass(frozen=True)
class Table(Relation):
    """One table (for partitions: the root), with its columns in order.

    ``hidden`` tells that row-level security keeps rows from this role.
    """

    oid: int
    hidden: bool
    primary_key: Sequence[str]
    columns: Sequence[Column]

    @property
    def key(self) -> str:
        """The name in snapshots and messages: bare in schema public, else ``schema.table``."""
        return table_key(self.schema, self.name)

    @cached_property
    def stored(self) -> tuple[Column, ...]:
        """The columns that rows bring: all but the generated ones."""
        return tuple(column for column in self.columns if not column.generated)

    def column(self, name: str) -> Column:
        """Return the column of that name."""
        return next(column for column in self.columns if column.name == name)

    def has_flag(self, flag_column: str) -> bool:
        """Tell whether the table has the boolean flag column."""
        return any(c.name == flag_column and c.base == "boolean" for c in self.columns)


@dataclass(frozen=True)
class ForeignKey:
    """One foreign key, as it is to be put back.

    ``child`` and ``parent`` are tables, by oid; ``referencing`` and ``referenced`` what the key
    itself stands on: the tables, or single partitions of theirs. With ``period`` the last columns
    match where they overlap.
    """

    oid: int = field(compare=False)  # a load gives it another
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
        """Whether rows may be there that break it: NOT VALID, or NOT ENFORCED."""
        return self.definition.endswith((" NOT VALID", " NOT ENFORCED"))

    def join(self, catalog: Catalog, child: str, parent: str) -> sql.Composed:
        """Make the condition under which a row (alias ``child``) references another."""
        referencing = map(catalog.by_oid[self.child].column, self.child_columns)
        referenced = map(catalog.by_oid[self.parent].column, self.parent_columns)
        conditions = []
        for one, other in zip(referencing, referenced, strict=True):
            sides: list[sql.Composable] = [
                sql.Identifier(child, one.name),
                sql.Identifier(parent, other.name),
            ]
            overlaps = self.period and one.name == self.child_columns[-1]
            if not overlaps and (one.as_text or other.as_text):
                sides = [one.text(child), other.text(parent)]
            conditions.append(sql.SQL(" && " if overlaps else " = ").join(sides))
        return sql.SQL(" AND ").join(conditions)


@dataclass(frozen=True)
class ColumnSequence:
    """One sequence and the column that it feeds."""

    schema: str
    name: str
    table: int
    column: str
    increment: int
    minimum: int
    maximum: int

    @property
    def identifier(self) -> sql.Identifier:
        """The quoted, qualified name."""
        return sql.Identifier(self.schema, self.name)


@dataclass(frozen=True)
class Catalog:
    """The tables of a database, parents before children as far as cycles allow.

    ``versions`` are Alembic's own, which are among no others.
    """

    tables: tuple[Table, ...]
    foreign_keys: tuple[ForeignKey, ...]
    sequences: tuple[ColumnSequence, ...]
    versions: tuple[VersionTable, ...]

    @cached_property
    def by_key(self) -> Mapping[str, Table]:
        """The tables by the name that snapshots use."""
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
            raise SchemaError(f"the database has no table {key}") from None

    def flagged(self, flag_column: str) -> tuple[Table, ...]:
        """Return the tables that have the flag column."""
        return tuple(table for table in self.tables if table.has_flag(flag_column))


def table_key(schema: str, name: str) -> str:
    """Name a table for people: ``table`` in schema public, else ``schema.table``."""
    parts = [name] if schema == "public" else [schema, name]
    return ".".join(_quoted(part) if "." in part or '"' in part else part for part in parts)


def _quoted(part: str) -> str:
    return '"' + part.replace('"', '""') + '"'


def json_rows(
    table: Table, where: sql.Composable, columns: Sequence[str] | None = None
) -> sql.Composed:
    """Make the query for a table's rows, each as one JSON array of texts.

    ``columns`` are all stored ones unless they are named.
    """
    chosen = table.stored if columns is None else [table.column(name) for name in columns]
    values = sql.SQL(", ").join(column.text() for column in chosen)
    return sql.SQL("SELECT array_to_json(ARRAY[{}]::text[]) FROM {} WHERE {}").format(
        values, table.only, where
    )

"""Models: the fields of a SQLAlchemy model or Table, with its types and Python-side defaults."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import psycopg
import sqlalchemy
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.orm import Mapper
from sqlalchemy.orm.exc import UnmappedColumnError

from perfdata.errors import ConfigError, SchemaError
from perfdata.load.rows.defaults import column_default
from perfdata.load.rows.fields import Field, Fields
from perfdata.text import join_first

if TYPE_CHECKING:
    from collections.abc import Callable

    from perfdata.load.rows.fields import Default, Origin
    from perfdata.postgres.catalog import Table


def mapper_of(model: object) -> Mapper[Any] | None:
    """Return a model's mapper; None for a Table.

    Raises ConfigError for a model of several tables (joined inheritance).
    """
    inspected: Any = sqlalchemy.inspect(model, raiseerr=False)
    if not isinstance(inspected, Mapper):
        return None
    if len(inspected.tables) > 1:
        names = ", ".join(sorted(str(table) for table in inspected.tables))
        raise ConfigError(
            f"model {inspected.class_.__name__} has the tables {names}: give the rows of each as "
            "dicts, with TableRows(Model.__table__, rows=…)"
        )
    return inspected


def model_fields(model: Any, table: Table, origin: Origin) -> Fields:
    """Return the fields of a model or Table.

    Raises SchemaError if the database's table lacks a column of the model.
    """
    mapper = mapper_of(model)
    columns = _columns(model if mapper is None else mapper.local_table)
    stored = {column.name: column for column in table.columns}
    if missing := [column.name for column in columns if column.name not in stored]:
        raise SchemaError(
            f"{origin.name}: table {table.key} lacks these columns of its model: "
            f"{join_first(missing)}",
            remedy="Run the project's migrations",
        )
    dialect: Any = PGDialect_psycopg(dbapi=psycopg)  # type: ignore[no-untyped-call]
    factories = _factories(model)
    fields = []
    for column in columns:
        if stored[column.name].generated:
            continue
        key = attribute_of(mapper, column) or column.key
        default = column_default(column, factories.get(key), origin, table.key)
        fields.append(
            Field(
                stored[column.name],
                frozenset({key, column.key}),
                column.type.dialect_impl(dialect).bind_processor(dialect),
                default or _mapper_default(mapper, column),
                takes_none=column.type.should_evaluate_none,
            )
        )
    return Fields(table, fields, origin)


def _columns(table: Any) -> list[sqlalchemy.Column[Any]]:
    return list(table.columns)


def attribute_of(mapper: Mapper[Any] | None, column: sqlalchemy.Column[Any]) -> str | None:
    """Return the name of the attribute that a column is mapped to, or None."""
    if mapper is None:
        return None
    try:
        return mapper.get_property_by_column(column).key
    except UnmappedColumnError:
        return None


def _factories(model: object) -> dict[str, Callable[[], Any]]:
    """Return the default_factory of each attribute of a MappedAsDataclass."""
    if not dataclasses.is_dataclass(model):
        return {}
    return {
        field.name: field.default_factory
        for field in dataclasses.fields(model)
        if field.default_factory is not dataclasses.MISSING
    }


def _mapper_default(mapper: Mapper[Any] | None, column: object) -> Default | None:
    """Return the default of a column that the mapper fills: a row's class, its first version."""
    if mapper is not None and column is mapper.polymorphic_on:
        return lambda _row, _values: mapper.polymorphic_identity
    if mapper is not None and column is mapper.version_id_col and mapper.version_id_generator:
        first = mapper.version_id_generator(None)
        return lambda _row, _values: first
    return None

"""Unsaved instances of models: their values, their keys, and keys for their relationships.

As a flush would, this sets on the instances what they get: keys, defaults and foreign keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy
from sqlalchemy.orm import RelationshipDirection
from sqlalchemy.orm.attributes import set_committed_value

from perfdata.errors import LoadError
from perfdata.load.rows.fields import MISSING
from perfdata.load.rows.models import attribute_of, mapper_of
from perfdata.load.rows.readers import Reader
from perfdata.postgres.catalog import table_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from sqlalchemy.orm import Mapper

    from perfdata.load.rows.fields import Field, Fields, Numbers

_SHOWN = 3  # attributes of an instance in an error


class _Relation(NamedTuple):
    """A relationship: the attributes of the referencing and of the referenced instance."""

    name: str
    pairs: Sequence[tuple[str, str]]
    described: str
    secondary: Any


class _Mapped(NamedTuple):
    """What is read of the instances of one class; ``attributes`` by column."""

    attributes: Mapping[str, str]
    parents: Sequence[_Relation]
    children: Sequence[_Relation]
    links: Sequence[_Relation]


class InstanceReader(Reader):
    """Reads instances; all have the columns of the first one, or those of ``columns``."""

    def __init__(
        self, fields: Fields, columns: Iterable[str], first: Any, numbers: Numbers
    ) -> None:
        self.fields = fields
        self._numbers = numbers
        self._classes: dict[type, _Mapped] = {}
        mapped = self._mapped(first, 1)
        self._serial: str | None = None
        if fields.origin.seed is not None:  # else the server numbers them, after existing rows
            column = _table_of(sqlalchemy.inspect(first).mapper).autoincrement_column
            self._serial = None if column is None else column.name
        named = [fields.named(name) for name in columns]
        chosen = named or [field for field in fields.all if self._filled(field, first, mapped)]
        super().__init__(fields, chosen)
        self._left = [field for field in fields.all if field not in self.chosen]

    def values(self, row: Any, number: int) -> list[Any]:
        """Return an instance's values, in the order of the chosen fields."""
        mapped = self._mapped(row, number)
        for relation in mapped.parents:
            self._take_key(row, relation, number)
        made = self._made_by_class(row)
        values: dict[str, Any] = {}
        for field in self.chosen:
            attribute = mapped.attributes.get(field.name)
            value = row.__dict__.get(attribute, MISSING)
            if value is MISSING or attribute in made or (value is None and not field.takes_none):
                value = self._missing(field, number, values)
                if attribute is not None and value is not MISSING:
                    set_committed_value(row, attribute, value)
            values[field.name] = value
        if self._serial is not None and isinstance(values.get(self._serial), int):
            self._numbers.key = max(self._numbers.key, values[self._serial])
        self._refuse_left(row, number, mapped)
        self._give_keys(row, mapped, number)
        return list(values.values())

    def _filled(self, field: Field, first: Any, mapped: _Mapped) -> bool:
        """Tell whether a column is filled: not if it is left to the server's default."""
        if not field.column.has_default or field.name == self._serial:
            return True
        return first.__dict__.get(mapped.attributes.get(field.name)) is not None

    def _missing(self, field: Field, number: int, values: Mapping[str, Any]) -> Any:
        if field.name == self._serial:
            return self._numbers.key + 1
        return self.fields.missing(field, number, values)

    def _made_by_class(self, row: Any) -> set[str]:
        """Return the attributes whose values SQLModel made, and that the model's defaults replace.

        Not those of the primary key: other instances may have copies of it.
        """
        given = getattr(row, "model_fields_set", None)
        origin, table = self.fields.origin, self.fields.table
        if given is None or origin.seed is None:
            return set()
        made = [f for f in self.chosen if f.default is not None and not f.keys & given]
        for field in made:
            if field.name in table.primary_key:
                origin.note(
                    f"{table.key}.{field.name}: the keys were made when the instances were built, "
                    "so they differ from build to build: set them"
                )
        return {key for f in made if f.name not in table.primary_key for key in f.keys}

    def _refuse_left(self, row: Any, number: int, mapped: _Mapped) -> None:
        for field in self._left:
            attribute = mapped.attributes.get(field.name)
            if row.__dict__.get(attribute) is not None:
                raise self.unexpected(field.name, number)

    def _take_key(self, row: Any, relation: _Relation, number: int) -> None:
        """Set an instance's foreign key to the key of the instance that it references."""
        parent = row.__dict__.get(relation.name)
        if parent is None:
            return
        for attribute, referenced in relation.pairs:
            key = parent.__dict__.get(referenced)
            if key is None:
                table = _key_of(sqlalchemy.inspect(parent).mapper)
                raise LoadError(
                    f"{self.fields.place(number)}: its {relation.name}, {_described(parent)}, has "
                    f"no {referenced} yet: it is in no TableRows before this row",
                    remedy=f"Yield it among the rows of {table} before, or set its {referenced}",
                )
            set_committed_value(row, attribute, key)

    def _give_keys(self, row: Any, mapped: _Mapped, number: int) -> None:
        """Set the foreign keys of the instances in an instance's collections to its key."""
        for relation in mapped.children:
            for child in _members(row.__dict__.get(relation.name)):
                for attribute, referenced in relation.pairs:
                    if (key := row.__dict__.get(referenced)) is None:
                        raise LoadError(
                            f"{self.fields.place(number)}: its {relation.name} reference its "
                            f"{referenced}, which the server makes",
                            remedy=f"Set the {referenced} of the instance",
                        )
                    set_committed_value(child, attribute, key)
        for relation in mapped.links:
            if row.__dict__.get(relation.name):
                name = _name_of(relation.secondary)
                self.fields.origin.links.setdefault(name, relation.described)

    def _mapped(self, row: Any, number: int) -> _Mapped:
        """Describe an instance's class; raise LoadError for one that doesn't fit."""
        if type(row) not in self._classes:
            mapper = mapper_of(type(row))
            if mapper is None:
                raise self.wrong_kind(row, number, "an instance of a model, as the first one")
            if (name := _key_of(mapper)) != self.fields.table.key:
                raise LoadError(
                    f"{self.fields.place(number)}: the row is a {type(row).__name__}, whose table "
                    f"is {name}"
                )
            self._classes[type(row)] = _describe_class(mapper)
        if (state := sqlalchemy.inspect(row)).session is not None or state.key is not None:
            raise LoadError(
                f"{self.fields.place(number)}: {_described(row)} belongs to a Session or was saved",
                remedy="Give unsaved instances: build() instead of create(), no session.add()",
            )
        return self._classes[type(row)]


def _describe_class(mapper: Mapper[Any]) -> _Mapped:
    columns: Iterable[Any] = _table_of(mapper).columns
    attributes = {column.name: attribute_of(mapper, column) for column in columns}
    return _Mapped(
        {name: attribute for name, attribute in attributes.items() if attribute is not None},
        list(_relations(mapper, RelationshipDirection.MANYTOONE)),
        list(_relations(mapper, RelationshipDirection.ONETOMANY)),
        list(_relations(mapper, RelationshipDirection.MANYTOMANY)),
    )


def _relations(mapper: Mapper[Any], direction: RelationshipDirection) -> Iterator[_Relation]:
    for relation in mapper.relationships:
        if relation.direction is not direction or relation.viewonly:
            continue
        pairs: list[tuple[str, str]] = []
        if direction is not RelationshipDirection.MANYTOMANY:
            for local, remote in relation.local_remote_pairs or ():
                own = mapper.get_property_by_column(local).key
                others = relation.mapper.get_property_by_column(remote).key
                forward = direction is RelationshipDirection.MANYTOONE
                pairs.append((own, others) if forward else (others, own))
        yield _Relation(relation.key, pairs, str(relation), relation.secondary)


def _members(collection: Any) -> Iterable[Any]:
    if collection is None:
        return ()
    if isinstance(collection, Mapping):
        return list(collection.values())
    if hasattr(collection, "_sa_instance_state"):  # one to one
        return [collection]
    return list(collection)


def _table_of(mapper: Mapper[Any]) -> Any:
    return mapper.local_table


def _key_of(mapper: Mapper[Any]) -> str:
    return _name_of(mapper.local_table)


def _name_of(table: Any) -> str:
    return table_key(table.schema or "public", table.name)


def _described(row: Any) -> str:
    """Name an instance by its class and first attributes, as its repr may say nothing."""
    attributes = [f"{k}={v!r:.40}" for k, v in row.__dict__.items() if not k.startswith("_")]
    more = ", …" if len(attributes) > _SHOWN else ""
    return f"{type(row).__name__}({', '.join(attributes[:_SHOWN])}{more})"

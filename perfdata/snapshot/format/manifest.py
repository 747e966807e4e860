"""The manifest of a snapshot file, and the checks of a manifest that was read."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

from perfdata.project import Migration

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Predicate = Callable[[Any], bool]

FORMAT = "perfdata/1"


@dataclass(frozen=True)
class Body:
    """The second frame: its size before and after compression, and its SHA-256."""

    bytes: int
    compressed_bytes: int
    sha256: str


@dataclass(frozen=True)
class Requirement:
    """Rows outside the snapshot that its rows reference through one foreign key.

    ``keys`` are the values of ``columns`` of ``table`` as text; ``complete`` is False if there are
    more.
    """

    constraint: str
    table: str
    columns: Sequence[str]
    keys: Sequence[Sequence[str]]
    complete: bool


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The contents of a snapshot, and what they were made from.

    Attributes:
        stats: number of rows by table.
        as_of: the dataset's reference date, or None.
        all_rows: whether it has every row, not only the flagged ones.
        flag_column: the flag, or None if it has all rows.
        migrations: the database's migrations, in the order in which they run.
        dataset_fingerprint: the dataset's, or None for a snapshot that was created by hand.
        key_parts: the parts of the dataset's cache key.
        requires: rows outside the snapshot that its rows reference.
        left_out: tables without the flag.
        whole_tables: tables with all of their rows, in a snapshot of flagged rows.
        flag_through: the foreign keys that flagged rows without the flag reference flagged rows by,
            as in the setting.
        sequences: last value of each sequence, and whether nextval() returned it.
        notes: what the database had and the snapshot lacks.
        schema: by table and column, the type and whether nulls are allowed.
        generated: by table, the generated columns, whose values are not in the file.
        primary_keys: by table, the columns of the primary key.
    """

    format: str = FORMAT
    name: str
    description: str
    created_at: str
    stats: Mapping[str, int]
    as_of: str | None
    all_rows: bool
    flag_column: str | None
    server_version: str
    server_encoding: str
    schema_fingerprint: str
    migrations: tuple[Migration, ...]
    dataset_fingerprint: str | None
    key_parts: Mapping[str, str] = field(default_factory=dict, repr=False)
    requires: tuple[Requirement, ...]
    left_out: Sequence[str]
    whole_tables: Sequence[str] = field(default_factory=list)
    flag_through: Sequence[str] = field(default_factory=list)
    sequences: Mapping[str, tuple[int, bool]] = field(default_factory=dict)
    populated_views: Sequence[str] = field(default_factory=list)
    notes: Sequence[str] = field(default_factory=list)
    schema: Mapping[str, Mapping[str, str]] = field(repr=False)
    generated: Mapping[str, Sequence[str]] = field(default_factory=dict, repr=False)
    primary_keys: Mapping[str, Sequence[str]] = field(default_factory=dict, repr=False)
    body: Body

    @property
    def rows(self) -> int:
        """The number of rows in all tables."""
        return sum(self.stats.values())

    def is_same(self, other: Manifest) -> bool:
        """Tell whether a file would say the same; a tuple is written like a list."""
        return json.dumps(asdict(self)) == json.dumps(asdict(other))

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Manifest:
        """Return the manifest of a parsed first frame; entries of later versions are ignored.

        Raises ValueError, KeyError or TypeError for anything else.
        """
        known = {entry.name for entry in fields(cls)}
        entries = {name: value for name, value in document.items() if name in known}
        _check(entries)
        entries["migrations"] = tuple(Migration(**entry) for entry in entries["migrations"])
        entries["requires"] = tuple(Requirement(**entry) for entry in entries["requires"])
        entries["body"] = Body(**entries["body"])
        return cls(**entries)


def fingerprint_schema(schema: Mapping[str, Mapping[str, str]]) -> str:
    """Hash the tables' columns, independently of the tables' order."""
    text = json.dumps([[name, list(schema[name].items())] for name in sorted(schema)])
    return hashlib.sha256(text.encode()).hexdigest()


def _check(document: Mapping[str, Any]) -> None:
    """Raise ValueError for an entry of the wrong type, or one that contradicts another.

    The constructor finds missing entries.
    """
    for name, value in document.items():
        if name in _TYPES and not _TYPES[name](value):
            raise ValueError(f"its {name} is of the wrong type")
    flagged = not document["all_rows"]
    if flagged != (document["flag_column"] is not None):
        raise ValueError("it must name a flag, or say that it has all rows")
    # A snapshot of flagged rows may change nothing else in a database.
    if flagged and (document.get("sequences") or document.get("populated_views")):
        raise ValueError("it has flagged rows only, and names sequences or views")
    whole = set(document.get("whole_tables", ()))
    if (whole and not flagged) or not whole <= document["stats"].keys() & document["schema"].keys():
        raise ValueError("it lists whole tables that it does not have")
    if document.get("flag_through") and not flagged:
        raise ValueError("it has all rows, and names foreign keys that flag them")


def _is(kind: type) -> Predicate:
    return lambda value: type(value) is kind  # a bool is no int here


def _or_null(known: Predicate) -> Predicate:
    return lambda value: value is None or known(value)


def _list_of(known: Predicate) -> Predicate:
    return lambda value: isinstance(value, list) and all(map(known, value))


def _map_of(known: Predicate) -> Predicate:
    return lambda value: isinstance(value, dict) and all(map(known, value.values()))


def _record(**kinds: Predicate) -> Predicate:
    return lambda value: (
        isinstance(value, dict)
        and value.keys() == kinds.keys()
        and all(known(value[name]) for name, known in kinds.items())
    )


def _is_count(value: Any) -> bool:
    return _is_number(value) and value >= 0


def _is_sequence(value: Any) -> bool:
    return isinstance(value, list) and [type(item) for item in value] == [int, bool]


def _is_requirement(value: Any) -> bool:
    if not _REQUIREMENT(value) or not value["columns"]:
        return False
    return all(len(key) == len(value["columns"]) for key in value["keys"])


_is_text, _is_bool, _is_number = _is(str), _is(bool), _is(int)
_TEXTS = _list_of(_is_text)
_REQUIREMENT = _record(
    constraint=_is_text,
    table=_is_text,
    columns=_TEXTS,
    keys=_list_of(_TEXTS),
    complete=_is_bool,
)
_TYPES: Mapping[str, Predicate] = {
    "name": _is_text,
    "description": _is_text,
    "created_at": _is_text,
    "stats": _map_of(_is_count),
    "as_of": _or_null(_is_text),
    "all_rows": _is_bool,
    "flag_column": _or_null(_is_text),
    "server_version": _is_text,
    "server_encoding": _is_text,
    "schema_fingerprint": _is_text,
    "migrations": _list_of(_record(revision=_is_text, sha256=_or_null(_is_text))),
    "dataset_fingerprint": _or_null(_is_text),
    "key_parts": _map_of(_is_text),
    "requires": _list_of(_is_requirement),
    "left_out": _TEXTS,
    "whole_tables": _TEXTS,
    "flag_through": _TEXTS,
    "sequences": _map_of(_is_sequence),
    "populated_views": _TEXTS,
    "notes": _TEXTS,
    "schema": _map_of(_map_of(_is_text)),
    "primary_keys": _map_of(_TEXTS),
    "generated": _map_of(_TEXTS),
    "body": _record(bytes=_is_count, compressed_bytes=_is_count, sha256=_is_text),
}

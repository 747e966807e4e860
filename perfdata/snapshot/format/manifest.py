"""The manifest: what a snapshot file says of itself, and what it must be. Pure: no file."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from perfdata.project import Migration

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Predicate = Callable[[Any], bool]

FORMAT = "perfdata/1"


@dataclass(frozen=True)
class Body:
    """What the second frame must be: its size before and after compression, and its SHA-256."""

    bytes: int
    compressed_bytes: int
    sha256: str


@dataclass(frozen=True)
class Requirement:
    """Rows outside the snapshot that its rows reference through one foreign key.

    ``keys`` are the values of ``columns`` of ``table``, as text; ``complete`` is False where there
    are more than are listed.
    """

    constraint: str
    table: str
    columns: Sequence[str]
    keys: Sequence[Sequence[str]]
    complete: bool


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a snapshot says of itself.

    Attributes:
        stats: number of rows by table.
        as_of: the dataset's reference date, or None.
        all_rows: whether every row was taken, not only the flagged ones.
        flag_column: the flag, or None where all rows were taken.
        migrations: the migrations that the database was at, in the order in which they run.
        dataset_fingerprint: the dataset's, or None where the rows are not known to be its own.
        key_parts: what the dataset's cache key was made of.
        requires: rows outside the snapshot that its rows reference.
        left_out: tables without the flag.
        whole_tables: tables whose every row was taken beside the flagged rows of others.
        sequences: last value of each sequence, and whether it was given out.
        notes: what the database had and the snapshot lacks.
        schema: by table and column, what decides whether a value fits.
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

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Manifest:
        """Make a manifest of a parsed first frame; entries of later versions are ignored.

        Raises ValueError, KeyError or TypeError for what is not one.
        """
        known = {entry.name for entry in fields(cls)}
        entries = {name: value for name, value in document.items() if name in known}
        _check(entries)
        entries["migrations"] = tuple(Migration(**entry) for entry in entries["migrations"])
        entries["requires"] = tuple(Requirement(**entry) for entry in entries["requires"])
        entries["body"] = Body(**entries["body"])
        return cls(**entries)


def fingerprint_schema(schema: Mapping[str, Mapping[str, str]]) -> str:
    """Hash the columns of tables; the order of the tables does not matter."""
    text = json.dumps([[name, list(schema[name].items())] for name in sorted(schema)])
    return hashlib.sha256(text.encode()).hexdigest()


def _check(document: Mapping[str, Any]) -> None:
    """Raise ValueError for an entry of the wrong kind, or one that contradicts another.

    Missing entries are found by the constructor.
    """
    for name, value in document.items():
        if name in _KINDS and not _KINDS[name](value):
            raise ValueError(f"its {name} is of another kind")
    flagged = not document["all_rows"]
    if flagged != (document["flag_column"] is not None):
        raise ValueError("it must name a flag, or say that it has all rows")
    # Flagged rows say nothing about the rest of a database, and may change nothing in it.
    if flagged and (document.get("sequences") or document.get("populated_views")):
        raise ValueError("it has flagged rows only, and names sequences or views")
    whole = set(document.get("whole_tables", ()))
    if (whole and not flagged) or not whole <= document["stats"].keys() & document["schema"].keys():
        raise ValueError("it lists whole tables that it does not have")


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_truth(value: object) -> bool:
    return isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return _is_number(value) and value >= 0


def _or_null(known: Predicate) -> Predicate:
    return lambda value: value is None or known(value)


def _list_of(known: Predicate, least: int = 0) -> Predicate:
    return lambda value: (
        isinstance(value, list) and len(value) >= least and all(known(item) for item in value)
    )


def _map_of(known: Predicate) -> Predicate:
    return lambda value: isinstance(value, dict) and all(known(item) for item in value.values())


def _record(**kinds: Predicate) -> Predicate:
    return lambda value: (
        isinstance(value, dict)
        and value.keys() == kinds.keys()
        and all(known(value[name]) for name, known in kinds.items())
    )


def _is_requirement(value: Any) -> bool:
    return _REQUIREMENT(value) and all(len(key) == len(value["columns"]) for key in value["keys"])


def _is_sequence(value: object) -> bool:
    match value:
        case [last, called]:
            return _is_number(last) and _is_truth(called)
    return False


_TEXTS = _list_of(_is_text)
_REQUIREMENT = _record(
    constraint=_is_text,
    table=_is_text,
    columns=_list_of(_is_text, least=1),
    keys=_list_of(_TEXTS),
    complete=_is_truth,
)
_KINDS: Mapping[str, Predicate] = {
    "name": _is_text,
    "description": _is_text,
    "created_at": _is_text,
    "stats": _map_of(_is_count),
    "as_of": _or_null(_is_text),
    "all_rows": _is_truth,
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
    "sequences": _map_of(_is_sequence),
    "populated_views": _TEXTS,
    "notes": _TEXTS,
    "schema": _map_of(_map_of(_is_text)),
    "primary_keys": _map_of(_TEXTS),
    "generated": _map_of(_TEXTS),
    "body": _record(bytes=_is_count, compressed_bytes=_is_count, sha256=_is_text),
}

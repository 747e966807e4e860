"""What a manifest and rows must be before anything is done by them. Pure: no file, no database."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from perfdata.errors import SnapshotDamagedError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from perfdata.snapshot.format import Manifest, TableBody

    Is = Callable[[Any], bool]

# One value of a row. NUL and lone surrogates are no text that PostgreSQL takes.
VALUE = (
    rb'(?:null|"(?:[^"\\\x00-\x1f]++|\\(?:["\\/bfnrt]|u(?!0000|[dD][89a-fA-F])[0-9a-fA-F]{4}'
    rb'|u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}))*+")'
)


def row_pattern(columns: int) -> re.Pattern[bytes]:
    r"""Return the pattern that a block of rows with so many columns matches whole.

    Each line is ``[…],\n``; only the block's last may lack the comma. What matches has one row a
    line, for JSON and for COPY's CSV alike: no string holds a newline, and no escape stands outside
    a string. Possessive, so that a mismatch takes no longer than a match: 0.36 s for 320,000 rows.
    """
    row = VALUE + rb"(?:,%b){%d}+" % (VALUE, columns - 1) if columns else b""
    return re.compile(rb"(?:\[%b\](?:,\n|\n\Z))++" % row)


def check_shape(document: Mapping[str, Any]) -> None:
    """Raise ValueError for an entry of a manifest that is not of its kind, or contradicts another.

    Entries that are missing are no matter of this.
    """
    for name, value in document.items():
        if name in _KINDS and not _KINDS[name](value):
            raise ValueError(f"its {name} is of another kind")
    flagged = not document["all_rows"]
    if flagged != (document["flag_column"] is not None):
        raise ValueError("it has a flag exactly where it has not all rows")
    # Rows of one flag say nothing of the rest of a database, and may change nothing of it.
    if flagged and (document.get("sequences") or document.get("populated_views")):
        raise ValueError("it has not all rows, and names sequences or views")
    whole = set(document.get("whole_tables", ()))
    if (whole and not flagged) or not whole <= document["stats"].keys() & document["schema"].keys():
        raise ValueError("it has tables whole that it does not have")


def check_columns(path: Path, manifest: Manifest, body: TableBody) -> None:
    """Raise SnapshotDamagedError where a table of the body has not the manifest's columns."""
    columns = manifest.schema.get(body.key)
    if columns is None or list(body.columns) != list(columns):
        raise SnapshotDamagedError(
            f"{path.name} is damaged: table {body.key} has other columns in its body than in its "
            "manifest. Build or create it again"
        )


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_truth(value: object) -> bool:
    return isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return _is_number(value) and value >= 0


def _or_null(known: Is) -> Is:
    return lambda value: value is None or known(value)


def _list_of(known: Is, least: int = 0) -> Is:
    return lambda value: (
        isinstance(value, list) and len(value) >= least and all(known(one) for one in value)
    )


def _map_of(known: Is) -> Is:
    return lambda value: isinstance(value, dict) and all(known(one) for one in value.values())


def _record(**kinds: Is) -> Is:
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
_KINDS: Mapping[str, Is] = {
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

"""Marks: lines in the comments of databases by which perfdata recognises those that it made.

A mark is the comment's last line, so a user's text above it stays. It contains the server's system
identifier and the database's oid, so a copy of the comment elsewhere is not valid.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_BEGINS = "perfdata: "
# New databases have this connection limit until their comment is set. With the name, it identifies
# a database whose process was killed in between.
UNMARKED_LIMIT = 0x70657266
WORK_PREFIX = "perfdata_work_"
TEMPLATE_PREFIX = "perfdata_template_"
CLONE_PREFIX = "perfdata_clone_"
# PostgreSQL silently truncates longer names, and the database would not be found again.
NAME_MAX_BYTES = 63
# 128 bits of a sha256, which makes a name of 50 bytes.
_KEY_DIGITS = 32
_SPAN = 2  # the first and the last number
_REPLACED = re.compile(r"_before_(\d{8}_\d{6}(?:_\d+)?)\Z")
# 48 bits of a sha256, and a number where databases are parked at the same state.
_STATE_DIGITS = 12
_NUMBER = re.compile(r"_(\d{1,9})\Z", re.ASCII)


class Kind(Enum):
    """The purpose of a database that perfdata made."""

    MADE = "made"  # in use; perfdata owns it and may replace it
    WORK = "work"  # unfinished; garbage once its process has ended
    TEMPLATE = "template"  # finished, to be cloned
    BEFORE = "before"  # replaced by a restore, kept until garbage is collected
    PARKED = "parked"  # the embedded database of other migrations, kept to be used again
    PERF = "perf"  # a template for perf tests
    CLONE = "clone"  # a clone of that, for one test


_PREFIXES = {Kind.WORK: WORK_PREFIX, Kind.CLONE: CLONE_PREFIX}


@dataclass(frozen=True)
class Mark:
    """A mark.

    Attributes:
        oid: the oid of the database that it is valid for.
        target: the name of the database that it was made for.
        key: the key of a template, or of the template that the database was cloned from.
        snapshot: the digest of a template's rows.
        used: when it was last used, in seconds since 1970.
        first: whether a replaced database was not made by perfdata, or has unique contents.
        lost: the rows of a replaced database, by table, that the new one does not have.
        changed: whether a replaced database may have been written to during the restore.
        state: a hash of what the tables of a parked database were made from.
        flag: the flag column of the project whose database was parked.
        server: the server's system identifier; 0 in marks of earlier versions.
        loads, migrations, filled: which rows perfdata wrote (see load.provenance).
    """

    kind: Kind
    oid: int
    target: str
    key: str = ""
    snapshot: str = ""
    used: float = 0.0
    first: bool = False
    lost: str = ""
    changed: bool = False
    server: int = 0
    loads: Sequence[Sequence[int]] = ()
    migrations: Sequence[Sequence[int]] = ()
    filled: Sequence[str] = ()
    state: str = ""
    flag: str = ""

    @property
    def valid(self) -> bool:
        """Whether every field has its type; users can edit comments."""
        texts = (self.target, self.key, self.snapshot, self.lost, self.state, self.flag)
        return (
            all(isinstance(text, str) for text in texts)
            and type(self.used) in {int, float}
            and isinstance(self.first, bool)
            and isinstance(self.changed, bool)
            and type(self.oid) is type(self.server) is int
            and _all(self.filled, str)
            and _are_spans(self.loads)
            and _are_spans(self.migrations)
        )

    def fits(self, name: str) -> bool:
        """Tell whether a database's name is the one that perfdata gave it with this mark.

        A database that a user renamed is the user's.
        """
        if self.kind is Kind.MADE or name == self.target:
            return self.kind is Kind.MADE and name == self.target
        if self.kind in _PREFIXES:
            return name.startswith(_PREFIXES[self.kind])
        if self.kind in {Kind.TEMPLATE, Kind.PERF}:
            return name == template_name(self.key)
        if self.kind is Kind.PARKED:
            number = _NUMBER.search(name)
            return name in {
                parked_name(self.target, self.state),
                parked_name(self.target, self.state, int(number[1]) if number else 1),
            }
        match = _REPLACED.search(name)
        return match is not None and name == replaced_name(self.target, match[1])


def _all(values: object, kind: type) -> bool:
    """Tell whether values from a comment are a list whose members are of a type."""
    return isinstance(values, (list, tuple)) and all(type(value) is kind for value in values)


def _are_spans(values: object) -> bool:
    """Tell whether values from a comment are a list of first and last numbers."""
    return isinstance(values, (list, tuple)) and all(
        _all(span, int) and len(span) == _SPAN for span in values
    )


def parse_mark(comment: str | None) -> Mark | None:
    """Return the mark of a comment, whatever database and server it was written for."""
    line = (comment or "").rpartition("\n")[2]
    if not line.startswith(_BEGINS):
        return None
    try:
        facts = json.loads(line.removeprefix(_BEGINS))
        mark = Mark(**{**facts, "kind": Kind(facts["kind"])})
    except (ValueError, TypeError, KeyError):
        return None
    return mark if mark.valid else None


def read_mark(comment: str | None, oid: int, server: int | None) -> Mark | None:
    """Return the mark of a comment if it is for the database with this oid on this server.

    None too if the server's identifier is unknown, or missing in the mark.
    """
    mark = parse_mark(comment)
    if mark is None or not mark.server or (mark.oid, mark.server) != (oid, server):
        return None
    return mark


def user_text(comment: str | None) -> str:
    """Return the part of a comment above the mark."""
    head, _, line = (comment or "").rpartition("\n")
    return head if line.startswith(_BEGINS) else comment or ""


def format_comment(text: str, mark: Mark) -> str:
    """Return a comment of a user's text and a mark."""
    facts = {**asdict(mark), "kind": mark.kind.value}
    line = _BEGINS + json.dumps({name: value for name, value in facts.items() if value})
    return f"{text}\n{line}" if text else line


def template_name(key: str) -> str:
    """Return the template's name for a key, which is a sha256 in hexadecimal."""
    return f"{TEMPLATE_PREFIX}{key[:_KEY_DIGITS]}"


def replaced_name(target: str, stamp: str) -> str:
    """Return a name for a replaced database: its old one, cut to fit, and a time stamp."""
    return _suffixed(target, f"_before_{stamp}")


def parked_name(target: str, state: str, number: int = 1) -> str:
    """Return the name of a parked database; ``number`` distinguishes those of the same state."""
    return _suffixed(target, f"_at_{state[:_STATE_DIGITS]}" + (f"_{number}" if number > 1 else ""))


def _suffixed(target: str, tail: str) -> str:
    room = NAME_MAX_BYTES - len(tail.encode())
    return target.encode()[:room].decode(errors="ignore") + tail

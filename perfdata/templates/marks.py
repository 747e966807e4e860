"""Marks: what perfdata writes into the comment of a database, to know its own again. Pure.

A mark is the comment's last line, so that what somebody wrote above it stays. It names the server's
system identifier and the database's oid: a dump that carries the comment elsewhere carries no right
to be removed.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, replace
from enum import Enum
from typing import Any

_BEGINS = "perfdata: "
# A database is made with this connection limit, because its comment can only be set afterwards.
# Together with the name it tells what a run left that was killed between the two.
UNMARKED_LIMIT = 0x70657266
WORK_PREFIX = "perfdata_work_"
TEMPLATE_PREFIX = "perfdata_template_"
CLONE_PREFIX = "perfdata_clone_"
# What PostgreSQL cuts a longer name to, in silence: so that it would never be found again.
NAME_MAX_BYTES = 63
# 128 bits of a sha256: enough to tell snapshots apart, and a name of 50 bytes.
_KEY_DIGITS = 32
_STAMPED = re.compile(r"_before_(\d{8}_\d{6}(?:_\d+)?)\Z")


class Kind(Enum):
    """What perfdata made a database for."""

    MADE = "made"  # to be used; it may be replaced
    WORK = "work"  # not finished; nobody's when its run has ended
    TEMPLATE = "template"  # finished, to be cloned
    BEFORE = "before"  # what a restore replaced, until it is collected
    PERF = "perf"  # a template for perf tests
    CLONE = "clone"  # a clone of that, for as long as a test of a run lasts


_PREFIXES = {Kind.WORK: WORK_PREFIX, Kind.CLONE: CLONE_PREFIX}


@dataclass(frozen=True)
class Mark:
    """What a mark says: for which database (by name), of which key, and when last used.

    ``server`` is the server's system identifier; 0 where the mark was written without it.
    ``snapshot`` is the digest of the rows, ``used`` in seconds since 1970. ``first`` tells of a
    replaced database that perfdata had not made, or in which something stands that is nowhere else;
    ``lost`` names by table its rows that were lost to what took its target, and ``changed`` says
    that somebody wrote to it while it was being replaced.
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

    def of(self, **changes: Any) -> Mark:
        """Return the mark with some of it changed."""
        return replace(self, **changes)

    @property
    def sound(self) -> bool:
        """Whether every field has its type: a comment can be written by anybody."""
        texts = (self.target, self.key, self.snapshot, self.lost)
        return (
            all(isinstance(text, str) for text in texts)
            and type(self.used) in {int, float}
            and isinstance(self.first, bool)
            and isinstance(self.changed, bool)
            and type(self.oid) is type(self.server) is int
        )

    def names(self, name: str) -> bool:
        """Tell whether a database still has the name that perfdata gave it with this mark.

        One that somebody renamed is theirs, whatever its comment says.
        """
        if self.kind is Kind.MADE or name == self.target:
            return self.kind is Kind.MADE and name == self.target
        if self.kind in _PREFIXES:
            return name.startswith(_PREFIXES[self.kind])
        if self.kind in {Kind.TEMPLATE, Kind.PERF}:
            return name == template_name(self.key)
        stamped = _STAMPED.search(name)
        return stamped is not None and name == replaced_name(self.target, stamped[1])


def parse_mark(comment: str | None) -> Mark | None:
    """Return the mark of a comment, whichever database of whichever server it was written for."""
    line = (comment or "").rpartition("\n")[2]
    if not line.startswith(_BEGINS):
        return None
    try:
        facts = json.loads(line.removeprefix(_BEGINS))
        mark = Mark(**{**facts, "kind": Kind(facts["kind"])})
    except (ValueError, TypeError, KeyError):
        return None
    return mark if mark.sound else None


def read_mark(comment: str | None, oid: int, server: int | None) -> Mark | None:
    """Return the mark of a comment where it is of the database with this oid on this server.

    None also where the server's identifier is not known, or the mark was written without.
    """
    mark = parse_mark(comment)
    if mark is None or not mark.server or (mark.oid, mark.server) != (oid, server):
        return None
    return mark


def own_words(comment: str | None) -> str:
    """Return what a comment says above the mark."""
    head, _, line = (comment or "").rpartition("\n")
    return head if line.startswith(_BEGINS) else comment or ""


def write_comment(words: str, mark: Mark) -> str:
    """Write a comment: somebody's words, and below them the mark."""
    facts = {**asdict(mark), "kind": mark.kind.value}
    line = _BEGINS + json.dumps({name: value for name, value in facts.items() if value})
    return f"{words}\n{line}" if words else line


def template_name(key: str) -> str:
    """Name the template of a key, which is a sha256 in hexadecimal."""
    return f"{TEMPLATE_PREFIX}{key[:_KEY_DIGITS]}"


def replaced_name(target: str, stamp: str) -> str:
    """Name a replaced database after its own name and a time, short enough to be found again."""
    tail = f"_before_{stamp}"
    room = NAME_MAX_BYTES - len(tail.encode())
    return target.encode()[:room].decode(errors="ignore") + tail

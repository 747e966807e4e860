"""Long lists: what a call's values are without them, so that a list's parts are told from N+1.

SQLAlchemy's selectinload sends 500 keys at once, what fetches by yield_per, or cuts lists by
itself, mostly some hundreds: such calls differ in their lists, and in nothing else.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from itertools import count
from typing import Any, NamedTuple

from perfdata.perf.explain import COMMENTS
from perfdata.perf.statements import literals

_LONG = 100  # values
_INSERT = re.compile(COMMENTS + r"INSERT\b", re.IGNORECASE | re.DOTALL)
_PARAMETER = re.compile(r"%\((?P<name>[^)]*)\)[sbt]|%[sbt](?!\w)|%%|\$(?P<number>\d+)")
_VALUE = (
    r"-?(?:%\([^)]*\)[sbt]|%[sbt](?!\w)|\$\d+|\d[\w.]*|[EBXN]?'(?:[^']|'')*'"
    r"|(?:NULL|TRUE|FALSE|DEFAULT)\b)"
    r"""(?:\s*::[\w ."]+(?:\([\d, ]+\))?(?:\[\])?)?"""
)
_ITEM = rf"(?:{_VALUE}|\(\s*{_VALUE}(?:\s*,\s*{_VALUE})*\s*\))"
_VALUES = re.compile(_VALUE, re.IGNORECASE)
_LIST = re.compile(
    rf"\b(?:IN\s*\(|(?P<array>ARRAY)\s*\[|VALUES\b)\s*{_ITEM}(?:\s*,\s*{_ITEM})+", re.IGNORECASE
)


class Values(NamedTuple):
    """Hashes of a call's values: of all, and of those outside of its long lists if it has any."""

    whole: bytes
    outside: bytes | None


def values_of(query: str, parameters: Any, *, many: bool = False) -> Values:
    """Hash a call's values: its parameters, and those that are written into its text.

    Of a batch (``many``: the parameters are those of executemany) row by row, as it may be large;
    its rows are a list.
    """
    rows = parameters if isinstance(parameters, (list, tuple)) else (parameters,)
    return Values(_hash(query, *rows), _outside(query, parameters, many=many))


def _outside(query: str, parameters: Any, *, many: bool) -> bytes | None:
    written = _written(query)
    if many:
        is_long = isinstance(parameters, list) and len(parameters) >= _LONG
        return _hash(*written.literals) if is_long else None
    named = _named(parameters)
    arrays = set() if _INSERT.match(query) else {key for key, one in named.items() if _is_long(one)}
    if not (written.is_long or arrays):
        return None
    rest = (one for key, one in named.items() if key not in written.inside | arrays)
    return _hash(*written.literals, *rest)


def _named(parameters: Any) -> dict[Any, Any]:
    """Return parameters by their names, in the order of these, or by their positions."""
    if isinstance(parameters, Mapping):
        return dict(sorted(parameters.items()))
    return dict(enumerate(parameters)) if isinstance(parameters, Iterable) else {}


def _is_long(value: Any) -> bool:
    """Tell whether a parameter is a long array; one of floats is a vector, which is one value."""
    is_long = isinstance(value, (list, tuple)) and len(value) >= _LONG
    return is_long and not isinstance(value[0], float)


class _Written(NamedTuple):
    """What a statement's text holds: the names, or positions, of parameters in its long lists.

    ``literals`` are the values that are written outside of these.
    """

    is_long: bool
    inside: frozenset[Any]
    literals: tuple[str, ...]


@lru_cache(maxsize=256)
def _written(query: str) -> _Written:
    spans = [found.span() for found in _LIST.finditer(query) if _is_list(found, query)]
    inside, position = set(), count()
    for found in _PARAMETER.finditer(query):
        if found[0] == "%%":
            continue
        number = found["number"]
        key = found["name"] or (int(number) - 1 if number else next(position))
        if any(start <= found.start() < end for start, end in spans):
            inside.add(key)
    rest = query
    for start, end in reversed(spans):
        rest = rest[:start] + rest[end:]
    return _Written(bool(spans), frozenset(inside), literals(rest))


def _is_list(found: re.Match[str], query: str) -> bool:
    """Tell whether a list is long; an array that is inserted is one value."""
    inserted = found["array"] and _INSERT.match(query)
    return not inserted and len(_VALUES.findall(found[0])) >= _LONG


def _hash(*values: Any) -> bytes:
    found = hashlib.blake2b(digest_size=8)
    for one in values:
        found.update(repr(one).encode("utf-8", "backslashreplace"))
        found.update(b"\0")
    return found.digest()

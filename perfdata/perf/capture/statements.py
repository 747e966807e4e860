"""Statement fingerprints: a statement without its values, and hashes of the values of a call.

Statements have the same fingerprint if they differ only in values, in the length of a list of
values (``IN (…)``, ``VALUES (…), (…)``, ``ARRAY[…]``), in white space, comments, or the case of
keywords and unquoted names. Names matter, as do true, false and null, which may lead to another
plan. The key of a JSON operator (``data -> 'key'``) counts as a name.

sqlglot normalises what it can parse. Other text (VACUUM, CALL, or no SQL at all) is normalised by
tokens: values and lists of values become ``?``, words are lower-cased, comments are removed, and
tokens are separated by one space.

``values_of`` distinguishes N+1 from a long list sent in parts: SQLAlchemy's selectinload sends 500
keys at a time, yield_per and chunking code usually some hundreds. Such calls differ only in their
lists.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlglot import exp

COMMENTS = r"(?:--[^\n]*\n|/\*.*?\*/|[\s(])*"  # may precede a statement's first word
_EXPLAINED = re.compile(
    COMMENTS + r"(?:SELECT|INSERT|UPDATE|DELETE|WITH|VALUES|MERGE|TABLE)\b",
    re.IGNORECASE | re.DOTALL,
)

# psycopg's placeholders, as in the text that SQLAlchemy passes to the driver.
_PARAMETER = re.compile(r"%\([^)]*\)[sbt]|%[sbt](?!\w)|%%")
# sqlglot parses these into a tree; it keeps other statements as a string and logs a warning.
_PARSED = re.compile(r"[\s(]*(?:SELECT|INSERT|UPDATE|DELETE|WITH|VALUES|MERGE)\b", re.IGNORECASE)
# Long lists are shortened before parsing: sqlglot needs 0.3 s for 1,000 rows of 6 values.
# No possessive quantifiers: Python before 3.11.5 matches them wrongly.
_VALUE = r"(?:\$1|\d+)(?:::\w+)?(?=\s*[,)])"
_ROW = rf"\(\s*{_VALUE}(?:\s*,\s*{_VALUE})*\s*\)"
_LONG_ROWS = re.compile(rf"({_ROW})(?:\s*,\s*{_ROW})+")
_LONG_IN = re.compile(rf"(\bIN\s*\(\s*{_VALUE})(?:\s*,\s*{_VALUE})+", re.IGNORECASE)

_TOKEN = re.compile(
    r"""
    (?P<space>\s+|--[^\n]*|/\*.*?\*/)
  | (?P<value>E'(?:[^'\\]|''|\\.)*'|(?:[BXN]|U&)?'(?:[^']|'')*'
      |\$(?P<tag>[^\W\d]\w*|)\$.*?\$(?P=tag)\$|\$\d+
      |(?:\d[\d_]*\.?|\.\d)\w*(?:(?<=e)[+-]\d+)?)
  | (?P<name>"(?:[^"]|"")*")
  | (?P<word>[^\W\d][\w$]*)
  | (?P<sign>.)
    """,
    re.VERBOSE | re.DOTALL | re.IGNORECASE,
)

_LONG = 100  # values
_INSERT = re.compile(COMMENTS + r"INSERT\b", re.IGNORECASE | re.DOTALL)
_NAMED_PARAMETER = re.compile(r"%\((?P<name>[^)]*)\)[sbt]|%[sbt](?!\w)|%%|\$(?P<number>\d+)")
_WRITTEN_VALUE = (
    r"-?(?:%\([^)]*\)[sbt]|%[sbt](?!\w)|\$\d+|\d[\w.]*|[EBXN]?'(?:[^']|'')*'"
    r"|(?:NULL|TRUE|FALSE|DEFAULT)\b)"
    r"""(?:\s*::[\w ."]+(?:\([\d, ]+\))?(?:\[\])?)?"""
)
_ITEM = rf"(?:{_WRITTEN_VALUE}|\(\s*{_WRITTEN_VALUE}(?:\s*,\s*{_WRITTEN_VALUE})*\s*\))"
_WRITTEN_VALUES = re.compile(_WRITTEN_VALUE, re.IGNORECASE)
_LIST = re.compile(
    rf"\b(?:IN\s*\(|(?P<array>ARRAY)\s*\[|VALUES\b)\s*{_ITEM}(?:\s*,\s*{_ITEM})+", re.IGNORECASE
)


@dataclass(frozen=True)
class Statement:
    """A normalised statement; ``fingerprint`` is 16 hexadecimal digits of its text's SHA-256."""

    fingerprint: str
    text: str


@lru_cache(maxsize=4096)
def fingerprint(query: str) -> Statement:
    """Normalise a statement, as it is sent to the driver, and hash it."""
    text = normalise(query)
    return Statement(hashlib.sha256(text.encode()).hexdigest()[:16], text)


def explainable(query: str) -> bool:
    """Return whether EXPLAIN accepts a statement."""
    return _EXPLAINED.match(query) is not None


def literals(query: str) -> tuple[str, ...]:
    """Return the literal values in a statement's text, in order."""
    values = (token["value"] for token in _TOKEN.finditer(_PARAMETER.sub("", query)))
    return tuple(value for value in values if value and not re.match(r"\$\d", value))


def normalise(query: str) -> str:
    """Return a statement on one line, with ``?`` for each value and each list of values."""
    query = _PARAMETER.sub(lambda found: "%" if found[0] == "%%" else "$1", query)
    if _PARSED.match(query):
        from sqlglot.errors import SqlglotError

        short = _LONG_IN.sub(r"\1", _LONG_ROWS.sub(r"\1", query))
        try:
            return _by_tree(short)
        except (SqlglotError, RecursionError):
            pass  # syntax that sqlglot does not know, or nested deeper than Python's stack
    return _by_tokens(query)


def _by_tree(query: str) -> str:
    import sqlglot

    parsed = (tree for tree in sqlglot.parse(query, read="postgres") if tree is not None)
    return "; ".join(_shape(tree) for tree in parsed)


def _shape(tree: exp.Expr) -> str:
    from sqlglot import exp
    from sqlglot.optimizer.normalize_identifiers import normalize_identifiers

    tree = normalize_identifiers(tree.transform(_without_value), dialect="postgres")
    for node in list(tree.find_all(exp.In, exp.Values, exp.Array)):
        node.set("expressions", list(_distinct(node.expressions)))
    return tree.sql(dialect="postgres", comments=False)


def _without_value(node: exp.Expr) -> exp.Expr:
    from sqlglot import exp

    if isinstance(node, exp.Neg) and isinstance(node.this, _value_nodes()):
        return exp.Var(this="?")
    if isinstance(node, exp.Interval) and isinstance(node.this, exp.Literal):
        return exp.Interval(this=exp.Var(this="?"))  # the string includes the unit
    # The length in varchar(50) belongs to the type.
    if isinstance(node, _value_nodes()) and not isinstance(node.parent, exp.DataTypeParam):
        return exp.Var(this="?")
    return node


@cache
def _value_nodes() -> tuple[type[exp.Expr], ...]:
    from sqlglot import exp

    strings = (exp.ByteString, exp.RawString, exp.BitString, exp.HexString)
    national = (exp.National, exp.UnicodeString)
    return (exp.Literal, exp.Placeholder, exp.Parameter, *strings, *national)


def _distinct(nodes: Iterable[exp.Expr]) -> Iterator[exp.Expr]:
    seen = set()
    for node in nodes:
        text = node.sql(dialect="postgres", comments=False)
        if text not in seen:
            seen.add(text)
            yield node


def _by_tokens(query: str) -> str:
    tokens = [_token(found) for found in _TOKEN.finditer(query) if not found["space"]]
    text = " ".join(tokens).rstrip("; ")
    return re.sub(r"\?(?: , \?)+", "?", text)


def _token(found: re.Match[str]) -> str:
    if found["value"]:
        return "?"
    return found[0].lower() if found["word"] else found[0]


class Values(NamedTuple):
    """Hashes of a call's values: of all, and of those outside its long lists if it has any."""

    whole: bytes
    outside: bytes | None


def values_of(query: str, parameters: Any, *, many: bool = False) -> Values:
    """Hash a call's values: its parameters, and the literals in its text.

    With ``many`` the parameters are those of executemany; its rows count as a list.
    """
    rows = parameters if isinstance(parameters, (list, tuple)) else (parameters,)
    return Values(_hash(query, *rows), _outside(query, parameters, many=many))


def _outside(query: str, parameters: Any, *, many: bool) -> bytes | None:
    written = _written(query)
    if many:
        is_long = isinstance(parameters, list) and len(parameters) >= _LONG
        return _hash(*written.literals) if is_long else None
    named = _named(parameters)
    arrays = {key for key, value in named.items() if _is_long(value)}
    if _INSERT.match(query):
        arrays = set()
    if not (written.is_long or arrays):
        return None
    rest = (value for key, value in named.items() if key not in written.inside | arrays)
    return _hash(*written.literals, *rest)


def _named(parameters: Any) -> dict[Any, Any]:
    """Return parameters by name, sorted, or by position."""
    if isinstance(parameters, Mapping):
        return dict(sorted(parameters.items()))
    return dict(enumerate(parameters)) if isinstance(parameters, Iterable) else {}


def _is_long(value: Any) -> bool:
    """Return whether a parameter is a long array; floats are a vector, which is one value."""
    is_long = isinstance(value, (list, tuple)) and len(value) >= _LONG
    return is_long and not isinstance(value[0], float)


class _Written(NamedTuple):
    """The long lists in a statement's text: the names or positions of the parameters inside them.

    ``literals`` are the literal values outside them.
    """

    is_long: bool
    inside: frozenset[Any]
    literals: tuple[str, ...]


@lru_cache(maxsize=256)
def _written(query: str) -> _Written:
    spans = [found.span() for found in _LIST.finditer(query) if _is_list(found, query)]
    inside, position = set(), count()
    for found in _NAMED_PARAMETER.finditer(query):
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
    """Return whether a match is a long list; an array that is inserted is one value."""
    inserted = found["array"] and _INSERT.match(query)
    return not inserted and len(_WRITTEN_VALUES.findall(found[0])) >= _LONG


def _hash(*values: Any) -> bytes:
    digest = hashlib.blake2b(digest_size=8)
    for value in values:
        digest.update(repr(value).encode("utf-8", "backslashreplace"))
        digest.update(b"\0")
    return digest.digest()

"""Scripts: statements with their parameters as one string, which goes in one round trip."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, LiteralString

from psycopg import sql

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    Query = LiteralString | sql.SQL | sql.Composed
    Params = Sequence[Any] | Mapping[str, Any]

_PLACEHOLDER = re.compile(r"%(?:%|s|\((\w+)\)s)")


def with_literals(query: Query, params: Params | None) -> str:
    """Write a query in psycopg's style with its parameters as literals."""
    text = query if isinstance(query, str) else query.as_string(None)
    if params is None:
        return text
    named: Mapping[str, Any] = params if isinstance(params, Mapping) else {}
    positional = iter(() if named else params)

    def literal(match: re.Match[str]) -> str:
        if match[0] == "%%":
            return "%"
        value = named[match[1]] if match[1] else next(positional)
        return sql.Literal(value).as_string(None)

    return _PLACEHOLDER.sub(literal, text)


def script(pairs: Iterable[tuple[Query, Params | None]]) -> sql.SQL:
    """Write statements as one string, which the server runs in one round trip."""
    return sql.SQL(";\n".join(with_literals(query, params) for query, params in pairs))

"""Check constraints that can be read: limits, lists, lengths, and one column after another."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlglot.expressions import Expression

_CHECK = re.compile(r"CHECK \((.*)\)(?: NO INHERIT)?(?: NOT VALID| NOT ENFORCED)?", re.DOTALL)
_LENGTHS = {"length", "char_length", "character_length"}


@dataclass
class ColumnRules:
    """What a column's values must fulfil.

    Attributes:
        low, high: the smallest and the largest value.
        open_low, open_high: whether these themselves are excluded.
        choices: the only values.
        shortest, longest: limits of a text's length.
        required: whether it must not be null.
        differs: the column whose value it must not have.
        after: the column whose value it must not be less than; ``strictly`` if not equal either.
    """

    low: Decimal | None = None
    high: Decimal | None = None
    open_low: bool = False
    open_high: bool = False
    choices: list[Any] | None = None
    shortest: int = 0
    longest: int | None = None
    required: bool = False
    differs: str = ""
    after: str = ""
    strictly: bool = False


def read_check(
    definition: str, domain_of: str, columns: Sequence[str], rules: Callable[[str], ColumnRules]
) -> bool:
    """Add what a check constraint requires to the rules of its columns; False if it can't be read.

    ``domain_of`` is the column if the constraint is that of its domain.
    """
    from sqlglot import exp, parse_one
    from sqlglot.errors import SqlglotError

    match = _CHECK.fullmatch(definition)
    try:
        parsed = parse_one(match[1] if match else "", read="postgres")
    except SqlglotError:
        return False
    reader = _Reader(domain_of, columns, rules)
    bare = _bare(parsed)
    parts = list(bare.flatten()) if isinstance(bare, exp.And) else [bare]
    found = [reader.read(_bare(part)) for part in parts]  # also those after one that is unread
    return all(found)


def literal(value: Expression | None) -> Any:
    """Return the text or the number that an expression is, None for another one."""
    from sqlglot import exp

    bare = _bare(value)
    if isinstance(bare, exp.Neg):
        inner = literal(bare.this)
        return -inner if isinstance(inner, Decimal) else None
    if isinstance(bare, exp.Boolean):
        return bool(bare.this)
    if not isinstance(bare, exp.Literal):
        return None
    return str(bare.this) if bare.is_string else Decimal(bare.this)


def _bare(value: Any) -> Any:
    """Return an expression without parentheses and casts."""
    from sqlglot import exp

    while isinstance(value, (exp.Paren, exp.Cast)):
        value = value.this
    return value


class _Reader:
    """Reads the parts of a constraint, all of which must hold."""

    def __init__(
        self, domain_of: str, columns: Sequence[str], rules: Callable[[str], ColumnRules]
    ) -> None:
        self._domain_of = domain_of
        self._columns = columns
        self._rules = rules

    def read(self, part: Any) -> bool:
        """Add one part to the rules; False if it can't be read."""
        from sqlglot import exp

        if isinstance(part, (exp.GT, exp.GTE, exp.LT, exp.LTE)):
            return self._compare(part)
        if isinstance(part, exp.Between):
            low, high = literal(part.args["low"]), literal(part.args["high"])
            above = self._limit(part.this, low, above=True, is_open=False)
            return above and self._limit(part.this, high, above=False, is_open=False)
        if isinstance(part, (exp.In, exp.EQ)):
            return self._list(part)
        if isinstance(part, exp.NEQ):
            return self._unlike(self._column(part.this), part.expression)
        return self._not_null(part)

    def _compare(self, part: Any) -> bool:
        from sqlglot import exp

        left, right = _bare(part.this), _bare(part.expression)
        above, is_open = isinstance(part, (exp.GT, exp.GTE)), isinstance(part, (exp.GT, exp.LT))
        if self._column(left) and self._column(right):
            later, earlier = (left, right) if above else (right, left)
            rules = self._rules(self._column(later))
            rules.after, rules.strictly = self._column(earlier), is_open
            return True
        if literal(left) is not None:
            return self._limit(right, literal(left), above=not above, is_open=is_open)
        return self._limit(left, literal(right), above=above, is_open=is_open)

    def _limit(self, value: Any, limit: Any, *, above: bool, is_open: bool) -> bool:
        value = _bare(value)
        if isinstance(limit, str):
            try:
                limit = Decimal(limit)  # '0'::numeric
            except ArithmeticError:
                return False
        if not isinstance(limit, Decimal):
            return False
        if measured := self._measured(value):
            length = int(limit) + (is_open if above else -is_open)
            rules = self._rules(measured)
            if above:
                rules.shortest = length
            else:
                rules.longest = length
            return True
        if not (name := self._column(value)):
            return False
        rules = self._rules(name)
        if above:
            rules.low, rules.open_low = limit, is_open
        else:
            rules.high, rules.open_high = limit, is_open
        return True

    def _list(self, part: Any) -> bool:
        """Read ``a IN (…)``, ``a = 1`` and, as the server writes lists, ``a = ANY (ARRAY[…])``."""
        from sqlglot import exp

        if isinstance(part, exp.In):
            found = part.expressions
        else:
            right = _bare(part.expression)
            array = right.find(exp.Array) if isinstance(right, exp.Any) else None
            found = array.expressions if array else [right]
        values = [literal(value) for value in found]
        name = self._column(part.this)
        if not name or not values or None in values:
            return False
        self._rules(name).choices = values
        return True

    def _unlike(self, name: str, value: Any) -> bool:
        if name and (other := self._column(value)):
            self._rules(other).differs = name
            return True
        return bool(name) and literal(value) == ""  # what is drafted is never empty

    def _not_null(self, part: Any) -> bool:
        from sqlglot import exp

        negated = isinstance(part, exp.Not)
        test = _bare(part.this) if negated else part
        if not isinstance(test, exp.Is) or negated == bool(test.args.get("negate")):
            return False
        name = self._column(test.this)
        if not name or not isinstance(test.expression, exp.Null):
            return False
        self._rules(name).required = True
        return True

    def _measured(self, value: Any) -> str:
        """Return the column whose length an expression is, or ""."""
        from sqlglot import exp

        if isinstance(value, exp.Length):
            return self._column(value.this)
        if isinstance(value, exp.Anonymous) and value.name.lower() in _LENGTHS:
            return self._column(value.expressions[0])
        return ""

    def _column(self, value: Any) -> str:
        """Return the column that an expression is, or ""."""
        from sqlglot import exp

        bare = _bare(value)
        if not isinstance(bare, exp.Column) or bare.table:
            return ""
        if self._domain_of:
            return self._domain_of if bare.name.upper() == "VALUE" else ""
        return bare.name if bare.name in self._columns else ""

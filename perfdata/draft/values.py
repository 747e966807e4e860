"""Values for columns by their types, as code that uses ``perfdata.generate`` as ``g``."""

from __future__ import annotations

import keyword
import re
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import TYPE_CHECKING, Any

from perfdata.draft.statistics import NOTHING_KNOWN, ColumnStatistics

if TYPE_CHECKING:
    from perfdata.draft.checks import ColumnRules
    from perfdata.postgres.catalog import Column

INTEGERS = {"smallint": 2**15 - 1, "integer": 2**31 - 1, "bigint": 2**63 - 1}
NUMBERS = {"numeric", "real", "double precision", "money"}
_TEXTS = {"text", "character varying", "bpchar", "name", "citext", "public.citext"}
_TIMES = {"timestamp without time zone", "timestamp with time zone"}
_LENGTH = re.compile(r"char\w*(?: varying)?\((\d+)\)")
_PRECISION = re.compile(r"numeric\((\d+),(-?\d+)\)")
_NAME_CHARACTERS = 63
_SPREAD = 999  # between the limits of a number that has one limit or none
_ROW_DIGITS = 7  # for up to 9,999,999 rows
# What Faker chooses from for columns of these names: at most 20 characters.
_FAKER, _FAKER_CHARACTERS = {"first_name", "last_name"}, 20
_EMAIL = "@example.test"
# A value by type, for types whose values are all alike in a draft. Not xml: the embedded server
# can't read it.
_LITERALS = {
    "time without time zone": "09:30:00", "time with time zone": "09:30:00+00",
    "interval": "1 day", "point": "(0,0)", "line": "{1,-1,0}", "lseg": "[(0,0),(1,1)]",
    "box": "(1,1),(0,0)", "path": "[(0,0),(1,1)]", "polygon": "((0,0),(1,1),(1,0))",
    "circle": "<(0,0),1>", "tsvector": "", "tsquery": "", "pg_lsn": "0/0",
    '"char"': "a", "oid": "0", "xid": "0", "bit varying": "0", "jsonpath": "$",
    "macaddr8": "02:00:00:00:00:00:00:01",
}  # fmt: skip
# Values that differ from row to row, and do not overlap.
_BY_ROW = {
    "uuid": "g.uuid()",
    "bytea": r'g.text("\\x{row:08x}")',
    "inet": 'lambda row: f"10.{row >> 16 & 255}.{row >> 8 & 255}.{row & 255}"',
    "cidr": 'lambda row: f"10.{row >> 16 & 255}.{row >> 8 & 255}.{row & 255}"',
    "macaddr": 'g.text("0200{row:08x}")',
    "int4range": 'g.text("[{row},{row}]")',
    "int8range": 'g.text("[{row},{row}]")',
    "numrange": 'g.text("[{row},{row}]")',
}
_DAY = "lambda row: dataset.as_of - timedelta(days=row)"
_BY_DAY = {"daterange", "tsrange", "tstzrange"}
# Values that may be the same in several rows.
_ALIKE = {
    "boolean": "g.boolean()", "date": "g.date(-365, -1)", "json": "g.json({})",
    "jsonb": "g.json({})", "[]": "[]", **dict.fromkeys(_TIMES, "g.timestamp(-365, -1)"),
}  # fmt: skip
_MULTIRANGES = re.compile(r"\w+multirange")


@dataclass(frozen=True)
class Value:
    """The code of a column's value, and how many rows it suffices for, None for any number.

    ``hidden`` are columns that are not loaded, from which it is computed.
    """

    code: str
    most: int | None = None
    hidden: tuple[tuple[str, str], ...] = ()


def quoted(text: str) -> str:
    """Return a text as Python code, in double quotes if it has none."""
    return repr(text) if '"' in text or "\\" in repr(text) else f'"{repr(text)[1:-1]}"'


def is_plain(name: str) -> bool:
    """Tell whether a name may be written in code as it is."""
    return name.isidentifier() and not keyword.iskeyword(name)


def _hidden_name(column: Column) -> str:
    return "_" + re.sub(r"\W", "_", column.name)


def can_differ(column: Column) -> bool:
    """Tell whether a column's type has a different value for each of many rows."""
    base = column.base
    known = {*INTEGERS, *NUMBERS, *_TEXTS, *_TIMES, *_BY_ROW, *_BY_DAY, "date"}
    return base in known and "(1)" not in column.type


def draft_value(
    column: Column,
    rules: ColumnRules,
    *,
    unique: bool = False,
    shape: ColumnStatistics = NOTHING_KNOWN,
) -> Value | None:
    """Return a column's value, None for a type of which no value is known.

    ``unique`` asks for a different one in each row; else ``shape`` tells how many there are.
    """
    shape = NOTHING_KNOWN if unique else shape
    labels = rules.choices or _labels(column)
    base = column.base
    if labels is not None:
        return _choice([_plain(label, base) for label in labels], shape, unique=unique)
    if base in INTEGERS:
        return _integer(rules, INTEGERS[base], shape, unique=unique)
    if base in NUMBERS:
        return _number(column, rules, unique=unique)
    if base in _TEXTS:
        return _text(column, rules, shape, unique=unique)
    if base == "boolean" and shape.weights:
        share = shape.weights[1] / sum(shape.weights) if shape.weights[1:] else 0.0
        return Value(f"g.boolean({share:.2f})")
    return _other(column, unique=unique)


def _other(column: Column, *, unique: bool) -> Value | None:
    base = column.base
    if unique and (base == "date" or base in _TIMES):
        return Value(_DAY)
    if base in _BY_DAY:
        day = _hidden_name(column)
        return Value(f'g.text("[{{{day}}},{{{day}}}]")', hidden=((day, _DAY),))
    if base in _BY_ROW:
        return Value(_BY_ROW[base])
    if base == "boolean" and unique:
        return Value("g.choice([False, True], unique=True)", 2)
    code = _ALIKE.get("[]" if base.endswith("[]") else base)
    if base == '"bit"':  # so the server writes bit without a length
        width = re.search(r"\((\d+)\)", column.type)
        code = quoted("0" * int(width[1] if width else 1))
    elif base in _LITERALS:
        code = quoted(_LITERALS[base])
    elif _MULTIRANGES.fullmatch(base):
        code = quoted("{}")
    return None if code is None else Value(code, 1 if unique else None)


def _labels(column: Column) -> list[Any] | None:
    """Return an enum's labels, also those of a domain's enum."""
    if column.base.endswith("[]"):
        return None
    inside = next((part for part in column.detail if isinstance(part, tuple)), None)
    return list(column.labels or inside or []) or None


def _choice(values: list[str], shape: ColumnStatistics, *, unique: bool) -> Value:
    """Choose among values, given as code; weights go to them in the order of the list."""
    if len(values) == 1 and not unique:
        return Value(values[0])
    if shape.weights:
        weights = [*shape.weights, *[1] * len(values)]
        pairs = (f"{value}: {weight}" for value, weight in zip(values, weights, strict=False))
        return Value(f"g.choice({{{', '.join(pairs)}}})")
    return Value(
        f"g.choice([{', '.join(values)}]{', unique=True' if unique else ''})",
        len(set(values)) if unique else None,
    )


def _plain(value: Any, base: str) -> str:
    """Return a literal as Python code; a number that is no integer as text, so that it is exact."""
    if isinstance(value, Decimal):
        whole = value == value.to_integral_value() and base in INTEGERS
        return str(int(value)) if whole else quoted(str(value))
    return quoted(value) if isinstance(value, str) else repr(value)


def _integer(rules: ColumnRules, largest: int, shape: ColumnStatistics, *, unique: bool) -> Value:
    count = shape.distinct or _SPREAD + 1
    low, high = _limits(rules, Decimal(1), Decimal(largest), count)
    if shape.weights and high - low + 1 == len(shape.weights):
        return _choice([str(int(low) + n) for n in range(count)], shape, unique=False)
    if unique:
        last = int(high) if rules.high is not None else largest
        return Value(f"g.serial({'' if low == 1 else int(low)})", last - int(low) + 1)
    return Value(f"g.integer({int(low)}, {int(high)})")


def _number(column: Column, rules: ColumnRules, *, unique: bool) -> Value:
    precision = _PRECISION.search(column.type)
    digits, scale = (int(part) for part in precision.groups()) if precision else (15, 2)
    if column.base in {"real", "money"}:
        digits = 6
    step = Decimal(1).scaleb(-scale)
    largest = Decimal(10) ** (digits - scale) - step
    low, high = _limits(
        rules, step, largest, int(min(largest + step, Decimal(_SPREAD + 1)) / step) - 1
    )
    if unique and scale >= 0:
        first = max(low, step).to_integral_value(ROUND_CEILING)
        last = high if rules.high is not None else largest
        return Value(f"g.serial({'' if first == 1 else int(first)})", int(last - first) + 1)
    if scale < 0:
        return Value("0", 1 if unique else None)
    return Value(f'g.decimal("{low:f}", "{high:f}")')


def _limits(
    rules: ColumnRules, step: Decimal, largest: Decimal, count: int
) -> tuple[Decimal, Decimal]:
    """Return limits with ``count`` steps between them, or fewer if the rules allow fewer."""
    low = high = None
    if rules.low is not None:
        low = rules.low.quantize(step, ROUND_CEILING) + (step if rules.open_low else 0)
    if rules.high is not None:
        high = rules.high.quantize(step, ROUND_FLOOR) - (step if rules.open_high else 0)
    span = step * (count - 1)
    if low is None:
        low = step if high is None or high >= step else high - span
    if high is None or high - low > span:
        high = min(low + span, largest)
    return low, high


def _text(column: Column, rules: ColumnRules, shape: ColumnStatistics, *, unique: bool) -> Value:
    length = _LENGTH.search(column.type)
    sizes = [int(length[1]) if length else None, rules.longest]
    sizes.append(_NAME_CHARACTERS if column.base == "name" else None)
    longest = min((size for size in sizes if size is not None), default=1000)
    label = column.name.replace("{", "").replace("}", "").replace("_", " ")
    plain = not unique and not rules.shortest and not shape.distinct
    if plain and column.name in _FAKER and longest >= _FAKER_CHARACTERS:
        return Value(f'g.faker("{column.name}")')
    number: str = "row"
    hidden: tuple[tuple[str, str], ...] = ()
    if shape.distinct == 1 and len(label) + 1 < longest and not rules.shortest:
        return Value(quoted(f"{label} 1"))
    if shape.distinct:
        number = _hidden_name(column)
        values = _choice([str(n + 1) for n in range(len(shape.weights))], shape, unique=False)
        code = values.code if shape.weights else f"g.integer(1, {shape.distinct})"
        hidden = ((number, code),)
    if "email" in column.name and longest >= len(f"user{_EMAIL}") + _ROW_DIGITS:
        return Value(f'g.text("user{{{number}}}{_EMAIL}")', hidden=hidden)
    if len(label) + 1 + _ROW_DIGITS <= longest and rules.shortest <= len(label):
        pattern = quoted(f"{label} {{{number}}}")
        return Value(f"g.text({pattern})", hidden=hidden)
    return _short_text(max(rules.shortest, 1), longest, number, hidden, unique=unique)


def _short_text(
    shortest: int,
    longest: int,
    number: str,
    hidden: tuple[tuple[str, str], ...],
    *,
    unique: bool,
) -> Value:
    if longest >= _ROW_DIGITS:
        width = f":0{shortest}" if shortest > 1 else ""
        return Value(f'g.text("{{{number}{width}}}")', hidden=hidden)
    if unique:  # hexadecimal digits: more rows in few characters
        return Value(f'g.text("{{row:0{shortest}x}}")', 16**longest - 1)
    return _choice([quoted(letter * shortest) for letter in "ABC"], NOTHING_KNOWN, unique=False)

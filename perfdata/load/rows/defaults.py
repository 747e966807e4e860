"""Python-side defaults of a model's columns: seeded, taken from as_of, or called.

uuid4 and the clock's functions are recognised by identity. In a dataset their values come from its
seed, the table, the column and the row's number, and from as_of; those of other functions differ
from build to build, which a note says.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import time
import uuid
from collections.abc import Hashable
from dataclasses import dataclass
from datetime import UTC, date, datetime, tzinfo
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perfdata.callers import Callers
from perfdata.errors import LoadError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sqlalchemy import Column

    from perfdata.load.rows.fields import Default, Origin

    Clock = Callable[[datetime], Any]  # makes a value from as_of, which has no zone

_CLOCKS: dict[Callable[..., Any], Clock] = {
    datetime.now: lambda as_of: as_of,
    datetime.today: lambda as_of: as_of,
    datetime.utcnow: lambda as_of: as_of,
    date.today: lambda as_of: as_of.date(),
    time.time: lambda as_of: as_of.replace(tzinfo=UTC).timestamp(),
}
_SQL_CLOCKS: dict[str, Clock] = {
    **dict.fromkeys(
        ("now", "current_timestamp", "statement_timestamp", "clock_timestamp"),
        lambda as_of: as_of.replace(tzinfo=UTC),
    ),
    "localtimestamp": lambda as_of: as_of,
    "current_date": lambda as_of: as_of.date(),
}
_CONSTANTS = {bool, bytes, dict, float, int, list, str}  # what they return does not vary
_SQL_UUIDS = {"gen_random_uuid", "uuid_generate_v4", "uuidv4"}


@dataclass(frozen=True)
class _Context:
    """What SQLAlchemy passes to a default that depends on the row's other values."""

    current_parameters: Mapping[str, Any]

    def get_current_parameters(self, **_: bool) -> Mapping[str, Any]:
        """Return the row's values that are known, by column."""
        return self.current_parameters


def column_default(
    column: Column[Any], factory: Callable[[], Any] | None, origin: Origin, table: str
) -> Default | None:
    """Return what makes a column's values, or None for a column without a Python-side default.

    ``factory`` is that of a dataclass field. A SQL expression is understood if it is a function of
    the clock or makes UUIDs; any other raises LoadError when a value is needed.
    """
    default: Any = column.default
    if default is None or default.is_sequence:
        return _function_default(factory, origin, table, column.name) if factory else None
    if default.is_scalar:
        return lambda _row, _values: default.arg
    if default.is_clause_element:
        return _sql_default(default.arg, origin, table, column.name)
    known = _repeating(_original(default.arg), origin, table, column.name)
    return known or _called(default.arg, origin, table, column.name)


def _function_default(
    factory: Callable[[], Any], origin: Origin, table: str, column: str
) -> Default:
    known = _repeating(factory, origin, table, column)
    return known or _called(lambda _context: factory(), origin, table, column, factory)


def _original(wrapped: Any) -> Any:
    """Return the function that SQLAlchemy wrapped to take its context."""
    original = getattr(wrapped, "__wrapped__", None)
    if original is None and inspect.isfunction(wrapped):  # a partial has no name to be kept
        original = inspect.getclosurevars(wrapped).nonlocals.get("fn")
    return original or wrapped


def _repeating(function: Any, origin: Origin, table: str, column: str) -> Default | None:
    """Return a default that repeats its values for uuid4 or a clock's function, else None."""
    if function == uuid.uuid4:
        return _uuid_default(origin, table, column)
    if origin.as_of is None:
        return None
    zone: tzinfo | None = None
    if isinstance(function, functools.partial) and function.func == datetime.now:
        (zone, *_) = (*function.args, *function.keywords.values(), None)
        function = datetime.now
    clock = _CLOCKS.get(function) if isinstance(function, Hashable) else None  # type: ignore[call-overload]
    if clock is None:
        return None
    value = clock(_moment(origin.as_of))
    if zone is not None:
        value = value.replace(tzinfo=zone)
    return lambda _row, _values: value


def _uuid_default(origin: Origin, table: str, column: str) -> Default:
    if origin.seed is None:
        return lambda _row, _values: uuid.uuid4()
    name = f"{origin.seed}/{table}/{column}"

    def seeded(row: int, _values: Mapping[str, Any]) -> uuid.UUID:
        digest = hashlib.shake_128(f"{name}/{row}".encode()).digest(16)
        return uuid.UUID(bytes=digest, version=4)

    return seeded


def _sql_default(expression: Any, origin: Origin, table: str, column: str) -> Default:
    name = str(getattr(expression, "name", "")).lower()
    if name in _SQL_UUIDS:
        return _uuid_default(origin, table, column)
    if clock := _SQL_CLOCKS.get(name):
        value = clock(_moment(origin.as_of))
        return lambda _row, _values: value

    def refuse(row: int, _values: Mapping[str, Any]) -> Any:
        raise LoadError(
            f"{origin.name}: {table}, row {row:,}, column {column}: its default is the SQL "
            f"expression {expression}, which COPY can't run",
            remedy="Give the column in the rows, or make it a server_default",
        )

    return refuse


def _called(
    function: Callable[[Any], Any],
    origin: Origin,
    table: str,
    column: str,
    original: object = None,
) -> Default:
    original = original or _original(function)
    varies = origin.seed is not None and original not in _CONSTANTS

    def called(_row: int, values: Mapping[str, Any]) -> Any:
        if varies:
            origin.note(
                f"{table}.{column}: its default, {_described(original)}, was called for each row, "
                "so the values differ from build to build: give them in the rows"
            )
        return function(_Context(values))

    return called


def _described(function: object) -> str:
    name = getattr(function, "__qualname__", type(function).__name__)
    code = getattr(function, "__code__", None)
    file = Callers(Path.cwd()).shown(code.co_filename) if code else None
    return f"{name} ({file}, line {code.co_firstlineno})" if code and file else name


def _moment(as_of: date | None) -> datetime:
    """Return the midnight that begins ``as_of``, without a zone; None is the present."""
    if as_of is None:
        return datetime.now(UTC).replace(tzinfo=None)
    if isinstance(as_of, datetime):
        return as_of
    return datetime.combine(as_of, datetime.min.time())

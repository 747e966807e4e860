"""Dates and times around a dataset's reference date."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from datetime import date as day
from functools import cache
from typing import TYPE_CHECKING, Any

from perfdata.generate.choices import Choice
from perfdata.generate.encoding import copy_texts
from perfdata.generate.tables import GeneratedColumn, PlainColumn

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from perfdata.generate.encoding import Encoder
    from perfdata.generate.tables import RowBlock, Site

_DAY_S, _HOUR_S = 86_400, 3600


def date(
    first: int,
    last: int,
    *,
    months: Mapping[int, int] | None = None,
    weekdays: Mapping[int, int] | None = None,
) -> GeneratedColumn:
    """Return a column of dates, from ``first`` to ``last`` days after ``as_of``, both included.

    ``date(-90, -1)`` are the 90 days before it. Seasons are integer weights: ``months`` of 1 to 12,
    ``weekdays`` of 0 (Monday) to 6; those that are not given weigh 1, and 0 leaves them out.
    """
    return Days(first, last, months or {}, weekdays or {})


def timestamp(
    first: int,
    last: int,
    *,
    hours: tuple[int, int] = (0, 24),
    months: Mapping[int, int] | None = None,
    weekdays: Mapping[int, int] | None = None,
) -> GeneratedColumn:
    """Return a column of times in UTC on the days that ``date`` has, to the second.

    ``hours`` are the first and the end of a day's hours: ``(9, 17)`` is from 9:00 to 16:59:59.
    """
    return Times(Days(first, last, months or {}, weekdays or {}), hours)


def after(column: str, first: int, last: int) -> GeneratedColumn:
    """Return a column of dates or times from ``first`` to ``last`` days after another column's.

    Times are drawn to the second, dates to the day. Null where the other column is.
    """
    return After(column, first, last)


class Days(GeneratedColumn):
    """Days around ``as_of``, by seasons."""

    def __init__(
        self, first: int, last: int, months: Mapping[int, int], weekdays: Mapping[int, int]
    ) -> None:
        self._days = range(first, last + 1)
        self._months, self._weekdays = months, weekdays

    def bind(self, site: Site) -> GeneratedColumn:
        """Return a choice among the days."""
        as_of = site.rows.dataset.as_of
        days = [as_of + timedelta(days=number) for number in self._days]
        weights = None
        if self._months or self._weekdays:
            weights = [
                self._months.get(each.month, 1) * self._weekdays.get(each.weekday(), 1)
                for each in days
            ]
        return Choice(days, weights).bind(site)


class Times(PlainColumn):
    """Seconds of days around ``as_of``."""

    def __init__(self, days: GeneratedColumn, hours: tuple[int, int]) -> None:
        self._days = days
        self._start_s = hours[0] * _HOUR_S
        self._seconds = (hours[1] - hours[0]) * _HOUR_S

    def prepare(self) -> None:
        """Bind the days; raise ConfigError for hours that are none."""
        self._days = self._days.bind(self.site.part("day"))
        if not 0 <= self._start_s < self._start_s + self._seconds <= _DAY_S:
            raise self.site.error("hours are not two increasing hours of a day", "Use (9, 17)")

    def _drawn(self, rows: RowBlock) -> list[int]:
        return rows.once((self, "seconds"), lambda: self.site.below(rows, self._seconds))

    def values(self, rows: RowBlock) -> Sequence[datetime]:
        """Return the times of a block."""
        begin = time(tzinfo=UTC)
        return [
            datetime.combine(each, begin) + timedelta(seconds=self._start_s + second)
            for each, second in zip(rows.values(self._days), self._drawn(rows), strict=True)
        ]

    def texts(self, rows: RowBlock, encode: Encoder) -> Sequence[str]:
        """Return the times of a block as text."""
        if encode is not copy_texts:
            return encode(rows.values(self))
        start, texts = self._start_s, _time_texts()
        pairs = zip(self._days.texts(rows, encode), self._drawn(rows), strict=True)
        return [f"{each} {texts[start + second]}" for each, second in pairs]


class After(PlainColumn):
    """Days or seconds after another column."""

    def __init__(self, column: str, first: int, last: int) -> None:
        self.inputs = [column]
        self._first, self._last = first, last

    def prepare(self) -> None:
        """Raise ConfigError if the last day is before the first."""
        if self._last < self._first:
            raise self.site.error("the last day is before the first", "Give the smaller one first")

    def values(self, rows: RowBlock) -> Sequence[Any]:
        """Return the dates or times of a block."""
        begins = rows.values(self.site.rows.columns[self.inputs[0]])
        known = next((begin for begin in begins if begin is not None), None)
        unit = 1 if isinstance(known, day) and not isinstance(known, datetime) else _DAY_S
        spans = (self._last - self._first) * unit + 1
        step = timedelta(seconds=_DAY_S // unit)
        least = self._first * unit
        return [
            None if begin is None else begin + (least + span) * step
            for begin, span in zip(begins, self.site.below(rows, spans), strict=True)
        ]


@cache
def _time_texts() -> list[str]:
    """Return the text of each second of a day, with the zone UTC."""
    minutes = [f"{hour:02}:{minute:02}:" for hour in range(24) for minute in range(60)]
    return [f"{minute}{second:02}+00" for minute in minutes for second in range(60)]

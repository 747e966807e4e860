"""Dates and times around a dataset's reference date, or after another column's."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
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
    after: str | None = None,
    months: Mapping[int, int] | None = None,
    weekdays: Mapping[int, int] | None = None,
) -> GeneratedColumn:
    """Return a column of dates, from ``first`` to ``last`` days after ``as_of``, both included.

    ``date(-90, -1)`` are the 90 days before it, ``date(1, 30, after="joined_on")`` the 30 days
    after another column's date; null where that is. Seasons are integer weights: ``months`` of 1 to
    12, ``weekdays`` of 0 (Monday) to 6; those that are not given weigh 1, and 0 leaves them out.
    """
    return Days(Span(first, last, after), months or {}, weekdays or {})


def timestamp(
    first: int,
    last: int,
    *,
    after: str | None = None,
    hours: tuple[int, int] = (0, 24),
    months: Mapping[int, int] | None = None,
    weekdays: Mapping[int, int] | None = None,
) -> GeneratedColumn:
    """Return a column of times in UTC, to the second, on the days that ``date`` has.

    ``hours`` are the first and the end of a day's hours: ``(9, 17)`` is from 9:00 to 16:59:59.
    ``after`` a column of times, the span counts from that second, and ``hours`` do not apply.
    """
    span = Span(first, last, after)
    return Times(span, Days(span, months or {}, weekdays or {}), hours)


@dataclass(frozen=True)
class Span:
    """Days after ``as_of``, or after a column."""

    first: int
    last: int
    after: str | None

    @property
    def inputs(self) -> Sequence[str]:
        """The columns that it is counted from."""
        return () if self.after is None else (self.after,)

    def begins(self, site: Site, rows: RowBlock) -> Sequence[Any]:
        """Return the values of the column that it is counted from."""
        return () if self.after is None else rows.values(site.rows.columns[self.after])

    def kinds(self, site: Site, rows: RowBlock) -> set[type]:
        """Return their types."""
        return set() if self.after is None else rows.kinds(site.rows.columns[self.after])


class Days(GeneratedColumn):
    """Days around ``as_of``, by seasons, or after a column."""

    def __init__(self, span: Span, months: Mapping[int, int], weekdays: Mapping[int, int]) -> None:
        self._span = span
        self._months, self._weekdays = months, weekdays

    def bind(self, site: Site) -> GeneratedColumn:
        """Return a choice among the days; raise ConfigError if there is none."""
        span, as_of = self._span, site.rows.dataset.as_of
        if span.last < span.first:
            raise site.error("the last day is before the first", "Give the smaller one first")
        seasons = bool(self._months or self._weekdays)
        if span.after is not None:
            if seasons:
                raise site.error("seasons are of days around as_of", "Leave out after, or seasons")
            return DaysAfter(span).bind(site)
        days = [as_of + timedelta(days=number) for number in range(span.first, span.last + 1)]
        weights = [
            self._months.get(day.month, 1) * self._weekdays.get(day.weekday(), 1) for day in days
        ]
        return Choice(days, weights if seasons else None).bind(site)


class DaysAfter(PlainColumn):
    """Days after another column's."""

    def __init__(self, span: Span) -> None:
        self._span, self.inputs = span, span.inputs

    def prepare(self) -> None:
        """Make the steps that can be drawn."""
        numbers = range(self._span.first, self._span.last + 1)
        self._steps = [timedelta(days=number) for number in numbers]

    def values(self, rows: RowBlock) -> Sequence[Any]:
        """Return the dates of a block."""
        begins, steps = self._span.begins(self.site, rows), self._steps
        kinds = self._span.kinds(self.site, rows)
        if datetime in kinds:
            begins = [None if begin is None else begin.date() for begin in begins]
        drawn = self.site.below(rows, len(steps)) if len(steps) > 1 else [0] * rows.count
        if type(None) in kinds:
            pairs = zip(begins, drawn, strict=True)
            return [None if begin is None else begin + steps[place] for begin, place in pairs]
        return [begin + steps[place] for begin, place in zip(begins, drawn, strict=True)]

    def texts(self, rows: RowBlock, encode: Encoder) -> Sequence[str]:
        """Return the dates of a block as text."""
        kinds = self._span.kinds(self.site, rows)
        if encode is not copy_texts or len(self._steps) > 1 or kinds & {datetime, type(None)}:
            return encode(rows.values(self))
        begins, (step,) = self._span.begins(self.site, rows), self._steps
        texts = {begin: str(begin + step) for begin in set(begins)}  # few days in many rows
        return [texts[begin] for begin in begins]


class Times(PlainColumn):
    """Seconds of days."""

    def __init__(self, span: Span, days: GeneratedColumn, hours: tuple[int, int]) -> None:
        self._span, self._days = span, days
        self.inputs = span.inputs
        self._start_s = hours[0] * _HOUR_S
        self._seconds = (hours[1] - hours[0]) * _HOUR_S

    def prepare(self) -> None:
        """Bind the days; raise ConfigError for hours that are none."""
        self._days = self._days.bind(self.site.part("day"))
        if not 0 <= self._start_s < self._start_s + self._seconds <= _DAY_S:
            raise self.site.error("hours are not two increasing hours of a day", "Use (9, 17)")

    def values(self, rows: RowBlock) -> Sequence[Any]:
        """Return the times of a block."""
        if datetime in self._span.kinds(self.site, rows):
            return self._seconds_after(self._span.begins(self.site, rows), rows)
        midnight = time(tzinfo=UTC)
        return [
            None if day is None else datetime.combine(day, midnight) + timedelta(seconds=second)
            for day, second in zip(rows.values(self._days), self._drawn(rows), strict=True)
        ]

    def texts(self, rows: RowBlock, encode: Encoder) -> Sequence[str]:
        """Return the times of a block as text; a day's seconds have their text already."""
        kinds = self._span.kinds(self.site, rows)
        if encode is not copy_texts or kinds & {datetime, type(None)}:
            return encode(rows.values(self))
        minutes, seconds = _time_texts()
        pairs = zip(self._days.texts(rows, encode), self._drawn(rows), strict=True)
        return [f"{day}{minutes[second // 60]}{seconds[second % 60]}" for day, second in pairs]

    def _drawn(self, rows: RowBlock) -> Sequence[int]:
        """Return the second of the day for each row."""
        return rows.once((self, "seconds"), lambda: self._drawn_seconds(rows))

    def _drawn_seconds(self, rows: RowBlock) -> Sequence[int]:
        seconds = self.site.below(rows, self._seconds)
        return [self._start_s + second for second in seconds] if self._start_s else seconds

    def _seconds_after(self, begins: Sequence[Any], rows: RowBlock) -> Sequence[Any]:
        """Return times that are drawn to the second, from the first to the last day."""
        span, unit = self._span, timedelta(seconds=1)
        drawn = self.site.below(rows, (span.last - span.first) * _DAY_S + 1)
        least = span.first * _DAY_S
        return [
            None if begin is None else begin + (least + second) * unit
            for begin, second in zip(begins, drawn, strict=True)
        ]


@cache
def _time_texts() -> tuple[list[str], list[str]]:
    """Return the minutes of a day, and the seconds of a minute with the zone UTC, as text.

    Few enough for a processor's cache: a list of all seconds of a day took twice the time.
    """
    minutes = [f" {hour:02}:{minute:02}:" for hour in range(24) for minute in range(60)]
    return minutes, [f"{second:02}+00" for second in range(60)]

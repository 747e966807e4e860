"""The clock of a perf test, which stands at its dataset's ``as_of`` if the marker says so.

time-machine stops Python's wall clock: datetime.now(), date.today(), time.time() and what is made
of them. time.perf_counter() and time.monotonic(), which time rounds and time-outs, go on, and so
does the server's now().
"""

from __future__ import annotations

import importlib
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from datetime import time as day_time
from typing import TYPE_CHECKING, Any

from perfdata.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import date

# The date is as_of in all time zones from UTC-12 to UTC+11, and the instant is the same in all.
_NOON = day_time(12, tzinfo=UTC)
_STOPPED = (time.time, time.time_ns)


@contextmanager
def stopped_clock(day: date) -> Iterator[None]:
    """Stop the clock at 12:00 UTC of a day during a block."""
    with time_machine().travel(datetime.combine(day, _NOON), tick=False):
        yield


def time_machine() -> Any:
    """Import time-machine; raise ConfigError if it is not installed."""
    try:
        return importlib.import_module("time_machine")
    except ModuleNotFoundError as error:
        if error.name != "time_machine":
            raise
        raise ConfigError(
            "freeze_time=True needs time-machine, which is not installed",
            remedy="Run: pip install time-machine",
        ) from None


def check_timer(benchmark: Any) -> None:
    """Raise ConfigError if pytest-benchmark's timer is a clock that would be stopped."""
    if getattr(benchmark, "_timer", None) in _STOPPED:
        raise ConfigError(
            "freeze_time=True stops time.time(), which pytest-benchmark would time the rounds with",
            remedy="Leave out --benchmark-timer, or use --benchmark-timer=time.perf_counter",
        )

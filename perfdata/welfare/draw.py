"""Random values that are the same everywhere: byte streams of SHAKE-256, and what is made of them.

Each stream is named by (seed, table, office), so a part of the rows can be made without the rest,
and a longer draw begins with the shorter one. Python's ``random`` promises neither its methods'
values over versions nor cheap streams by name.
"""

from __future__ import annotations

import hashlib
from datetime import date, timedelta
from functools import cache

# RFC 9562, 5.4: the first digit of the fourth group carries the variant in its two highest bits.
_VARIANT = {digit: "89ab"[int(digit, 16) % 4] for digit in "0123456789abcdef"}
_DAYS_BACK, _DAYS_AHEAD = 12_000, 1_000
_SECONDS_A_DAY = 86_400


def stream(seed: int, what: str, office: int, size: int) -> bytes:
    """Return the first ``size`` bytes of the stream of that name."""
    return hashlib.shake_256(f"{seed}/{what}/{office}".encode()).digest(size)


def columns(seed: int, what: str, office: int, count: int, width: int) -> tuple[bytes, ...]:
    """Return ``width`` columns of ``count`` random bytes; a longer column begins as the shorter."""
    data = stream(seed, what, office, count * width)
    return tuple(data[column::width] for column in range(width))


def uuids(seed: int, table: str, office: int, count: int) -> list[str]:
    """Return the ids of an office's rows of a table: UUIDs of version 4's shape."""
    text = stream(seed, f"{table}.id", office, count * 16).hex()
    variant = _VARIANT
    return [
        f"{text[i : i + 8]}-{text[i + 8 : i + 12]}-4{text[i + 13 : i + 16]}"
        f"-{variant[text[i + 16]]}{text[i + 17 : i + 20]}-{text[i + 20 : i + 32]}"
        for i in range(0, count * 32, 32)
    ]


@cache
def days(as_of: date) -> tuple[str, ...]:
    """Return the days around ``as_of`` as text: [0] is ``as_of``, [7] a week later, [-7] before.

    Reaches 1,000 days ahead and 12,000 days back.
    """
    ahead = [(as_of + timedelta(days=day)).isoformat() for day in range(_DAYS_AHEAD)]
    back = [(as_of - timedelta(days=day)).isoformat() for day in range(_DAYS_BACK, 0, -1)]
    return (*ahead, *back)


@cache
def birthdays() -> tuple[str, ...]:
    """Return 256 days of a year as ``-MM-DD``; never 29 February, so every year has them."""
    first = date(2001, 1, 1)
    return tuple(f"{first + timedelta(days=slot * 365 // 256)}"[4:] for slot in range(256))


@cache
def times() -> tuple[str, ...]:
    """Return 256 times of day with their zone (UTC), for the second half of a timestamp."""
    seconds = [slot * _SECONDS_A_DAY // 256 for slot in range(256)]
    return tuple(f"{s // 3600:02}:{s // 60 % 60:02}:{s % 60:02}+00" for s in seconds)

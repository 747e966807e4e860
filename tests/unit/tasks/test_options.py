"""Options with values: read strictly, refused with what would be right."""

from __future__ import annotations

import pytest

from perfdata import ConfigError
from perfdata.tasks.task import read_duration, read_lock_timeout


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("10s", 10), ("500ms", 0.5), ("30", 30), ("1.5s", 1.5), ("2min", 120), ("0.25", 0.25)],
)
def test_lengths_of_time_are_read(text: str, seconds: float) -> None:
    assert read_lock_timeout(text) == pytest.approx(seconds)


def test_nothing_is_the_default() -> None:
    assert read_lock_timeout("") == 10


@pytest.mark.parametrize(
    "text", ["10 s", "s", "-1s", "1h", "1e3", "0x10", "10s ", "１０", "nan", "inf", "1.s"]
)
def test_all_else_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"--lock-timeout takes a duration such as 10s"):
        read_duration("lock-timeout", text)


def test_waiting_not_at_all_or_for_ever_is_refused() -> None:
    for text in ("0", "0ms", "9999999"):
        with pytest.raises(ConfigError, match="is out of range"):
            read_lock_timeout(text)

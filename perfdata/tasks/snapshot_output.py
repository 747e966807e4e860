"""What snapshot.diff prints, and how it reads the number of samples."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from perfdata.errors import ConfigError
from perfdata.tasks.output import human_rows, one_line, print_table, show

if TYPE_CHECKING:
    from collections.abc import Iterator

    from perfdata.snapshot.diff import Difference, TableDifference
    from perfdata.snapshot.matching import RowSample

LIMIT = 5
_SHOWN_CHARACTERS = 60
_SIGNS = {"added": "+", "removed": "-", "changed": "~"}


def whole_number(option: str, given: str, default: int) -> int:
    """Read an option's whole number, none below zero; raise ConfigError."""
    if not given:
        return default
    if not given.isascii() or not given.isdigit():
        raise ConfigError(f"--{option} takes a whole number, not {given!r}")
    return int(given)


def difference_facts(difference: Difference) -> dict[str, object]:
    """Write a difference for JSON."""
    return {"same": difference.same, **asdict(difference)}


def print_difference(difference: Difference) -> None:
    """Print the tables that differ, and below them samples of their rows."""
    if difference.same:
        print(f"same: {difference.before} and {difference.after}")
        return
    print(f"from {difference.before} to {difference.after}")
    print_table(
        ("table", "rows", "added", "removed", "changed", "columns"),
        [
            (
                one.table,
                _rows(one),
                f"{one.added:,}",
                f"{one.removed:,}",
                f"{one.changed:,}",
                ", ".join(_columns(one)) or "same",
            )
            for one in difference.tables
        ],
        right=("added", "removed", "changed"),
    )
    for one in difference.tables:
        for kind, samples in one.samples.items():
            for sample in samples:
                show(f"{_SIGNS[kind]} {one.table} {_sample(sample)}")


def _rows(one: TableDifference) -> str:
    if one.rows_before is None:
        return f"only after: {human_rows(one.rows_after or 0)}"
    if one.rows_after is None:
        return f"only before: {human_rows(one.rows_before)}"
    return f"{one.rows_before:,} to {one.rows_after:,}"


def _columns(one: TableDifference) -> Iterator[str]:
    yield from (f"+{name}" for name in one.columns_added)
    yield from (f"-{name}" for name in one.columns_removed)


def _sample(sample: RowSample) -> str:
    key = " ".join(f"{name}={_value(value)}" for name, value in sample.key.items())
    changes = ", ".join(
        f"{name}: {_value(old)} to {_value(new)}" for name, (old, new) in sample.changed.items()
    )
    return f"{key} {changes}".rstrip()


def _value(value: str | None) -> str:
    text = "null" if value is None else one_line(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"

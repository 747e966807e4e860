"""The marker ``perf``: which dataset a test runs on, and what its scenario may do at most."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from perfdata.errors import ConfigError
from perfdata.perf.model import Budgets

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

DEFAULT_DATASET = "100_offices"
BUDGETS = tuple(field.name for field in fields(Budgets))
ARGUMENTS = ("dataset", *BUDGETS)


@dataclass(frozen=True)
class Marker:
    """What the markers of a test say together."""

    dataset: str
    budgets: Budgets

    @classmethod
    def merged(cls, given: Iterable[tuple[tuple[Any, ...], Mapping[str, Any]]]) -> Marker:
        """Merge markers' positional and named arguments, the nearest marker first.

        Raises ConfigError for an argument that the marker does not have.
        """
        merged: dict[str, Any] = {"dataset": DEFAULT_DATASET}
        for args, kwargs in reversed(list(given)):
            if args:
                raise ConfigError(
                    f"the marker perf takes its arguments by name: {', '.join(ARGUMENTS)}"
                )
            for name, value in kwargs.items():
                _check(name, value)
            merged.update(kwargs)
        return cls(merged.pop("dataset"), Budgets(**merged))


def _check(name: str, value: object) -> None:
    if name not in ARGUMENTS:
        near = difflib.get_close_matches(name, ARGUMENTS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(ARGUMENTS)}"
        raise ConfigError(f"the marker perf has no argument {name!r}; {hint}")
    if name == "dataset" and not isinstance(value, str):
        raise ConfigError(f"perf(dataset=…) takes a name, not {value!r}")
    if name in BUDGETS and value is not None and not _is_count(value):
        raise ConfigError(f"perf({name}=…) takes a whole number from 0, not {value!r}")


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0

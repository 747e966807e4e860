"""The marker ``perf``: the dataset and the budgets of a perf test.

    dataset          the dataset, or a snapshot without one (default: the project's only one)
    on               what the scenario receives: "session" (default), "engine" or "psycopg"
    session          the keyword argument by which it receives that (default: the first argument)
    name             the scenario's name (default: its function's, else the test's)
    freeze_time      whether the clock stands at the dataset's as_of during the test
    own_packages     installed packages that belong to the application, added to the settings'
    max_…            the budgets (perfdata.perf.model.Budgets)
    growth           the names of other datasets, for max_growth
    buffers_percent  buffers may exceed the baseline by this percentage (default 2)
    buffers_blocks   or by this number of blocks (default 8)

Of several markers (on a test, its class, its module) the closest wins, for each argument.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

from perfdata.errors import ConfigError
from perfdata.perf.gate.growth import COUNTERS
from perfdata.perf.gate.regressions import Threshold
from perfdata.perf.model import Budgets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from perfdata.project import Project

TARGETS = ("session", "engine", "psycopg")
BUDGETS = tuple(field.name for field in fields(Budgets))
_THRESHOLDS = ("growth", "buffers_percent", "buffers_blocks")


@dataclass(frozen=True)
class Marker:
    """The merged markers of a test."""

    dataset: str = ""
    budgets: Budgets = field(default_factory=Budgets)
    on: str = TARGETS[0]
    session: str = ""
    name: str | None = None
    freeze_time: bool = False
    own_packages: tuple[str, ...] = ()
    growth: tuple[str, ...] = ()
    threshold: Threshold = field(default_factory=Threshold)

    @classmethod
    def merged(cls, given: Iterable[tuple[tuple[Any, ...], Mapping[str, Any]]]) -> Marker:
        """Merge the arguments of markers, of which the closest comes first.

        Raises ConfigError for a positional, unknown or invalid argument.
        """
        merged: dict[str, Any] = {}
        for args, kwargs in reversed(list(given)):
            if args:
                raise ConfigError(
                    f"the marker perf takes keyword arguments only: {', '.join(ARGUMENTS)}"
                )
            for name, value in kwargs.items():
                _check(name, value)
            merged.update(kwargs)
        budgets = {name: merged.pop(name) for name in BUDGETS if name in merged}
        allowed = {
            part: merged.pop(f"buffers_{part}")
            for part in ("percent", "blocks")
            if f"buffers_{part}" in merged
        }
        for name in {"growth", "own_packages"} & merged.keys():
            merged[name] = _names(merged[name])
        return cls(budgets=Budgets(**budgets), threshold=Threshold(**allowed), **merged)

    def on_dataset(self, name: str) -> Marker:
        """Return the marker for another dataset, with only those budgets that hold at any size."""
        if name == self.dataset:
            return self
        kept = self.budgets
        budgets = Budgets(max_queries=kept.max_queries, max_repeats=kept.max_repeats)
        return replace(self, dataset=name, budgets=budgets)


def only_dataset(project: Project | None) -> str:
    """Return the name of a project's only dataset, for a test whose marker names none.

    Raises ConfigError if the project has none, or several.
    """
    names = [dataset.name for dataset in project.datasets] if project else []
    if len(names) != 1:
        there_are = f"; there are: {', '.join(names)}" if names else ""
        raise ConfigError(
            f"the test's marker names no dataset, and the project has {len(names) or 'none'}",
            remedy=f'Name it: @pytest.mark.perf(dataset="…"){there_are}',
        )
    return names[0]


def stated_limits(given: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the budgets and thresholds that markers set to other values than None.

    The closest marker comes first. Other arguments are ignored: markers named perf may belong to
    another plugin.
    """
    merged: dict[str, Any] = {}
    for kwargs in reversed(list(given)):
        merged.update(kwargs)
    return [name for name in (*BUDGETS, *_THRESHOLDS) if merged.get(name) is not None]


def _names(value: str | Iterable[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


def _is_name(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_identifier(value: object) -> bool:
    return isinstance(value, str) and value.isidentifier()


def _is_flag(value: object) -> bool:
    return isinstance(value, bool)


def _are_names(value: object) -> bool:
    return _is_name(value) or (
        isinstance(value, (tuple, list)) and bool(value) and all(map(_is_name, value))
    )


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0


def _is_growth(value: object) -> bool:
    if isinstance(value, dict):
        return bool(value) and set(value) <= set(COUNTERS) and all(map(_is_number, value.values()))
    return _is_number(value)


_COUNT = (_is_count, "an integer of at least 0")
_VALIDATORS: dict[str, tuple[Callable[[object], bool], str]] = {
    "dataset": (_is_name, "a name"),
    "on": (TARGETS.__contains__, f"one of {', '.join(map(repr, TARGETS))}"),
    "session": (_is_identifier, "the name of a keyword argument"),
    "name": (_is_name, "a name"),
    "freeze_time": (_is_flag, "True or False"),
    "own_packages": (_are_names, "a package's name or a tuple of names"),
    "growth": (_are_names, "a dataset's name or a tuple of names"),
    "buffers_percent": (_is_number, "a number of at least 0"),
    "buffers_blocks": _COUNT,
    **dict.fromkeys(BUDGETS, _COUNT),
    "max_growth": (
        _is_growth,
        f"a number of at least 0, or a dictionary of such numbers for {', '.join(COUNTERS)}",
    ),
}
ARGUMENTS = tuple(_VALIDATORS)


def _check(name: str, value: object) -> None:
    if name not in _VALIDATORS:
        near = difflib.get_close_matches(name, ARGUMENTS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"its arguments are {', '.join(ARGUMENTS)}"
        raise ConfigError(f"the marker perf has no argument {name!r}; {hint}")
    is_valid, expected = _VALIDATORS[name]
    if not (is_valid(value) or (value is None and name in BUDGETS)):
        raise ConfigError(f"perf({name}=…) takes {expected}, not {value!r}")

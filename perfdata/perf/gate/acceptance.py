"""Acceptance: the results of the last run become baselines."""

from __future__ import annotations

import difflib
import os
from collections import Counter
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING

from perfdata.errors import BaselineError, ConfigError, RefusedError
from perfdata.perf.gate.advice import remaining_failures
from perfdata.perf.gate.baselines import (
    Baseline,
    read_baseline,
    shared_baseline,
    to_text,
    write_baseline,
)
from perfdata.perf.gate.regressions import change
from perfdata.perf.model import PlanSource

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from perfdata.perf.model import ScenarioResult

_NOT_CI = {"", "0", "false", "no"}


class BaselineChange(Enum):
    """What acceptance does to a baseline."""

    NEW = "new"
    CHANGED = "changed"
    SAME = "same"


@dataclass(frozen=True)
class Acceptance:
    """A baseline to write. ``changes`` are lines that describe the changes to an existing file.

    ``still_red`` are lines on the failures that acceptance does not fix.
    """

    scenario: str
    dataset: str
    path: Path
    baseline: Baseline
    done: BaselineChange
    changes: tuple[str, ...] = ()
    still_red: tuple[str, ...] = ()


def in_ci(environ: Mapping[str, str] = os.environ) -> bool:
    """Return whether this is a CI job, in which nothing is accepted."""
    return environ.get("CI", "").lower() not in _NOT_CI


def acceptances(results: Sequence[ScenarioResult], root: Path, only: str = "") -> list[Acceptance]:
    """Return what accepting the results of one scenario, or of all, would do; write nothing.

    Raises ConfigError if there is no result of that name, or if two tests would share a baseline,
    and RefusedError if a baseline would lose its buffers and plans and no longer gate them.
    """
    chosen = [result for result in results if not only or result.scenario == only]
    if not chosen:
        raise ConfigError(_no_such(results, only))
    _check_apart(results, chosen)
    return [
        replace(_acceptance(result, root), still_red=tuple(remaining_failures(result)))
        for result in chosen
        if result.baseline
    ]


def accept(found: Sequence[Acceptance], environ: Mapping[str, str] = os.environ) -> None:
    """Write the baselines that change; raise RefusedError in CI."""
    if in_ci(environ):
        raise RefusedError(
            "baselines are not accepted in CI (the variable CI is set): accept them on your own "
            "machine, review the change, and commit it"
        )
    for acceptance in found:
        if acceptance.done is not BaselineChange.SAME:
            write_baseline(acceptance.path, acceptance.baseline)


def _no_such(results: Sequence[ScenarioResult], only: str) -> str:
    names = sorted({result.scenario for result in results})
    if not only or not names:
        return "the last run measured no scenario; run the perf tests first"
    near = difflib.get_close_matches(only, names, n=1)
    hint = f"did you mean {near[0]}?" if near else f"it measured {', '.join(names)}"
    return f"the last run measured no scenario {only!r}; {hint}"


def _check_apart(results: Sequence[ScenarioResult], chosen: Sequence[ScenarioResult]) -> None:
    counted = Counter(result.baseline for result in results if result.baseline)
    for result in chosen:
        if counted[result.baseline] > 1:
            tests = [other.test for other in results if other.baseline == result.baseline]
            raise shared_baseline(result, tests)


def _acceptance(result: ScenarioResult, root: Path) -> Acceptance:
    path, new = root / result.baseline, Baseline.of(result)
    try:
        old = read_baseline(path, result.scenario, result.dataset)
    except BaselineError as error:  # accepting replaces a damaged file
        return _made(new, path, BaselineChange.CHANGED, (str(error),))
    if old is None:
        return _made(new, path, BaselineChange.NEW, ())
    # Data that changed alone is kept too, so that a later failure names only what changed since.
    if to_text(old) == to_text(replace(new, data=new.data or old.data)):
        return _made(old, path, BaselineChange.SAME, ())
    if new.plan_source is PlanSource.NONE is not old.plan_source:
        raise RefusedError(_disarming(result))
    return _made(new, path, BaselineChange.CHANGED, tuple(_changes(old, new)))


def _disarming(result: ScenarioResult) -> str:
    why = "; ".join(result.not_captured) or "plans could not be captured"
    return (
        f"{result.scenario} on {result.dataset} is not accepted, nor is any other result: "
        f"{result.baseline} has buffers and plans, but the last run has none that could be judged "
        f"({why}). Run the perf tests where they can be captured and accept that run; or, to gate "
        "without them, remove the file and accept again"
    )


def _made(
    baseline: Baseline, path: Path, done: BaselineChange, changes: tuple[str, ...]
) -> Acceptance:
    return Acceptance(baseline.scenario, baseline.dataset, path, baseline, done, changes)


def _changes(old: Baseline, new: Baseline) -> Iterator[str]:
    """Yield the changed counters by name, then a diff of the file."""
    for name in dict.fromkeys((*old.counters, *new.counters)):
        before, after = old.counters.get(name), new.counters.get(name)
        if before != after:
            both = before is not None and after is not None
            yield f"{name} {change(before or 0, after or 0) if both else f'{before} → {after}'}"
    lines = difflib.unified_diff(
        to_text(old).splitlines(), to_text(new).splitlines(), lineterm="", n=2
    )
    for line in list(lines)[2:]:  # without the file names
        yield line.rstrip()

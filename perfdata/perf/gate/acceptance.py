"""Accepting: the last run's results become the baselines that later ones are compared with."""

from __future__ import annotations

import difflib
import os
from collections import Counter
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING

from perfdata.errors import BaselineError, ConfigError, RefusedError
from perfdata.perf.gate.advice import still_red
from perfdata.perf.gate.baselines import Baseline, read_baseline, to_text, write_baseline
from perfdata.perf.gate.regressions import change
from perfdata.perf.model import PlanSource

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from perfdata.perf.model import ScenarioResult

_NOT_CI = {"", "0", "false", "no"}


class BaselineChange(Enum):
    """What accepting does to a baseline."""

    NEW = "new"
    CHANGED = "changed"
    SAME = "same"


@dataclass(frozen=True)
class Acceptance:
    """A baseline as it is to be written, and what it changes, in lines: none where it is new.

    ``still_red`` says what the scenario stays red for, also in lines.
    """

    scenario: str
    dataset: str
    path: Path
    baseline: Baseline
    done: BaselineChange
    changes: tuple[str, ...] = ()
    still_red: tuple[str, ...] = ()


def in_ci(environ: Mapping[str, str] = os.environ) -> bool:
    """Tell whether this is a CI job, where nothing is accepted."""
    return environ.get("CI", "").lower() not in _NOT_CI


def acceptances(results: Sequence[ScenarioResult], root: Path, only: str = "") -> list[Acceptance]:
    """Return what accepting results would do, of one scenario or of all; nothing is written.

    Raises ConfigError where no result is of that name, or two tests would share a baseline;
    RefusedError where a baseline would lose its buffers and plans, so that they gate no more.
    """
    chosen = [one for one in results if not only or one.scenario == only]
    if not chosen:
        raise ConfigError(_no_such(results, only))
    _check_apart(results, chosen)
    return [
        replace(_acceptance(one, root), still_red=tuple(still_red(one)))
        for one in chosen
        if one.baseline
    ]


def accept(found: Sequence[Acceptance], environ: Mapping[str, str] = os.environ) -> None:
    """Write the baselines that change; RefusedError in CI, where nothing is written."""
    if in_ci(environ):
        raise RefusedError(
            "nothing is accepted in CI (the variable CI is set): accept on a machine of your own, "
            "look at the change, and commit it"
        )
    for one in found:
        if one.done is not BaselineChange.SAME:
            write_baseline(one.path, one.baseline)


def _no_such(results: Sequence[ScenarioResult], only: str) -> str:
    names = sorted({one.scenario for one in results})
    if not only or not names:
        return "the last run measured no scenario; run the perf tests first"
    near = difflib.get_close_matches(only, names, n=1)
    hint = f"did you mean {near[0]}?" if near else f"it measured {', '.join(names)}"
    return f"the last run measured no scenario {only!r}; {hint}"


def _check_apart(results: Sequence[ScenarioResult], chosen: Sequence[ScenarioResult]) -> None:
    counted = Counter(one.baseline for one in results if one.baseline)
    for one in chosen:
        if counted[one.baseline] > 1:
            tests = " and ".join(each.test for each in results if each.baseline == one.baseline)
            raise ConfigError(
                f"{tests} measure {one.scenario} on {one.dataset}, and would share a baseline: "
                'give one of them a name, @pytest.mark.perf(name="…")'
            )


def _acceptance(result: ScenarioResult, root: Path) -> Acceptance:
    path, new = root / result.baseline, Baseline.of(result)
    try:
        old = read_baseline(path, result.scenario, result.dataset)
    except BaselineError as error:  # what is damaged is what accepting anew mends
        return _made(new, path, BaselineChange.CHANGED, (str(error),))
    if old is None:
        return _made(new, path, BaselineChange.NEW, ())
    # Another dataset with the same counts is no change, or a comment in its code would be one.
    if to_text(replace(old, data=new.data)) == to_text(new) and (old.data or not new.data):
        return _made(old, path, BaselineChange.SAME, ())
    if new.plan_source is PlanSource.NONE is not old.plan_source:
        raise RefusedError(_disarming(result))
    return _made(new, path, BaselineChange.CHANGED, tuple(_changes(old, new)))


def _disarming(result: ScenarioResult) -> str:
    why = "; ".join(result.not_captured) or "plans could not be captured"
    return (
        f"{result.scenario} on {result.dataset} is not accepted, nor is anything else: "
        f"{result.baseline} holds buffers and plans, and the last run has none that could be "
        f"judged ({why}). Run the perf tests where they can be, and accept that; or, if it is to "
        "gate without them, remove the file and accept again"
    )


def _made(
    baseline: Baseline, path: Path, done: BaselineChange, changes: tuple[str, ...]
) -> Acceptance:
    return Acceptance(baseline.scenario, baseline.dataset, path, baseline, done, changes)


def _changes(old: Baseline, new: Baseline) -> Iterator[str]:
    """Say counters by name, then every line of the file that changes."""
    for name in dict.fromkeys((*old.counters, *new.counters)):
        before, after = old.counters.get(name), new.counters.get(name)
        if before != after:
            both = before is not None and after is not None
            yield f"{name} {change(before or 0, after or 0) if both else f'{before} → {after}'}"
    lines = difflib.unified_diff(
        to_text(old).splitlines(), to_text(new).splitlines(), lineterm="", n=2
    )
    for line in list(lines)[2:]:  # without the names of two files that are one
        yield line.rstrip()

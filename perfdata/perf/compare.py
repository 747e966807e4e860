"""Compare: this tree and a revision of it, round by round, on the same data, in one job.

Three pytests run the same perf tests: this tree's, the revision's, and this tree's once more,
which shows what the machine makes of the same code twice. Each has a database of its own on the
same server. Nothing is written to baselines, results or history.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

from perfdata.config import Settings
from perfdata.errors import ConfigError
from perfdata.perf.compared import Comparison
from perfdata.perf.interleave import Interleaving, Limits
from perfdata.perf.peers import running
from perfdata.perf.randomisation import FEWEST_ROUNDS
from perfdata.perf.results import read_results, results_path
from perfdata.perf.sides import Bench
from perfdata.perf.workshop import TREE, workshop
from perfdata.perf.worktree import Repository
from perfdata.progress import Event, silent

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from perfdata.perf.interleave import Found
    from perfdata.progress import Report

_SHORT = 10  # digits of a hash
_MOST_ROUNDS = 10_000


def compare(
    settings: Settings,
    rev: str,
    *,
    only: str = "",
    dataset: str = "",
    rounds: int | None = None,
    limits: Limits | None = None,
    report: Report = silent,
) -> Comparison:
    """Compare this tree, as it lies there, with a revision.

    ``only`` takes the tests of one scenario, ``dataset`` runs all on another dataset; ``rounds`` is
    their number where not as many as take five seconds a side. Raises ConfigError for what can't be
    compared, and ComparisonError where a side does not run to its end.
    """
    from perfdata.target.target import open_target

    _check(settings, rounds)
    repository = Repository.around(settings.root)
    commit = repository.commit(rev)
    found, target = Comparison(rev, commit, repository.dirty(), ()), open_target(settings, report)
    with workshop(settings, target, repository) as folder, ExitStack() as stack:
        repository.check_out(commit, folder / TREE)
        label = f"{rev} ({commit[:_SHORT]})" if not commit.startswith(rev) else commit[:_SHORT]
        theirs = _settings_of(folder / TREE, repository, settings, label)
        report(Event(f"comparing this tree with {label}"))
        bench = Bench(settings, target, repository.top, folder)
        sides = [
            bench.side("this", "this tree"),
            bench.side("rev", label, folder / TREE),
            bench.side("again", "this tree, once more", like="this"),
        ]
        peers = {}
        for side in sides:
            module = (theirs if side.name == "rev" else settings).project.partition(":")[0]
            peer = running(side, repository.top, project=module, dataset=dataset)
            peers[side.name] = stack.enter_context(peer)
        interleaving = Interleaving(peers, rounds, limits or Limits(), report)
        return _with(found, interleaving.run(lambda tests: selected(tests, only, settings)))


def _check(settings: Settings, rounds: int | None) -> None:
    if os.name == "nt":
        raise ConfigError("no comparisons on Windows yet: the sides talk over Unix sockets")
    if not settings.configured:
        raise ConfigError(
            f"no pyproject.toml at or above {settings.root} has [tool.perfdata]: it names the "
            "project whose perf tests are compared"
        )
    if rounds is not None and not FEWEST_ROUNDS <= rounds <= _MOST_ROUNDS:
        raise ConfigError(
            f"{rounds} rounds tell nothing: take from {FEWEST_ROUNDS} to {_MOST_ROUNDS:,}, "
            "or let their number be chosen"
        )


def _settings_of(tree: Path, repository: Repository, ours: Settings, label: str) -> Settings:
    """Read the revision's own settings, and check that it can be compared."""
    root = tree / ours.root.resolve().relative_to(repository.top)
    for place in (root, root / "src"):
        package = place / "perfdata"
        if (package / "__init__.py").is_file() and not (package / "perf" / "rounds.py").is_file():
            raise ConfigError(
                f"{label} holds perfdata itself, from before there were comparisons (it has no "
                "perfdata/perf/rounds.py): compare with a later revision"
            )
    theirs = Settings.load(root) if root.is_dir() else None
    if theirs is None or not theirs.configured or theirs.root != root.resolve():
        where = root.relative_to(tree) / "pyproject.toml"
        raise ConfigError(f"{label} has no [tool.perfdata] in {where}: the project is not there")
    return theirs


def selected(tests: Sequence[str], only: str, settings: Settings) -> Sequence[str]:
    """Return the tests of one scenario: that measured it in the last run, else by their names."""
    if not only:
        return tests
    path = results_path(settings)
    last = read_results(path).scenarios if path.is_file() else ()
    measured = {one.test for one in last if one.scenario == only}
    named = [test for test in tests if only in test.partition("::")[2]]
    return [test for test in tests if test in measured] or named


def _with(comparison: Comparison, found: Found) -> Comparison:
    return replace(
        comparison,
        scenarios=tuple(found.scenarios),
        notes=tuple(found.notes),
        errors=tuple(found.errors),
    )

"""Compare this tree with a git revision of it, round by round, on the same data.

Three pytest processes run the same perf tests: this tree, the revision, and this tree again (A/A),
which shows how much the machine varies for the same code. Each has its own database on the same
server. Baselines, results and history are not written.

A comparison has a token: it creates the folder PERFDATA_HOME/compare/TOKEN, with the revision's
tree in it, and the databases perfdata_compare_TOKEN_*. It holds a lock while it runs; folders
without a held lock were left by a killed run and are removed.
"""

from __future__ import annotations

import os
import secrets
import shutil
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from perfdata.config import Settings
from perfdata.errors import ConfigError
from perfdata.perf.compare.coordinator import Coordinator, Limits, ScenarioSelection, running
from perfdata.perf.compare.differences import FEWEST_ROUNDS, Comparison
from perfdata.perf.compare.git import run_git
from perfdata.perf.compare.variants import PREFIX, VariantFactory, drop_databases
from perfdata.perf.report.results import read_results, results_path
from perfdata.progress import Event, silent
from perfdata.project import NO_PROJECT_REMEDY, no_project_reason

if TYPE_CHECKING:
    from collections.abc import Iterator

    from perfdata.progress import Report
    from perfdata.target.target import Target

TREE = "tree"
_FOLDER = "compare"
_LOCK_S = 60.0
_MOST_ROUNDS = 10_000


def compare_revision(
    settings: Settings,
    rev: str,
    *,
    only: str = "",
    dataset: str = "",
    rounds: int | None = None,
    limits: Limits | None = None,
    report: Report = silent,
) -> Comparison:
    """Compare this tree, with its uncommitted changes, with a revision.

    ``only`` selects one scenario, ``dataset`` replaces the tests' datasets, ``rounds`` is the
    number of rounds (default: what takes about five seconds per variant). Raises ConfigError if
    the trees cannot be compared, ComparisonError if a variant does not run to completion.
    """
    from perfdata.target.target import open_target

    repository, comparison = check_comparison(settings, rev, rounds)
    label = comparison.label
    target = open_target(settings, report)
    with workspace(settings, target, repository) as folder, ExitStack() as stack:
        repository.check_out(comparison.commit, folder / TREE)
        theirs = _settings_of(folder / TREE, repository, settings, label)
        report(Event(f"comparing this tree with {label}"))
        factory = VariantFactory(settings, target, repository.top, folder)
        variants = [
            factory.make("this", "this tree"),
            factory.make("rev", label, folder / TREE),
            factory.make("again", "this tree, once more", like="this"),
        ]
        processes = {}
        for variant in variants:
            own = theirs if variant.name == "rev" else settings
            module = (own.project or "").partition(":")[0]
            process = running(variant, repository.top, project=module, dataset=dataset)
            processes[variant.name] = stack.enter_context(process)
        coordinator = Coordinator(processes, rounds, limits or Limits(), report)
        outcome = coordinator.run(_selection(only, settings))
    return replace(
        comparison,
        scenarios=tuple(outcome.scenarios),
        notes=tuple(outcome.notes),
        errors=tuple(outcome.errors),
    )


def check_comparison(
    settings: Settings, rev: str, rounds: int | None
) -> tuple[Repository, Comparison]:
    """Make the checks that precede a checkout; return the repository and an empty comparison."""
    _check(settings, rounds)
    repository = Repository.around(settings.root)
    return repository, Comparison(rev, repository.commit(rev), repository.dirty(), ())


def _check(settings: Settings, rounds: int | None) -> None:
    if os.name == "nt":
        raise ConfigError("comparisons need Unix sockets, and do not run on Windows yet")
    if settings.project is None:
        raise ConfigError(no_project_reason(settings), remedy=NO_PROJECT_REMEDY)
    if rounds is not None and not FEWEST_ROUNDS <= rounds <= _MOST_ROUNDS:
        raise ConfigError(
            f"the number of rounds must be from {FEWEST_ROUNDS} to {_MOST_ROUNDS:,}, not {rounds}; "
            "without it perfdata chooses one"
        )


def _settings_of(tree: Path, repository: Repository, ours: Settings, label: str) -> Settings:
    """Read the revision's own settings, and check that it can be compared."""
    root = tree / ours.root.resolve().relative_to(repository.top)
    for place in (root, root / "src"):
        package = place / "perfdata"
        ends = (package / "perf" / "rounds.py", package / "perf" / "compare" / "participant.py")
        if (package / "__init__.py").is_file() and not any(end.is_file() for end in ends):
            raise ConfigError(
                f"{label} contains a perfdata that cannot be compared yet (it has no "
                "perfdata/perf/compare): choose a later revision"
            )
    theirs = Settings.load(root) if root.is_dir() else None
    if theirs is None or theirs.project is None or theirs.root != root.resolve():
        where = root.relative_to(tree) / "pyproject.toml"
        raise ConfigError(f"{label} has no [tool.perfdata] in {where} with a project to compare")
    return theirs


def _selection(only: str, settings: Settings) -> ScenarioSelection:
    """Select the tests of a scenario, with those that measured it in the last run."""
    path = results_path(settings)
    last = read_results(path).scenarios if only and path.is_file() else ()
    return ScenarioSelection(
        only, frozenset(result.test for result in last if result.scenario == only)
    )


@contextmanager
def workspace(settings: Settings, target: Target, repository: Repository) -> Iterator[Path]:
    """Create the folder of a comparison; afterwards remove it and everything with its token.

    What killed comparisons left is removed first.
    """
    from filelock import FileLock

    parent = settings.make_home() / _FOLDER
    parent.mkdir(exist_ok=True)
    token = secrets.token_hex(4)
    folder = parent / token
    lock = FileLock(parent / f"{token}.lock")
    with FileLock(parent / "lock", timeout=_LOCK_S):
        lock.acquire()
        _remove_leftovers(parent, target)
        folder.mkdir()
        (folder / "repository").write_text(str(repository.top), encoding="utf-8")
    try:
        yield folder
    finally:
        _remove(folder, target)
        lock.release()
        Path(lock.lock_file).unlink(missing_ok=True)


def _remove_leftovers(parent: Path, target: Target) -> None:
    from filelock import FileLock, Timeout

    for path in sorted(parent.glob("*.lock")):
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            continue  # this comparison, or another one that is running
        _remove(path.with_suffix(""), target)
        path.unlink(missing_ok=True)
        lock.release()


def _remove(folder: Path, target: Target) -> None:
    origin = folder / "repository"
    if origin.is_file():
        Repository(Path(origin.read_text(encoding="utf-8"))).remove(folder / TREE)
    drop_databases(target, f"{PREFIX}{folder.name}_")
    shutil.rmtree(folder, ignore_errors=True)  # last: its name identifies the databases


@dataclass(frozen=True)
class Repository:
    """A git repository; ``top`` is the folder of its working tree."""

    top: Path

    @classmethod
    def around(cls, folder: Path) -> Repository:
        """Find the repository that contains a folder; raise ConfigError if there is none."""
        if shutil.which("git") is None:
            raise ConfigError("comparing with a revision needs git, which is not on the PATH")
        code, output = run_git(folder, "rev-parse", "--show-toplevel")
        if code:
            raise ConfigError(f"{folder} is not in a git repository ({output})")
        return cls(Path(output).resolve())

    def commit(self, rev: str) -> str:
        """Return the hash of the commit that ``rev`` names; raise ConfigError if there is none."""
        code, found = run_git(
            self.top, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{rev}^{{commit}}"
        )
        if code:
            shallow = run_git(self.top, "rev-parse", "--is-shallow-repository")[1] == "true"
            hint = (
                "this clone is shallow: git fetch --unshallow (actions/checkout: fetch-depth: 0)"
                if shallow
                else "git log --oneline lists some"
            )
            raise ConfigError(f"--rev {rev!r} names no commit of {self.top}; {hint}")
        return found

    def dirty(self) -> bool:
        """Return whether the working tree has uncommitted changes or untracked files."""
        return bool(self._run("status", "--porcelain", "--untracked-files=normal"))

    def check_out(self, commit: str, folder: Path) -> None:
        """Check out a commit into a new folder, detached and without running hooks."""
        quiet = ["-c", f"core.hooksPath={os.devnull}", "-c", "advice.detachedHead=false"]
        self._run(*quiet, "worktree", "add", "--detach", "--quiet", str(folder), commit)

    def remove(self, folder: Path) -> None:
        """Remove a checked-out folder and git's record of it, if they exist."""
        code, _ = run_git(self.top, "worktree", "remove", "--force", "--force", str(folder))
        if code:  # git has no record of it: a run was killed while checking out
            shutil.rmtree(folder, ignore_errors=True)

    def _run(self, *arguments: str) -> str:
        code, output = run_git(self.top, *arguments)
        if code:
            raise ConfigError(f"git {arguments[-1]} in {self.top} failed: {output}")
        return output

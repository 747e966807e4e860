"""Compare: this tree and a revision of it, round by round, on the same data, in one job.

Three pytests run the same perf tests: this tree's, the revision's, and this tree's once more,
which shows what the machine makes of the same code twice. Each has a database of its own on the
same server. Nothing is written to baselines, results or history.

All that a comparison makes bears its token: the folder PERFDATA_HOME/compare/TOKEN, with the
revision's tree in it, and the databases perfdata_compare_TOKEN_*. It holds a lock meanwhile; what
is found with nobody holding it was left by a run that was killed, and is removed.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from perfdata.config import Settings
from perfdata.errors import ConfigError
from perfdata.perf.compare.coordinator import Coordinator, Limits, Selection, running
from perfdata.perf.compare.differences import FEWEST_ROUNDS, Comparison
from perfdata.perf.compare.variants import PREFIX, VariantFactory, drop_databases, without_places
from perfdata.perf.report.results import read_results, results_path
from perfdata.progress import Event, silent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from perfdata.perf.compare.coordinator import Outcome
    from perfdata.progress import Report
    from perfdata.target.target import Target

TREE = "tree"
_FOLDER = "compare"
_LOCK_S = 60.0
_SHORT = 10  # digits of a hash
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
    with workspace(settings, target, repository) as folder, ExitStack() as stack:
        repository.check_out(commit, folder / TREE)
        label = f"{rev} ({commit[:_SHORT]})" if not commit.startswith(rev) else commit[:_SHORT]
        theirs = _settings_of(folder / TREE, repository, settings, label)
        report(Event(f"comparing this tree with {label}"))
        bench = VariantFactory(settings, target, repository.top, folder)
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
        interleaving = Coordinator(peers, rounds, limits or Limits(), report)
        return _with(found, interleaving.run(_selection(only, settings)))


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
        ends = (package / "perf" / "rounds.py", package / "perf" / "compare" / "participant.py")
        if (package / "__init__.py").is_file() and not any(end.is_file() for end in ends):
            raise ConfigError(
                f"{label} holds perfdata itself, from before there were comparisons (it has no "
                "perfdata/perf/compare): compare with a later revision"
            )
    theirs = Settings.load(root) if root.is_dir() else None
    if theirs is None or not theirs.configured or theirs.root != root.resolve():
        where = root.relative_to(tree) / "pyproject.toml"
        raise ConfigError(f"{label} has no [tool.perfdata] in {where}: the project is not there")
    return theirs


def _selection(only: str, settings: Settings) -> Selection:
    """Find which tests measured a scenario in the last run."""
    path = results_path(settings)
    last = read_results(path).scenarios if only and path.is_file() else ()
    return Selection(only, frozenset(result.test for result in last if result.scenario == only))


def _with(comparison: Comparison, found: Outcome) -> Comparison:
    return replace(
        comparison,
        scenarios=tuple(found.scenarios),
        notes=tuple(found.notes),
        errors=tuple(found.errors),
    )


@contextmanager
def workspace(settings: Settings, target: Target, repository: Repository) -> Iterator[Path]:
    """Make the folder of a comparison, and remove it with all that bears its token afterwards.

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
            continue  # this run, or another that works
        _remove(path.with_suffix(""), target)
        path.unlink(missing_ok=True)
        lock.release()


def _remove(folder: Path, target: Target) -> None:
    origin = folder / "repository"
    if origin.is_file():
        Repository(Path(origin.read_text(encoding="utf-8"))).remove(folder / TREE)
    drop_databases(target, f"{PREFIX}{folder.name}_")
    shutil.rmtree(folder, ignore_errors=True)  # last: it is what tells of the databases


@dataclass(frozen=True)
class Repository:
    """The git repository whose working tree is the folder ``top``."""

    top: Path

    @classmethod
    def around(cls, folder: Path) -> Repository:
        """Find the repository that a folder lies in; ConfigError where there is none."""
        if shutil.which("git") is None:
            raise ConfigError("comparing with a revision needs git, and there is none on the PATH")
        code, said = _git(folder, "rev-parse", "--show-toplevel")
        if code:
            raise ConfigError(f"{folder} is in no git repository: there is no revision ({said})")
        return cls(Path(said).resolve())

    def commit(self, rev: str) -> str:
        """Return the hash of the commit that ``rev`` names; ConfigError where it names none."""
        code, found = _git(
            self.top, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{rev}^{{commit}}"
        )
        if code:
            shallow = _git(self.top, "rev-parse", "--is-shallow-repository")[1] == "true"
            hint = (
                "this clone is shallow: git fetch --unshallow (actions/checkout: fetch-depth: 0)"
                if shallow
                else "git log --oneline lists some"
            )
            raise ConfigError(f"--rev {rev!r} names no commit of {self.top}; {hint}")
        return found

    def dirty(self) -> bool:
        """Tell whether the working tree holds what is not committed, new files included."""
        return bool(self._run("status", "--porcelain", "--untracked-files=normal"))

    def check_out(self, commit: str, folder: Path) -> None:
        """Check a commit out into a new folder, with no branch; none of the hooks runs."""
        quiet = ["-c", f"core.hooksPath={os.devnull}", "-c", "advice.detachedHead=false"]
        self._run(*quiet, "worktree", "add", "--detach", "--quiet", str(folder), commit)

    def remove(self, folder: Path) -> None:
        """Remove a checked-out folder, and what git keeps of it, where either is there."""
        code, _ = _git(self.top, "worktree", "remove", "--force", "--force", str(folder))
        if code:  # git knows nothing of it, or not yet: a run was killed in between
            shutil.rmtree(folder, ignore_errors=True)

    def _run(self, *arguments: str) -> str:
        code, said = _git(self.top, *arguments)
        if code:
            raise ConfigError(f"git {arguments[-1]} in {self.top} failed: {said}")
        return said


def _git(folder: Path, *arguments: str) -> tuple[int, str]:
    """Run git; return its exit code, and what it said (on stderr where it failed)."""
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments],
        env=without_places(os.environ),
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, (done.stderr if done.returncode else done.stdout).strip()

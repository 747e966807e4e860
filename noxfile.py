"""Isolated sessions over the tasks and the tests: ``nox -l`` lists them.

Each session has an environment of its own under .nox. It installs only when what it would install
has changed, so that any later run costs what its work costs and needs no network. What follows
``--`` goes to the task, for tests and perf to pytest. ``-p 3.12`` runs on another Python.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import shutil
import sys
from pathlib import Path

import nox
from nox.virtualenv import VirtualEnv

nox.needs_version = ">=2025.2.9"
nox.options.sessions = ["tests", "lint", "typecheck"]
nox.options.reuse_venv = "yes"
nox.options.default_venv_backend = "uv" if shutil.which("uv") else "virtualenv"

ROOT = Path(__file__).parent
STAMP = "perfdata-installed"
OLDEST_POSTGRESQL = "/usr/lib/postgresql/15/bin"  # where Debian's packages put it


def asked_pythons(argv: list[str]) -> list[str] | None:
    """Return the versions that ``-p`` asks for; None runs on the Python that Nox runs on.

    Nox can only choose among versions that a session lists. A fixed list would make a matrix of
    every plain ``nox -s tests``, and would have to be found on every machine.
    """
    own = argv[: argv.index("--")] if "--" in argv else argv
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("-p", "--python", "--pythons", nargs="*", default=[])
    given: list[str] = parser.parse_known_args(own)[0].python
    return given or os.environ.get("NOXPYTHON", "").replace(",", " ").split() or None


PYTHONS = asked_pythons(sys.argv[1:])


def install(session: nox.Session, *groups: str, package: bool = True) -> None:
    """Install the package and some of pyproject.toml's dependency groups, where they are not.

    A stamp in the environment says what was installed last; it is written after a whole install.
    An environment that was made for another Python, or has been moved, is made again.
    """
    environment = session.virtualenv
    if not isinstance(environment, VirtualEnv):
        return  # --no-venv, or conda: its owner decides what is in it
    requirements = nox.project.dependency_groups(nox.project.load_toml(), *groups)
    wanted = [*(["-e", "."] if package else []), *requirements]
    stamp = Path(environment.location) / STAMP
    made_for = f"{session.python or platform.python_version()} {environment.location}"
    digest = install_digest(ROOT / "pyproject.toml", wanted)
    found = stamp.read_text(encoding="utf-8").splitlines() if stamp.exists() else None
    if found == [made_for, digest]:
        return
    if found and found[0] != made_for:
        session.log(f"made for Python {found[0]}: making the environment again")
        environment.reuse_existing = False
        environment.create()
    stamp.unlink(missing_ok=True)
    session.install(*wanted)
    stamp.write_text(f"{made_for}\n{digest}\n", encoding="utf-8")


def install_digest(pyproject: Path, wanted: list[str]) -> str:
    """Hash what decides an install: pyproject.toml and the arguments."""
    digest = hashlib.sha256(pyproject.read_bytes())
    digest.update("\0".join(wanted).encode())
    return digest.hexdigest()


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run the tests but for the slow ones; arguments go to pytest, and may name any test."""
    named = any(argument.startswith("tests") for argument in session.posargs)
    chosen = () if named else ("-m", "not slow")
    run_tests(session, *chosen, "tests/integration", "tests/unit", groups=("tests", "arrow"))


@nox.session(python=PYTHONS)
def slow(session: nox.Session) -> None:
    """Run the tests that take long: most of them start many processes."""
    run_tests(session, "-m", "slow", "tests/integration")


@nox.session(python=PYTHONS)
def acceptance(session: nox.Session) -> None:
    """Run whole perf sessions and applications, compare revisions; arguments go to pytest."""
    run_tests(session, "tests/acceptance")


@nox.session(python=PYTHONS)
def faults(session: nox.Session) -> None:
    """Break statements, fill the disk, forge files, connect elsewhere; arguments go to pytest."""
    run_tests(session, "tests/faults")


@nox.session(python=PYTHONS)
def oldest(session: nox.Session) -> None:
    """Run what depends on the server's version on PostgreSQL 15, where it is installed."""
    if not Path(OLDEST_POSTGRESQL, "postgres").exists():
        session.skip(f"there is no PostgreSQL 15 in {OLDEST_POSTGRESQL}")
    paths = ("tests/integration", "tests/faults/test_broken_statements.py")
    env = {"PERFDATA_PG_BIN": OLDEST_POSTGRESQL}
    run_tests(session, *paths, "-m", "server_version", env=env)


def run_tests(
    session: nox.Session,
    *arguments: str,
    groups: tuple[str, ...] = ("tests",),
    env: dict[str, str] | None = None,
) -> None:
    """Run pytest with ``arguments`` and with what follows ``--``; paths given there come instead.

    A file runs in one worker, where its tests share a server: ``-n0`` for a debugger. Files keep
    their order, so that the short ones, which are last, fill up what a worker has left.
    """
    install(session, *groups)
    if any(argument.startswith("tests") for argument in session.posargs):
        arguments = tuple(one for one in arguments if not one.startswith("tests"))
    workers = ("-n", "auto", "--dist", "loadfile", "--no-loadscope-reorder")
    session.run("pytest", *workers, *arguments, *session.posargs, env=env)


@nox.session(python=PYTHONS)
def docs(session: nox.Session) -> None:
    """Run the README's commands in a fresh copy and a fresh environment; needs the registry."""
    install(session, "tests")
    session.run("pytest", "tests/docs", *session.posargs)


@nox.session(python=PYTHONS)
def lint(session: nox.Session) -> None:
    """Check style, format, that imports point one way, and the workflows."""
    install(session, "lint", package=False)
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("lint-imports")
    session.run("actionlint", *map(str, (ROOT / ".github" / "workflows").glob("*.yml")))
    session.run("zizmor", "--offline", "--quiet", str(ROOT / ".github"))


@nox.session(python=PYTHONS)
def typecheck(session: nox.Session) -> None:
    """Check types, strictly."""
    install(session, "typecheck")
    session.run("mypy", *session.posargs)


@nox.session(python=PYTHONS)
def rehearse(session: nox.Session) -> None:
    """Run the steps of the nightly workflow, night by night, on this machine."""
    install(session, "rehearse")
    session.run("pytest", "tests/rehearsal", *session.posargs)


@nox.session(python=PYTHONS)
def perf(session: nox.Session) -> None:
    """Run the perf tests on the embedded server; arguments go to pytest."""
    install(session)
    session.run("pytest", "tests/perf", "--benchmark-quiet", *session.posargs)


@nox.session(python=PYTHONS)
def compare(session: nox.Session) -> None:
    """Time this tree and a revision in turn: nox -s compare -- --rev main."""
    # Interrupted, it ends three pytests and takes a worktree and databases away.
    run_task(session, "perf.compare", interrupt_timeout=60.0)


@nox.session(python=PYTHONS)
def dataset(session: nox.Session) -> None:
    """Build a dataset: nox -s dataset -- --name 100_offices."""
    run_task(session, "dataset.build")


@nox.session(python=PYTHONS)
def snapshot(session: nox.Session) -> None:
    """Save the database's flagged rows: nox -s snapshot -- --name mine."""
    run_task(session, "snapshot.create")


@nox.session(python=PYTHONS)
def restore(session: nox.Session) -> None:
    """Restore a snapshot: nox -s restore -- --name 100_offices."""
    run_task(session, "snapshot.restore")


@nox.session(python=PYTHONS)
def fingerprint(session: nox.Session) -> None:
    """Print a dataset's cache key: nox -s fingerprint -- --name 100_offices."""
    run_task(session, "snapshot.key")


def run_task(session: nox.Session, task: str, interrupt_timeout: float | None = 0.3) -> None:
    """Run an invoke task with the arguments that follow ``--``.

    ``interrupt_timeout`` is how many seconds it has to clean up when it is interrupted.
    """
    install(session)
    session.run("invoke", task, *session.posargs, interrupt_timeout=interrupt_timeout)

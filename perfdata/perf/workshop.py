"""The workshop of a comparison: a folder, and databases, that are gone when it ends.

All that a comparison makes bears its token: the folder PERFDATA_HOME/compare/TOKEN, with the
revision's tree in it, and the databases perfdata_compare_TOKEN_*. It holds a lock meanwhile; what
is found with nobody holding it was left by a run that was killed, and is removed.
"""

from __future__ import annotations

import secrets
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from perfdata.perf.worktree import Repository

if TYPE_CHECKING:
    from collections.abc import Iterator

    from perfdata.config import Settings
    from perfdata.target.target import Target

PREFIX = "perfdata_compare_"
TREE = "tree"
_FOLDER = "compare"
_LOCK_S = 60.0


@contextmanager
def workshop(settings: Settings, target: Target, repository: Repository) -> Iterator[Path]:
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
    _drop_databases(target, f"{PREFIX}{folder.name}_")
    shutil.rmtree(folder, ignore_errors=True)  # last: it is what tells of the databases


def _drop_databases(target: Target, prefix: str) -> None:
    """Drop a comparison's databases, and what was made from them.

    The token in the prefix is from a folder of our own: it proves as much as a mark, which one
    that was killed too early has not written.
    """
    from perfdata.templates.databases import drop_database, list_databases, maintenance_link

    with maintenance_link(target.conninfo) as (link, _):
        for one in list_databases(link):
            made_for = one.mark.target if one.mark else one.name
            if made_for.startswith(prefix):
                drop_database(link, one, force=True)

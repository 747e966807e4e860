"""Temporary files: each lies beside the file that it becomes, locked by the process that writes it.

A process that is killed leaves its file, but not its lock: what nobody has locked is left over,
however young it is.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# What a system says where a disk, or a share of it, is full.
FULL = {errno.ENOSPC, errno.EDQUOT}
_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{16}\.tmp")


@contextmanager
def temporary_beside(path: Path, mode: int = 0o666) -> Iterator[IO[bytes]]:
    """Open a file beside ``path``, to be renamed to it; removed afterwards unless it was renamed.

    ``mode`` is subject to the umask, as with any new file. What killed processes left of the same
    ``path`` is removed first.
    """
    for leftover in find_leftovers(path.parent):
        if leftover.name.startswith(f".{path.name}."):
            remove_leftover(leftover)
    with _open_locked(path, mode) as file:
        try:
            yield file
        finally:
            Path(file.name).unlink(missing_ok=True)


def write_whole(path: Path, text: str, mode: int = 0o666, *, durable: bool = False) -> None:
    """Write a file whole or not at all; ``durable``: its bytes are on the disk before its name."""
    with temporary_beside(path, mode) as file:
        file.write(text.encode("utf-8", "surrogateescape"))
        file.flush()
        if durable:
            os.fsync(file.fileno())
        give_name(file, path)


def give_name(file: IO[bytes], path: Path) -> None:
    """Rename a temporary file that is complete; its lock holds until then."""
    if os.name == "nt":
        file.close()  # Windows renames no open file
    Path(file.name).replace(path)


def find_leftovers(folder: Path) -> list[Path]:
    """Return the temporary files in a folder that no process writes any more, sorted."""
    if not folder.is_dir():
        return []
    return [
        path
        for path in sorted(folder.iterdir())
        if _TEMPORARY.fullmatch(path.name) and path.is_file() and _is_left(path)
    ]


def remove_leftover(path: Path) -> bool:
    """Remove a temporary file unless a process writes it; tell whether it was removed."""
    return _is_left(path, remove=True)


def _open_locked(path: Path, mode: int) -> IO[bytes]:
    """Make a temporary file and lock it; make another where it was taken for a leftover before."""
    while True:
        temporary = path.parent / f".{path.name}.{secrets.token_hex(8)}.tmp"
        # Not tempfile: its files are for their owner alone, and a snapshot is as the umask says.
        file = open(temporary, "x+b", opener=partial(os.open, mode=mode))  # noqa: SIM115  a context of the caller's
        with suppress(OSError):  # there are no locks: then nothing is ever left over
            _lock(file.fileno(), wait=True)
        if temporary.exists():
            return file
        file.close()


def _is_left(path: Path, *, remove: bool = False) -> bool:
    """Tell whether no process has a file locked; ``remove``: while none can begin to write it."""
    try:
        with path.open("rb") as file:
            _lock(file.fileno(), wait=False)
            if remove:
                path.unlink()
            return True
    except OSError:
        return False


def _lock(descriptor: int, *, wait: bool) -> None:
    """Lock an open file; raise OSError where another process has it, or there are no locks."""
    try:
        import fcntl
    except ImportError as error:  # Windows
        raise OSError(errno.ENOLCK, "this system has no such locks") from error
    fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))

"""Temporary files that are renamed to their final name, each locked while it is written.

A killed process leaves its file, but not the lock: an unlocked temporary file, however young, is a
leftover.
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

# The disk, or the user's quota on it, is full.
FULL = {errno.ENOSPC, errno.EDQUOT}
_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{16}\.tmp")


@contextmanager
def temporary_beside(path: Path, mode: int = 0o666) -> Iterator[IO[bytes]]:
    """Open a temporary file in the folder of ``path``, for give_name to rename.

    It is removed at the end unless it was renamed. ``mode`` is subject to the umask. Leftovers of
    the same ``path`` are removed first.
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
    """Write a file atomically; ``durable`` also syncs its bytes to disk before the rename."""
    with temporary_beside(path, mode) as file:
        file.write(text.encode("utf-8", "surrogateescape"))
        file.flush()
        if durable:
            os.fsync(file.fileno())
        give_name(file, path)


def give_name(file: IO[bytes], path: Path) -> None:
    """Rename a complete temporary file to ``path``; it stays locked until then."""
    if os.name == "nt":
        file.close()  # Windows cannot rename an open file
    Path(file.name).replace(path)


def find_leftovers(folder: Path) -> list[Path]:
    """Return the leftover temporary files in a folder, sorted."""
    if not folder.is_dir():
        return []
    return [
        path
        for path in sorted(folder.iterdir())
        if _TEMPORARY.fullmatch(path.name) and path.is_file() and _is_left(path)
    ]


def remove_leftover(path: Path) -> bool:
    """Remove a temporary file unless a process is writing it; return whether it was removed."""
    return _is_left(path, remove=True)


def _open_locked(path: Path, mode: int) -> IO[bytes]:
    """Create and lock a temporary file; retry if another process removed it before the lock."""
    while True:
        temporary = path.parent / f".{path.name}.{secrets.token_hex(8)}.tmp"
        # tempfile would ignore the umask: its files are readable by their owner only.
        file = open(temporary, "x+b", opener=partial(os.open, mode=mode))  # noqa: SIM115  closed by the caller
        with suppress(OSError):  # without file locks, no file is ever taken for a leftover
            _lock(file.fileno(), wait=True)
        if temporary.exists():
            return file
        file.close()


def _is_left(path: Path, *, remove: bool = False) -> bool:
    """Tell whether a file is unlocked; ``remove`` deletes it while this process holds the lock."""
    try:
        with path.open("rb") as file:
            _lock(file.fileno(), wait=False)
            if remove:
                path.unlink()
            return True
    except OSError:
        return False


def _lock(descriptor: int, *, wait: bool) -> None:
    """Lock an open file; raise OSError if another process has it or locks are not supported."""
    try:
        import fcntl
    except ImportError as error:  # Windows
        raise OSError(errno.ENOLCK, "file locks are not supported") from error
    fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))

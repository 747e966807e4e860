"""The operating system account that the embedded server runs under.

PostgreSQL refuses to run as root. For root, the server runs under an existing unprivileged account,
and no folder is made more accessible to it than it was. For any other user the account is None: the
server runs as that user.
"""

from __future__ import annotations

import os
import stat
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from perfdata.errors import ServerError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_CANDIDATES = ("postgres", "nobody", "daemon")
# The account can read the server's environment, so it gets these only. LANG, LC_* and PG* would
# also change the cluster.
_PASSED_ON = (
    "PATH",
    "LD_LIBRARY_PATH",
    "DYLD_LIBRARY_PATH",
    "DYLD_FALLBACK_LIBRARY_PATH",
    "TMPDIR",
)
# Modes of folders, and of files without secrets.
PRIVATE, PUBLIC, READABLE = 0o700, 0o755, 0o644


@dataclass(frozen=True)
class Account:
    """An unprivileged account of this machine."""

    name: str
    uid: int
    gid: int


def server_account(data: Path) -> Account | None:
    """Return the account that the server runs under; None is the current user.

    For root, it is the owner of an existing data folder, otherwise the first of a few accounts that
    systems have by default. Raises ServerError if there is none.
    """
    if os.geteuid() != 0:
        return None
    import pwd

    with suppress(FileNotFoundError):
        owner = data.lstat()
        if owner.st_uid != 0:
            return Account(user_name(owner.st_uid), owner.st_uid, owner.st_gid)
    for name in _CANDIDATES:
        with suppress(KeyError):
            entry = pwd.getpwnam(name)
            return Account(name, entry.pw_uid, entry.pw_gid)
    raise ServerError(
        f"PostgreSQL does not run as root, and this machine has none of the accounts "
        f"{', '.join(_CANDIDATES)}: run perfdata as an ordinary user"
    )


def user_name(uid: int) -> str:
    """Return the name of a user id, or the number if it has no name."""
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def run_as(
    account: Account | None,
    command: Sequence[object],
    *,
    stderr: IO[bytes] | None = None,
    environment: dict[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a command under the account, in a new session with a clean environment, and wait for it.

    Captures stdout, and stderr unless a file is given for it. Raises ServerError if the command
    can't be started.
    """
    try:
        return subprocess.run(
            list(map(str, command)),
            check=False,
            cwd="/",
            encoding="utf-8",
            env=clean_environment() | (environment or {}),
            errors="replace",
            extra_groups=None if account is None else [],
            group=None if account is None else account.gid,
            start_new_session=True,
            stderr=stderr or subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            user=None if account is None else account.uid,
        )
    except (OSError, subprocess.SubprocessError) as error:
        user = "" if account is None else f" as {account.name}"
        raise ServerError(f"{command[0]} can't be run{user}: {error}") from error


def clean_environment() -> dict[str, str]:
    """Return the variables of our environment that are passed on to the server."""
    return {name: os.environ[name] for name in _PASSED_ON if name in os.environ}


def can_reach(account: Account | None, folder: Path) -> bool:
    """Return whether the account can enter the folder, by trying it."""
    command = ["/bin/sh", "-c", 'test -x "$1"', "sh", folder]
    return account is None or run_as(account, command).returncode == 0


def make_folder(folder: Path, account: Account | None, mode: int = PRIVATE) -> None:
    """Create a folder, or take over an existing one, with this owner and mode."""
    folder.mkdir(mode=PRIVATE, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise ServerError(f"{folder} is not a folder, but perfdata needs one there: remove it")
    if account is not None and found.st_uid != account.uid:
        os.chown(folder, account.uid, account.gid, follow_symlinks=False)
    if stat.S_IMODE(found.st_mode) != mode:
        folder.chmod(mode)


def is_private(folder: Path, account: Account | None) -> bool:
    """Return whether this is a real folder that the account owns and nobody else can enter."""
    try:
        found = folder.lstat()
    except FileNotFoundError:
        return False
    owner = os.geteuid() if account is None else account.uid
    return (
        stat.S_ISDIR(found.st_mode)
        and found.st_uid == owner
        and stat.S_IMODE(found.st_mode) == PRIVATE
    )

"""Under which account the embedded server runs, and what that account can reach.

PostgreSQL refuses to run as root. Started by root it runs as an unprivileged account that is there
already; nobody else's folder is opened wider for it. For any other user nothing of that applies:
the account is None, which means the user that we are.
"""

from __future__ import annotations

import os
import stat
import subprocess
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from perfdata.errors import ServerError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_CANDIDATES = ("postgres", "nobody", "daemon")
# The server's environment is readable by its account: nothing goes there that it does not need.
# Locales (LANG, LC_*) and PG* would change the cluster.
_KEPT = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "DYLD_FALLBACK_LIBRARY_PATH", "TMPDIR")
# Modes of folders, and of files that hold no secret.
PRIVATE, PUBLIC, READABLE = 0o700, 0o755, 0o644


@dataclass(frozen=True)
class Account:
    """An unprivileged account of this machine."""

    name: str
    uid: int
    gid: int


def server_account(data: Path) -> Account | None:
    """Return the account that the server runs under; None: ours.

    For root it is the owner of the cluster that is there, else the first of a few that every
    system has. Raises ServerError where there is none.
    """
    if os.geteuid() != 0:
        return None
    import pwd

    try:
        owner = data.lstat()
    except FileNotFoundError:
        owner = None
    if owner is not None and owner.st_uid != 0:
        return Account(user_name(owner.st_uid), owner.st_uid, owner.st_gid)
    for name in _CANDIDATES:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name, entry.pw_uid, entry.pw_gid)
    raise ServerError(
        f"PostgreSQL does not run as root, and this machine has none of the accounts "
        f"{', '.join(_CANDIDATES)}: run perfdata as an ordinary user"
    )


def user_name(uid: int) -> str:
    """Return the name of a user id, or the number where it has none."""
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
    """Run a command to its end under the account, in a session and an environment of its own.

    Both outputs are captured, stderr only where no file is given for it. Raises ServerError where
    the command can't be started at all.
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
        who = "" if account is None else f" as {account.name}"
        raise ServerError(f"{command[0]} can't be run{who}: {error}") from error


def clean_environment() -> dict[str, str]:
    """Return what of our environment the server may see."""
    return {name: os.environ[name] for name in _KEPT if name in os.environ}


def can_reach(account: Account | None, folder: Path) -> bool:
    """Tell whether the account gets into the folder, by letting it try."""
    if account is None:
        return True
    return run_as(account, ["/bin/sh", "-c", 'test -x "$1"', "sh", folder]).returncode == 0


def make_folder(folder: Path, account: Account | None, mode: int = PRIVATE) -> None:
    """Make a folder of perfdata's own, or take the one that is there, for the account alone."""
    folder.mkdir(mode=PRIVATE, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise ServerError(f"{folder} is not a folder of perfdata's own: remove it")
    if account is not None and found.st_uid != account.uid:
        os.chown(folder, account.uid, account.gid, follow_symlinks=False)
    if stat.S_IMODE(found.st_mode) != mode:
        folder.chmod(mode)


def is_private(folder: Path, account: Account | None) -> bool:
    """Tell whether this is a real folder that belongs to the account and to nobody else."""
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

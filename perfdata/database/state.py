"""What is remembered of the embedded server between commands, in PERFDATA_HOME/server."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import stat
import tempfile
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from perfdata.database.accounts import (
    PRIVATE,
    PUBLIC,
    READABLE,
    can_reach,
    is_private,
    make_folder,
    server_account,
    user_name,
)
from perfdata.database.binaries import identity
from perfdata.database.cluster import (
    SOCKET_PORT,
    Cluster,
    socket_fits,
    write_file,
)
from perfdata.database.processes import boot_id
from perfdata.errors import ServerError
from perfdata.temporary import FULL

if TYPE_CHECKING:
    from collections.abc import Iterator

    from perfdata.config import Settings
    from perfdata.database.accounts import Account

# A start takes up to a minute, and whoever waits may have several before him.
LOCK_LIMIT_S = 120.0
# For clusters that root keeps in a home that the server's account can't get into.
_SYSTEM_FOLDER = Path("/var/lib/perfdata")
# A temporary folder for a socket, and the file in it that names the home that it was made for.
_SOCKET_PREFIX, _SOCKET_MARK = "perfdata-", "perfdata-home"


@dataclass(frozen=True)
class State:
    """One start of the server.

    ``elsewhere``: the cluster lies in the system's folder, not in the home. ``socket``: where it is
    not in the cluster's own folder. ``binaries`` and ``identity`` tell which programs run.
    ``clean``: stopped and on disk, so that a crash of the operating system does no harm.
    """

    elsewhere: bool
    socket: str | None
    binaries: str
    identity: tuple[int, int] | None
    port: int | None
    boot_id: str
    clean: bool = False

    @property
    def programs_gone(self) -> bool:
        """Whether the programs that were started are no longer there."""
        return identity(Path(self.binaries)) != self.identity

    @property
    def lost(self) -> bool:
        """Whether the system was started again since, with writes that may never have landed."""
        return not self.clean and self.boot_id != boot_id()


class Home:
    """The server's corner of PERFDATA_HOME: its paths, its lock, its state."""

    def __init__(self, settings: Settings) -> None:
        """Name the paths; nothing is made."""
        self.settings = settings
        self.folder = settings.home / "server"
        self.log = self.folder / "server.log"
        self.password_file = self.folder / "password"
        self._state = self.folder / "state.json"
        self._lock = self.folder / "lock"
        self._mark = self.folder / "perfdata"

    def read_state(self) -> State | None:
        """Return what was recorded; None where nothing is, or nothing that can be read.

        Raises ServerError where somebody else may have written it: it names programs to be run.
        """
        self._check_owners()
        try:
            facts = json.loads(self._state.read_text(encoding="utf-8"))
            return State(**{**facts, "identity": facts["identity"] and tuple(facts["identity"])})
        except (FileNotFoundError, NotADirectoryError, ValueError, TypeError, KeyError):
            return None

    def write_state(self, state: State) -> None:
        """Record the state: on disk before anything is done that it warns of."""
        text = json.dumps(asdict(state), indent=2)
        write_file(self._state, text, READABLE, durable=True)

    def refused(self, error: OSError) -> ServerError:
        """Say which file the system refused, and whose it is."""
        path = Path(os.fsdecode(error.filename)) if error.filename else self.folder
        message = f"{path}: {error.strerror or error}"
        if error.errno in FULL:
            return ServerError(f"{message}; make room on that disk, and run it again")
        if not isinstance(error, PermissionError):
            return ServerError(message)
        try:
            owner = user_name(self.folder.stat().st_uid)
        except OSError:  # a folder above it is closed
            return ServerError(f"{message}; set PERFDATA_HOME to a folder of your own")
        return ServerError(
            f"{message}; the embedded server in {self.settings.home} belongs to user {owner}: work "
            "as that user, or set PERFDATA_HOME to a folder of your own"
        )

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock under which the server is started and stopped."""
        from filelock import FileLock, Timeout

        self.settings.make_home()
        self._take_folder()
        if os.geteuid() == 0:
            self.folder.chmod(PUBLIC)  # the server's account must get to its data
        lock = FileLock(self._lock, timeout=LOCK_LIMIT_S)
        try:
            lock.acquire()
        except Timeout as error:
            raise ServerError(
                f"another process has been starting or stopping the embedded server for "
                f"{LOCK_LIMIT_S:.0f} s: see who holds {self._lock}"
            ) from error
        try:
            yield
        finally:
            lock.release()

    def _check_owners(self) -> None:
        """Raise ServerError where the home or its server folder is in somebody else's hands.

        Whoever owns them could have another server answer, or other programs run. A home may be
        root's; root itself takes nothing from other users.
        """
        us = os.geteuid()
        for folder, owners in ((self.settings.home, {0, us}), (self.folder, {us})):
            try:
                found = folder.stat() if folder is self.settings.home else folder.lstat()
            except (FileNotFoundError, NotADirectoryError):
                return
            if stat.S_ISLNK(found.st_mode):
                raise ServerError(
                    f"{folder} is a symbolic link, which perfdata does not follow: nothing was "
                    "touched. Set PERFDATA_HOME to the folder itself"
                )
            if found.st_uid not in owners:
                mounted = (
                    " (as root in a container, where the folder may be mounted from the host: to a "
                    "folder inside the container)"
                )
                raise ServerError(
                    f"{folder} belongs to user {user_name(found.st_uid)}, not to "
                    f"{user_name(us)}: nothing was touched. Work as that user, or set "
                    f"PERFDATA_HOME to a folder of your own{'' if us else mounted}"
                )

    def _take_folder(self) -> None:
        """Make the folder and mark it as ours; what others put there is never touched."""
        self._check_owners()
        self.folder.mkdir(mode=PRIVATE, exist_ok=True)
        if self._mark.exists():
            return
        if any(self.folder.iterdir()):
            raise ServerError(
                f"{self.folder} is not empty and was not made by perfdata: nothing was touched. "
                "Set PERFDATA_HOME to a folder of its own"
            )
        write_file(self._mark, "the embedded server of perfdata\n", READABLE)

    def cluster(self, state: State | None) -> Cluster:
        """Return the cluster that the state speaks of; with no state, the one in the home."""
        folder = self._system_folder() if state and state.elsewhere else self.folder
        return Cluster(folder, server_account(folder / "data"))

    def place_cluster(self, state: State | None) -> Cluster:
        """Choose where the cluster lives, and make that folder: where its account can get to."""
        cluster = self.cluster(state)
        if can_reach(cluster.account, cluster.folder):
            return cluster
        folder = self._system_folder()
        cluster = Cluster(folder, server_account(folder / "data"))
        self._make_system_folder(folder)
        if not can_reach(cluster.account, folder):
            who = "" if cluster.account is None else cluster.account.name
            raise ServerError(
                f"the account {who}, which PostgreSQL runs as because it refuses root, gets "
                f"neither into {self.folder} nor into {folder}: set PERFDATA_HOME to a folder "
                "that every user can get into"
            )
        return cluster

    def _system_folder(self) -> Path:
        home = hashlib.sha256(os.fsencode(self.settings.home.resolve())).hexdigest()[:16]
        return _SYSTEM_FOLDER / home

    def _make_system_folder(self, folder: Path) -> None:
        for one in (_SYSTEM_FOLDER, folder):
            make_folder(one, None, PUBLIC)
            if one.lstat().st_uid != 0:
                raise ServerError(f"{one} does not belong to root: remove it")
        write_file(folder / "home", f"{self.settings.home}\n", READABLE)

    def socket(self, state: State | None, cluster: Cluster) -> tuple[Path, int]:
        """Return the socket's folder and the number in its name, as recorded; nothing is made."""
        folder = self._recorded_socket(state, cluster) or cluster.folder / "socket"
        return folder, (state.port if state else None) or SOCKET_PORT

    def _recorded_socket(self, state: State | None, cluster: Cluster) -> Path | None:
        """Return the temporary folder of the state where it is what was made for this home.

        The state may be damaged or edited: a path in it alone is no right to a folder.
        """
        if state is None or state.socket is None:
            return None
        folder = Path(state.socket)
        return folder if self._is_socket_folder(folder, cluster.account) else None

    def _is_socket_folder(self, folder: Path, account: Account | None) -> bool:
        """Tell whether this is a temporary folder that was made for a socket of this home."""
        if not (folder.name.startswith(_SOCKET_PREFIX) and is_private(folder, account)):
            return False
        try:
            return (folder / _SOCKET_MARK).read_bytes() == self._socket_mark()
        except OSError:
            return False

    def _socket_mark(self) -> bytes:
        return os.fsencode(self.settings.home.resolve())

    def make_socket_folder(self, state: State | None, cluster: Cluster) -> Path:
        """Return an empty folder for the socket that is private to the server's account.

        Where the cluster's own has too long a path (107 bytes), it is a random one below the
        system's temporary folder; a recorded one is used again where it is still private.
        """
        folder = cluster.folder / "socket"
        if socket_fits(folder):
            make_folder(folder, cluster.account)
        elif recorded := self._recorded_socket(state, cluster):
            folder = recorded
        else:
            folder = _temporary_folder(cluster.account)
            (folder / _SOCKET_MARK).write_bytes(self._socket_mark())
            return folder
        _remove_sockets(folder)  # of a killed server, whose process id may be in use again
        return folder

    def remove_socket_folder(self, state: State, cluster: Cluster) -> State:
        """Remove a stopped server's socket folder where it is a temporary one; nothing else."""
        if folder := self._recorded_socket(state, cluster):
            self.remove_sockets(folder)
        return replace(state, socket=None)

    def remove_sockets(self, folder: Path) -> None:
        """Remove a temporary socket folder, but not what somebody else put there."""
        _remove_sockets(folder)
        (folder / _SOCKET_MARK).unlink()
        with suppress(OSError):
            folder.rmdir()

    def stray_socket_folders(self) -> list[Path]:
        """Return the temporary socket folders of this home that no start has recorded."""
        state = self.read_state()
        account = self.cluster(state).account
        found = sorted(Path(tempfile.gettempdir()).glob(f"{_SOCKET_PREFIX}*"))
        return [
            folder
            for folder in found
            if self._is_socket_folder(folder, account)
            and (state is None or state.socket != str(folder))
        ]

    def password(self) -> str:
        """Return the superuser's password for connections over TCP, made at the first call."""
        try:
            return self.password_file.read_text(encoding="ascii")
        except FileNotFoundError:
            password = secrets.token_urlsafe(24)
            write_file(self.password_file, password, 0o600)
            return password


def homeless_clusters() -> list[tuple[Path, str]]:
    """Return the folders of clusters in the system's folder whose home is not there, and the home.

    Such a home may be on a disk that is not mounted now: nothing tells that it is gone for good.
    """
    found = []
    for note in sorted(_SYSTEM_FOLDER.glob("*/home")):
        home = os.fsdecode(note.read_bytes()).rstrip("\n")
        try:
            there = Path(home).exists()
        except PermissionError:  # another user's, in a folder that is closed to this one
            continue
        if not there:
            found.append((note.parent, home))
    return found


def _remove_sockets(folder: Path) -> None:
    for left in folder.glob(".s.PGSQL.*"):
        left.unlink()


def _temporary_folder(account: Account | None) -> Path:
    for parent in (None, "/tmp"):  # noqa: S108 - mkdtemp makes a private folder there
        folder = Path(tempfile.mkdtemp(prefix=_SOCKET_PREFIX, dir=parent))
        if socket_fits(folder) and can_reach(account, folder.parent):
            make_folder(folder, account)
            return folder
        folder.rmdir()
    raise ServerError(f"no socket can be made: the path of {tempfile.gettempdir()} is too long")

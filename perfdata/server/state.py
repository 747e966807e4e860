"""What is remembered of the embedded server between commands, in PERFDATA_HOME/server."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import stat
import subprocess
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from perfdata.errors import ServerError
from perfdata.server.accounts import (
    PRIVATE,
    PUBLIC,
    READABLE,
    can_reach,
    make_folder,
    server_account,
    user_name,
)
from perfdata.server.binaries import identity
from perfdata.server.cluster import SOCKET_PORT, Cluster, write_file
from perfdata.server.sockets import Socket, SocketFolders
from perfdata.temporary import FULL

if TYPE_CHECKING:
    from collections.abc import Iterator

    from perfdata.config import Settings

# A start takes up to a minute, and whoever waits may have several before him.
LOCK_LIMIT_S = 120.0
# For clusters that root keeps in a home that the server's account can't get into.
_SYSTEM_FOLDER = Path("/var/lib/perfdata")


@dataclass(frozen=True)
class State:
    """One start of the server; with no arguments, that nothing is recorded.

    ``elsewhere``: the cluster lies in the system's folder, not in the home. ``socket``: where it is
    not in the cluster's own folder. ``binaries`` and ``identity`` tell which programs run.
    ``clean``: stopped and on disk, so that a crash of the operating system does no harm.
    """

    elsewhere: bool = False
    socket: str | None = None
    binaries: str = ""
    identity: tuple[int, int] | None = None
    port: int | None = None
    boot_id: str = ""
    clean: bool = False

    @property
    def recorded(self) -> bool:
        """Whether a start was recorded."""
        return bool(self.binaries)

    @property
    def programs_gone(self) -> bool:
        """Whether the programs that were started are no longer there."""
        return identity(Path(self.binaries)) != self.identity

    @property
    def lost(self) -> bool:
        """Whether writes may never have landed: the system was started again since."""
        return not self.clean and (not self.recorded or self.boot_id != boot_id())


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

    def read_state(self) -> State:
        """Return what was recorded; an empty state where nothing is, or nothing can be read.

        Raises ServerError where somebody else may have written it: it names programs to be run.
        """
        self._check_owners()
        try:
            facts = json.loads(self._state.read_text(encoding="utf-8"))
            return State(**{**facts, "identity": facts["identity"] and tuple(facts["identity"])})
        except (FileNotFoundError, NotADirectoryError, ValueError, TypeError, KeyError):
            return State()

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
                    " (in a container, where the folder may be mounted from the host: to a folder "
                    "inside the container)"
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

    def cluster(self, state: State) -> Cluster:
        """Return the cluster that the state speaks of; with no state, the one in the home."""
        return _cluster(self._system_folder if state.elsewhere else self.folder)

    def place_cluster(self, state: State) -> Cluster:
        """Choose where the cluster lives, and make that folder: where its account can get to."""
        cluster = self.cluster(state)
        if can_reach(cluster.account, cluster.folder):
            return cluster
        cluster = _cluster(self._system_folder)
        for folder in (_SYSTEM_FOLDER, cluster.folder):
            make_folder(folder, None, PUBLIC)
            if folder.lstat().st_uid != 0:
                raise ServerError(f"{folder} does not belong to root: remove it")
        write_file(cluster.folder / "home", f"{self.settings.home}\n", READABLE)
        if cluster.account is not None and not can_reach(cluster.account, cluster.folder):
            raise ServerError(
                f"the account {cluster.account.name}, which PostgreSQL runs as because it refuses "
                f"root, gets neither into {self.folder} nor into {cluster.folder}: set "
                "PERFDATA_HOME to a folder that every user can get into"
            )
        return cluster

    @property
    def _system_folder(self) -> Path:
        home = hashlib.sha256(os.fsencode(self.settings.home.resolve())).hexdigest()[:16]
        return _SYSTEM_FOLDER / home

    def socket(self, state: State) -> Socket:
        """Return the socket of the recorded start; nothing is made."""
        cluster = self.cluster(state)
        folder = self.socket_folders(cluster).recorded(state.socket)
        return Socket(folder or cluster.folder / "socket", state.port or SOCKET_PORT)

    def socket_folders(self, cluster: Cluster) -> SocketFolders:
        """Return the folders in which the cluster's socket may lie."""
        return SocketFolders(cluster, self.settings.home)

    def stray_socket_folders(self) -> list[Path]:
        """Return the temporary socket folders of this home that no start has recorded."""
        state = self.read_state()
        return self.socket_folders(self.cluster(state)).find_strays(state.socket)

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


def _cluster(folder: Path) -> Cluster:
    return Cluster(folder, server_account(folder / "data"))


def boot_id() -> str:
    """Return what is the same until the operating system starts again; empty where unknown."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        pass
    command = ["sysctl", "-n", "kern.bootsessionuuid"]
    try:
        return subprocess.run(command, capture_output=True, check=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""

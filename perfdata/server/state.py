"""The files in PERFDATA_HOME/server: the recorded state, the lock, the password, the cluster."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import stat
import subprocess
from contextlib import contextmanager, suppress
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

# A start takes up to a minute, and several processes may be waiting for the lock.
LOCK_LIMIT_S = 120.0
# For clusters of root if the server's account can't enter the home.
_SYSTEM_FOLDER = Path("/var/lib/perfdata")


@dataclass(frozen=True)
class State:
    """The last start of the server; all fields have their defaults if none is recorded.

    ``elsewhere``: the cluster is in /var/lib/perfdata, not in the home. ``socket``: the temporary
    folder of the socket, if it has one. ``binaries`` is the folder of the programs, ``identity``
    theirs (see binaries.identity). ``clean``: the server was stopped and its files are synced.
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
        """Whether a start is recorded."""
        return bool(self.binaries)

    @property
    def programs_replaced(self) -> bool:
        """Whether the programs of that start were removed or replaced."""
        return identity(Path(self.binaries)) != self.identity

    @property
    def writes_lost(self) -> bool:
        """Whether the operating system may have restarted before all writes were synced."""
        return not self.clean and (not self.recorded or self.boot_id != boot_id())


class Home:
    """The folder PERFDATA_HOME/server and what is recorded in it."""

    def __init__(self, settings: Settings) -> None:
        """Set the paths; no file is created."""
        self.settings = settings
        self.folder = settings.home / "server"
        self.log = self.folder / "server.log"
        self.password_file = self.folder / "password"
        self.port_file = self.folder / "port"
        self._state = self.folder / "state.json"
        self._lock = self.folder / "lock"
        self._mark = self.folder / "perfdata"

    def read_state(self) -> State:
        """Return the recorded state, or an empty one if there is none that can be read.

        Raises ServerError if another user may have written it, because it names programs to run.
        """
        self._check_owners()
        try:
            facts = json.loads(self._state.read_text(encoding="utf-8"))
            return State(**{**facts, "identity": facts["identity"] and tuple(facts["identity"])})
        except (FileNotFoundError, NotADirectoryError, ValueError, TypeError, KeyError):
            return State()

    def write_state(self, state: State) -> None:
        """Record the state; it is synced before the start that it describes."""
        text = json.dumps(asdict(state), indent=2)
        write_file(self._state, text, READABLE, durable=True)

    def explain(self, error: OSError) -> ServerError:
        """Return an error that names the file, and the owner of the home if access was denied."""
        path = Path(os.fsdecode(error.filename)) if error.filename else self.folder
        message = f"{path}: {error.strerror or error}"
        if error.errno in FULL:
            return ServerError(f"{message}; free space on that disk, and run the command again")
        if not isinstance(error, PermissionError):
            return ServerError(message)
        try:
            owner = user_name(self.folder.stat().st_uid)
        except OSError:  # a parent folder can't be entered
            return ServerError(f"{message}; set PERFDATA_HOME to a folder of your own")
        return ServerError(
            f"{message}; the embedded server in {self.settings.home} belongs to user {owner}: run "
            "perfdata as that user, or set PERFDATA_HOME to a folder of your own"
        )

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock for starting and stopping the server; create the folder if it is missing.

        Raises ServerError if another process holds the lock for two minutes.
        """
        from filelock import FileLock, Timeout

        self.settings.make_home()
        self._claim_folder()
        if os.geteuid() == 0:
            self.folder.chmod(PUBLIC)  # the server's account must be able to enter
        lock = FileLock(self._lock, timeout=LOCK_LIMIT_S)
        try:
            lock.acquire()
        except Timeout as error:
            raise ServerError(
                f"another process has been starting or stopping the embedded server for "
                f"{LOCK_LIMIT_S:.0f} s: find the process that holds {self._lock}"
            ) from error
        try:
            yield
        finally:
            lock.release()

    def _check_owners(self) -> None:
        """Raise ServerError if another user owns the home or its server folder.

        The owner could make perfdata connect to another server, or run other programs. The home
        may belong to root; but root does not use another user's.
        """
        uid = os.geteuid()
        for folder, owners in ((self.settings.home, {0, uid}), (self.folder, {uid})):
            try:
                found = folder.stat() if folder is self.settings.home else folder.lstat()
            except (FileNotFoundError, NotADirectoryError):
                return
            if stat.S_ISLNK(found.st_mode):
                raise ServerError(
                    f"{folder} is a symbolic link, which perfdata does not follow; nothing was "
                    "changed. Set PERFDATA_HOME to the folder itself"
                )
            if found.st_uid not in owners:
                mounted = (
                    " (in a container, where the folder may be mounted from the host: to a folder "
                    "inside the container)"
                )
                raise ServerError(
                    f"{folder} belongs to user {user_name(found.st_uid)}, not to "
                    f"{user_name(uid)}; nothing was changed. Run perfdata as that user, or set "
                    f"PERFDATA_HOME to a folder of your own{'' if uid else mounted}"
                )

    def _claim_folder(self) -> None:
        """Create the folder and mark it; one that others created is not changed."""
        self._check_owners()
        self.folder.mkdir(mode=PRIVATE, exist_ok=True)
        if not any(self.folder.iterdir()):
            self._mark.touch(READABLE)
        # Whichever process comes first makes the mark first of all, so it is there by now.
        elif not self._mark.exists():
            raise ServerError(
                f"{self.folder} is not empty and was not created by perfdata; nothing was changed. "
                "Set PERFDATA_HOME to another folder"
            )

    def cluster(self, state: State) -> Cluster:
        """Return the cluster of the recorded start; that in the home if none is recorded."""
        return _cluster(self._system_folder if state.elsewhere else self.folder)

    def place_cluster(self, state: State) -> Cluster:
        """Return the cluster in a folder that its account can enter; create that if needed."""
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
                f"PostgreSQL does not run as root, and account {cluster.account.name} can enter "
                f"neither {self.folder} nor {cluster.folder}: set PERFDATA_HOME to a folder that "
                "every user can enter"
            )
        return cluster

    @property
    def _system_folder(self) -> Path:
        home = hashlib.sha256(os.fsencode(self.settings.home.resolve())).hexdigest()[:16]
        return _SYSTEM_FOLDER / home

    def socket(self, state: State, cluster: Cluster | None = None) -> Socket:
        """Return the socket of the recorded start, or where that of a cluster would be."""
        cluster = cluster or self.cluster(state)
        folder = self.socket_folders(cluster).recorded(state.socket)
        return Socket(folder or cluster.folder / "socket", state.port or SOCKET_PORT)

    def socket_folders(self, cluster: Cluster) -> SocketFolders:
        """Return the possible folders of the cluster's socket."""
        return SocketFolders(cluster, self.settings.home)

    def stray_socket_folders(self) -> list[Path]:
        """Return temporary socket folders of this home that the state does not record."""
        state = self.read_state()
        return self.socket_folders(self.cluster(state)).find_strays(state.socket)

    def password(self) -> str:
        """Return the superuser's password for TCP connections; the first call generates it."""
        try:
            return self.password_file.read_text(encoding="ascii")
        except FileNotFoundError:
            password = secrets.token_urlsafe(24)
            write_file(self.password_file, password, 0o600)
            return password


def orphaned_clusters() -> list[tuple[Path, str]]:
    """Return folders of clusters in /var/lib/perfdata whose home does not exist, with that home.

    The home may be on a disk that is not mounted at the moment.
    """
    found = []
    for note in sorted(_SYSTEM_FOLDER.glob("*/home")):
        home = os.fsdecode(note.read_bytes()).rstrip("\n")
        try:
            exists = Path(home).exists()
        except PermissionError:  # another user's home, in a folder that we can't enter
            continue
        if not exists:
            found.append((note.parent, home))
    return found


def _cluster(folder: Path) -> Cluster:
    return Cluster(folder, server_account(folder / "data"))


def boot_id() -> str:
    """Return an id that changes when the operating system starts; empty if there is none."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    with suppress(OSError, subprocess.CalledProcessError):
        command = ["sysctl", "-n", "kern.bootsessionuuid"]
        return subprocess.run(command, capture_output=True, check=True, text=True).stdout.strip()
    return ""

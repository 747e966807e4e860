"""What is remembered of the embedded server between commands, in PERFDATA_HOME/server."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import tempfile
from contextlib import contextmanager
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
    give_to_owner,
    socket_fits,
    write_whole,
)
from perfdata.database.processes import boot_id, works_in
from perfdata.errors import ServerError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from perfdata.config import Settings
    from perfdata.database.accounts import Account

# A start takes up to a minute, and whoever waits may have several before him.
LOCK_LIMIT_S = 120.0
# For clusters that root keeps in a home that the server's account can't get into.
_SYSTEM_FOLDER = Path("/var/lib/perfdata")


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
        """Return what was recorded; None where nothing is, or nothing that can be read."""
        try:
            facts = json.loads(self._state.read_text(encoding="utf-8"))
            return State(**{**facts, "identity": facts["identity"] and tuple(facts["identity"])})
        except (FileNotFoundError, NotADirectoryError, ValueError, TypeError, KeyError):
            return None

    def write_state(self, state: State) -> None:
        """Record the state: on disk before anything is done that it warns of."""
        text = json.dumps(asdict(state), indent=2)
        write_whole(self._state, text, READABLE, durable=True)

    def refused(self, error: OSError) -> ServerError:
        """Say which file the system refused, and whose it is."""
        path = Path(os.fsdecode(error.filename)) if error.filename else self.folder
        message = f"{path}: {error.strerror or error}"
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
        if os.geteuid() == 0 and self.folder.stat().st_uid == 0:
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
            give_to_owner(self._lock)
            yield
        finally:
            lock.release()

    def _take_folder(self) -> None:
        """Make the folder and mark it as ours; what others put there is never touched."""
        if not self.folder.exists():
            self.folder.mkdir(mode=PRIVATE, exist_ok=True)
            give_to_owner(self.folder)
        if self._mark.exists():
            return
        if any(self.folder.iterdir()):
            raise ServerError(
                f"{self.folder} is not empty and was not made by perfdata: nothing was touched. "
                "Set PERFDATA_HOME to a folder of its own"
            )
        write_whole(self._mark, "the embedded server of perfdata\n", READABLE)

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
        for note in _SYSTEM_FOLDER.glob("*/home"):
            _remove_orphan(note)
        write_whole(folder / "home", f"{self.settings.home}\n", READABLE)

    def socket(self, state: State | None, cluster: Cluster) -> tuple[Path, int]:
        """Return the socket's folder and the number in its name, as recorded; nothing is made."""
        folder = Path(state.socket) if state and state.socket else cluster.folder / "socket"
        return folder, (state.port if state else None) or SOCKET_PORT

    def make_socket_folder(self, state: State | None, cluster: Cluster) -> Path:
        """Return an empty folder for the socket that is private to the server's account.

        Where the cluster's own has too long a path (107 bytes), it is a random one below the
        system's temporary folder; a recorded one is used again where it is still private.
        """
        folder = cluster.folder / "socket"
        if socket_fits(folder):
            make_folder(folder, cluster.account)
        elif state and state.socket and is_private(Path(state.socket), cluster.account):
            folder = Path(state.socket)
        else:
            return _temporary_folder(cluster.account)
        for left in folder.glob(".s.PGSQL.*"):
            left.unlink()  # of a killed server, whose process id may be in use again
        return folder

    def remove_socket_folder(self, state: State, cluster: Cluster) -> State:
        """Remove a stopped server's socket folder where it is a temporary one."""
        if state.socket is None or not is_private(Path(state.socket), cluster.account):
            return state
        shutil.rmtree(state.socket, ignore_errors=True)
        return replace(state, socket=None)

    def password(self) -> str:
        """Return the superuser's password for connections over TCP, made at the first call."""
        try:
            return self.password_file.read_text(encoding="ascii")
        except FileNotFoundError:
            password = secrets.token_urlsafe(24)
            write_whole(self.password_file, password, 0o600)
            return password


def _remove_orphan(note: Path) -> None:
    """Remove a cluster whose note names a home that is gone, unless the cluster still runs."""
    try:
        home = os.fsdecode(note.read_bytes()).rstrip("\n")
    except FileNotFoundError:
        return  # another process was quicker
    cluster = Cluster(note.parent, None)
    recorded = cluster.postmaster()
    if not Path(home).exists() and not (recorded and works_in(recorded[0], cluster.data)):
        shutil.rmtree(cluster.folder, ignore_errors=True)


def _temporary_folder(account: Account | None) -> Path:
    for parent in (None, "/tmp"):  # noqa: S108 - mkdtemp makes a private folder there
        folder = Path(tempfile.mkdtemp(prefix="perfdata-", dir=parent))
        if socket_fits(folder) and can_reach(account, folder.parent):
            make_folder(folder, account)
            return folder
        folder.rmdir()
    raise ServerError(f"no socket can be made: the path of {tempfile.gettempdir()} is too long")

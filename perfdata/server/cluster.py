"""The embedded server's cluster on disk: create, configure, identify and delete it."""

from __future__ import annotations

import os
import shutil
import struct
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from perfdata.errors import ServerError
from perfdata.server.accounts import READABLE, make_folder, run_as
from perfdata.temporary import give_name, temporary_beside, write_whole

if TYPE_CHECKING:
    from pathlib import Path

    from perfdata.config import Settings
    from perfdata.server.accounts import Account
    from perfdata.server.binaries import Binaries

SUPERUSER = "perfdata"
DATABASE = "perfdata"
SOCKET_PORT = 5432
_BUILTIN_LOCALE_SINCE = 17
_CHECKSUMS_SINCE = 18  # on by default from here on
# UTF-8 as systems spell it: glibc, musl and newer BSDs, then macOS.
_CTYPES = ("C.utf8", "C.UTF-8", "en_US.UTF-8", "UTF-8")
_SHARED_MEMORY_BYTES = 1 << 30
_STATUS_LINE = 7
# A server on a full disk exits and can't start again: recovery needs a new WAL segment (16 MB), and
# perfdata has to write its configuration. Deleting the reserve makes room for that, and for db.gc.
# Two segments, because dropping databases may begin the next one.
RESERVE_BYTES = 32 << 20
# With this much free space a server starts: one segment, and the other files that it writes.
_ENOUGH_BYTES = 24 << 20
_BLOCK_BYTES = 1 << 20

# The data can be created again, so the server never waits for the disk; and no background work
# changes what is measured.
_SETTINGS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "1h",
    "shared_buffers": "256MB",
    "maintenance_work_mem": "256MB",
    "max_connections": "100",
    "autovacuum": "off",
    "jit": "off",
    "unix_socket_permissions": "0700",
    "cluster_name": "perfdata",
    "logging_collector": "off",
    "log_line_prefix": "%m [%p] ",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "datestyle": "iso, mdy",
    "lc_messages": "C",
    "lc_monetary": "C",
    "lc_numeric": "C",
    "lc_time": "C",
    "default_text_search_config": "pg_catalog.english",
}


def read_identifier(data: Path) -> int | None:
    """Read a cluster's system identifier from pg_control; None if there is no cluster.

    It is the file's first field, an unsigned 64-bit integer in native byte order.
    """
    try:
        with (data / "global" / "pg_control").open("rb") as file:
            return int(struct.unpack("=Q", file.read(8))[0])
    except (FileNotFoundError, struct.error):
        return None


@dataclass(frozen=True)
class Cluster:
    """A folder with a cluster's data, configuration and socket; ``account`` owns the data."""

    folder: Path
    account: Account | None

    @property
    def data(self) -> Path:
        """The data directory."""
        return self.folder / "data"

    @property
    def configuration(self) -> Path:
        """The postgresql.conf in use; outside the data directory, which the account can write."""
        return self.folder / "postgresql.conf"

    def major(self) -> int | None:
        """Return the major version that created the data; None if there are no data."""
        try:
            return int((self.data / "PG_VERSION").read_text(encoding="ascii"))
        except FileNotFoundError:
            return None

    def identifier(self) -> int | None:
        """Return the system identifier; None if there is no cluster."""
        return read_identifier(self.data)

    def require_major(self, major: int, settings: Settings) -> None:
        """Raise ServerError if another major version created the data."""
        found = self.major()
        if found not in (None, major):
            raise ServerError(
                f"the embedded server's data in {self.data} were created by PostgreSQL {found}, "
                f"but the installed version is {major}",
                remedy=f"`{settings.command('db.reset')}` sets them aside and makes a new database "
                f"(snapshots stay). To use them, set PERFDATA_PG_BIN to the programs of PostgreSQL "
                f"{found}",
            )

    def postmaster(self) -> tuple[int, str] | None:
        """Return process id and status from postmaster.pid, which a killed server leaves behind."""
        try:
            file = self.data / "postmaster.pid"
            lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            return None
        if not lines or not lines[0].strip().isdecimal():
            return None
        return int(lines[0]), lines[_STATUS_LINE].strip() if len(lines) > _STATUS_LINE else ""

    def create(self, binaries: Binaries) -> None:
        """Create the data directory under another name, and rename it when it is complete."""
        unfinished = self.folder / "data.new"
        for ctype in _CTYPES:
            _remove(unfinished)
            make_folder(unfinished, self.account)
            options = _initdb_options(binaries.major, ctype)
            done = run_as(self.account, [binaries.initdb, "-D", unfinished, *options])
            if done.returncode == 0:
                unfinished.rename(self.data)
                return
            if "invalid locale" not in done.stderr:
                break
        _remove(unfinished)
        raise ServerError(
            f"initdb could not create a cluster in {self.data}: {done.stderr.strip()}"
        )

    def delete(self) -> None:
        """Delete the data, renamed first: half-deleted data never look like a cluster."""
        doomed = self.folder / "data.old"
        _remove(doomed)
        if self.data.exists():
            self.data.rename(doomed)
            _remove(doomed)

    def sync(self, initdb: Path) -> bool:
        """Sync a stopped cluster's files to the disk; return whether that succeeded."""
        return run_as(self.account, [initdb, "--sync-only", "-D", self.data]).returncode == 0

    def configure(self, socket: Path, port: int | None) -> None:
        """Write the configuration, to listen on a socket in this folder and on a given port."""
        access = self.folder / "pg_hba.conf"
        listening = {
            "hba_file": str(access),
            "listen_addresses": "" if port is None else "127.0.0.1",
            "port": str(port or SOCKET_PORT),
            "unix_socket_directories": '"{}"'.format(str(socket).replace('"', '""')),
            "dynamic_shared_memory_type": _shared_memory(),
        }
        lines = [f"{name} = {quoted(value)}\n" for name, value in (_SETTINGS | listening).items()]
        rules = ["local all all trust\n"]
        if port is not None:
            rules.append("host all all 127.0.0.1/32 scram-sha-256\n")
        write_file(self.configuration, "".join(lines), READABLE)
        write_file(access, "".join(rules), READABLE)


def _initdb_options(major: int, ctype: str) -> list[str]:
    options = ["--username", SUPERUSER, "--encoding=UTF8", "--auth=reject", "--no-sync"]
    options += ["--no-instructions", "--locale=C", "--lc-collate=C", f"--lc-ctype={ctype}"]
    if major >= _BUILTIN_LOCALE_SINCE:
        options += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    else:
        options += ["--locale-provider=libc"]
    if major >= _CHECKSUMS_SINCE:
        options += ["--no-data-checksums"]
    return options


def _shared_memory() -> str:
    """Choose where parallel workers share memory: containers often have 64 MB of /dev/shm only."""
    try:
        found = os.statvfs("/dev/shm")  # noqa: S108 - only its size is read
    except OSError:
        return "posix"
    return "posix" if found.f_blocks * found.f_frsize >= _SHARED_MEMORY_BYTES else "mmap"


def quoted(value: str) -> str:
    """Quote a value for postgresql.conf."""
    escaped = value.replace("\\", "\\\\").replace("'", "''").replace("\n", "\\n")
    return f"'{escaped}'"


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


def write_file(path: Path, text: str, mode: int, *, durable: bool = False) -> None:
    """Write a file atomically with this mode; ``durable`` syncs it and its folder to the disk."""
    write_whole(path, text, 0o600, durable=durable)
    path.chmod(mode)
    if durable:
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def create_reserve(folder: Path) -> None:
    """Create the reserve in the cluster's folder, unless it exists or the disk is nearly full."""
    reserve = folder / "reserve"
    if reserve.exists() or shutil.disk_usage(folder).free < RESERVE_BYTES + _ENOUGH_BYTES:
        return
    with suppress(OSError), temporary_beside(reserve, 0o600) as file:  # the disk fills up meanwhile
        for _ in range(RESERVE_BYTES // _BLOCK_BYTES):
            # Random, because a file system that compresses allocates nothing for zeros.
            file.write(os.urandom(_BLOCK_BYTES))
        file.flush()
        give_name(file, reserve)


def release_reserve(folder: Path) -> bool:
    """Delete the reserve if a server may not start with it; return whether it was deleted."""
    reserve = folder / "reserve"
    if not reserve.exists() or shutil.disk_usage(folder).free >= _ENOUGH_BYTES:
        return False
    reserve.unlink()
    return True

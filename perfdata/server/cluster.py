"""The embedded server's cluster on disk: made, configured, identified, thrown away."""

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
_CHECKSUMS_SINCE = 18  # from here on they are made by default
# The same encoding, as systems spell it: glibc, musl and newer BSDs, then macOS.
_CTYPES = ("C.utf8", "C.UTF-8", "en_US.UTF-8", "UTF-8")
_SHARED_MEMORY_BYTES = 1 << 30
_STATUS_LINE = 7
# A server whose disk is full ends, and does not start again: recovery needs a new segment of the
# log, 16 MB, and perfdata needs to write what it is started with. A file that is given up then lets
# it start, and db.gc run. Two segments: dropping databases may begin the next.
RESERVE_BYTES = 32 << 20
# With this much left a server starts: a segment, and the files that it makes then.
_ENOUGH_BYTES = 24 << 20
_BLOCK_BYTES = 1 << 20

# What is in force on every cluster: it holds nothing that can't be made again, so it never waits
# for a disk, and nothing runs in the background that would change what is measured.
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
    """Read a cluster's system identifier, the first field of pg_control; None: no cluster."""
    try:
        with (data / "global" / "pg_control").open("rb") as file:
            return int(struct.unpack("=Q", file.read(8))[0])
    except (FileNotFoundError, struct.error):
        return None


@dataclass(frozen=True)
class Cluster:
    """The folder with a cluster's data, configuration and socket; ``account`` owns the data."""

    folder: Path
    account: Account | None

    @property
    def data(self) -> Path:
        """PostgreSQL's own folder."""
        return self.folder / "data"

    @property
    def configuration(self) -> Path:
        """The postgresql.conf in force; outside the data, where only we write."""
        return self.folder / "postgresql.conf"

    def major(self) -> int | None:
        """Return the major version that made the data; None: there are none."""
        try:
            return int((self.data / "PG_VERSION").read_text(encoding="ascii"))
        except FileNotFoundError:
            return None

    def identifier(self) -> int | None:
        """Return the system identifier; None: no cluster."""
        return read_identifier(self.data)

    def require_major(self, ours: int, settings: Settings) -> None:
        """Raise ServerError, with what to do, where another major version made the data."""
        there = self.major()
        if there not in (None, ours):
            raise ServerError(
                f"the embedded server's data in {self.data} were made by PostgreSQL {there}, and "
                f"the programs here are of {ours}. Have them made again: run "
                f"`{settings.command('db.stop')}`, remove the folder {self.data}, and repeat the "
                f"command (snapshots lie elsewhere, in {settings.home / 'snapshots'}, and stay); "
                f"or set PERFDATA_PG_BIN to programs of PostgreSQL {there}"
            )

    def postmaster(self) -> tuple[int, str] | None:
        """Return process id and status as postmaster.pid has them, which may be long untrue."""
        try:
            text = (self.data / "postmaster.pid").read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return None
        lines = text.splitlines()
        if not lines or not lines[0].strip().isdecimal():
            return None
        return int(lines[0]), lines[_STATUS_LINE].strip() if len(lines) > _STATUS_LINE else ""

    def make(self, binaries: Binaries) -> None:
        """Make the cluster beside its place and move it there when it is complete."""
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
        raise ServerError(f"initdb could not make a cluster in {self.data}: {done.stderr.strip()}")

    def discard(self) -> None:
        """Throw the data away; what is half removed never looks like a cluster."""
        doomed = self.folder / "data.old"
        _remove(doomed)
        if self.data.exists():
            self.data.rename(doomed)
            _remove(doomed)

    def sync(self, initdb: Path) -> bool:
        """Have every file of a stopped cluster written to the disk; tell whether that worked."""
        return run_as(self.account, [initdb, "--sync-only", "-D", self.data]).returncode == 0

    def configure(self, socket: Path, port: int | None) -> None:
        """Write the configuration: a socket in that folder, and loopback where a port is given."""
        access = self.folder / "pg_hba.conf"
        where = {
            "hba_file": str(access),
            "listen_addresses": "" if port is None else "127.0.0.1",
            "port": str(port or SOCKET_PORT),
            "unix_socket_directories": '"{}"'.format(str(socket).replace('"', '""')),
            "dynamic_shared_memory_type": _shared_memory(),
        }
        lines = [f"{name} = {quoted(value)}\n" for name, value in (_SETTINGS | where).items()]
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
    """Choose where parallel workers meet: containers often have but 64 MB of /dev/shm."""
    try:
        found = os.statvfs("/dev/shm")  # noqa: S108 - asked for its size, nothing is written there
    except OSError:
        return "posix"
    return "posix" if found.f_blocks * found.f_frsize >= _SHARED_MEMORY_BYTES else "mmap"


def quoted(value: str) -> str:
    """Write a value as postgresql.conf reads it."""
    escaped = value.replace("\\", "\\\\").replace("'", "''").replace("\n", "\\n")
    return f"'{escaped}'"


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


def write_file(path: Path, text: str, mode: int, *, durable: bool = False) -> None:
    """Write a file whole or not at all, whatever the umask; ``durable``: on disk after."""
    write_whole(path, text, 0o600, durable=durable)
    path.chmod(mode)
    if durable:
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def reserve_room(folder: Path) -> None:
    """Lay a reserve in the cluster's folder where there is none, and room to spare."""
    reserve = folder / "reserve"
    if reserve.exists() or shutil.disk_usage(folder).free < RESERVE_BYTES + _ENOUGH_BYTES:
        return
    with suppress(OSError), temporary_beside(reserve, 0o600) as file:  # it fills up right now
        for _ in range(RESERVE_BYTES // _BLOCK_BYTES):
            # Not zeros, nor posix_fallocate: a file system that compresses keeps no room for these.
            file.write(os.urandom(_BLOCK_BYTES))
        file.flush()
        give_name(file, reserve)


def give_up_reserve(folder: Path) -> bool:
    """Give the reserve up where a server may not start without it; tell whether it was there."""
    reserve = folder / "reserve"
    if not reserve.exists() or shutil.disk_usage(folder).free >= _ENOUGH_BYTES:
        return False
    reserve.unlink()
    return True

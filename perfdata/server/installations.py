"""PostgreSQL installations on this machine that the embedded server could use."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from perfdata.server.binaries import SUPPORTED

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# Of Debian, Red Hat, Homebrew on both processors, Postgres.app, and PostgreSQL's own default.
_PLACES = (
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/opt/homebrew/opt/postgresql@*/bin",
    "/usr/local/opt/postgresql@*/bin",
    "/Applications/Postgres.app/Contents/Versions/*/bin",
    "/usr/local/pgsql/bin",
)
_TIMEOUT_S = 10


@dataclass(frozen=True)
class Installation:
    """A PostgreSQL installation: its programs' folder, and the extensions that it has."""

    bin: Path
    major: int
    extensions: frozenset[str]


def find_installations(places: Iterable[str] = _PLACES) -> list[Installation]:
    """Return the installations of supported versions, the newest first.

    They are looked for in ``places``, patterns of folders, and by pg_config on the PATH.
    """
    folders = {path.resolve() for place in places for path in Path("/").glob(place.lstrip("/"))}
    if program := shutil.which("pg_config"):
        folders.update(Path(line).resolve() for line in _ask(Path(program), "--bindir"))
    found = [each for folder in folders if (each := _read(folder)) is not None]
    return sorted(found, key=lambda each: (-each.major, each.bin))


def _read(folder: Path) -> Installation | None:
    if not all((folder / program).is_file() for program in ("postgres", "initdb", "pg_config")):
        return None
    lines = list(_ask(folder / "pg_config", "--version", "--sharedir"))
    version = re.match(r"PostgreSQL (\d+)", lines[0]) if lines else None
    if version is None or int(version[1]) not in SUPPORTED:
        return None
    controls = Path(lines[-1], "extension").glob("*.control")
    return Installation(folder, int(version[1]), frozenset(path.stem for path in controls))


def _ask(program: Path, *options: str) -> Iterator[str]:
    """Yield the lines that a pg_config prints; none if it does not work."""
    try:
        done = subprocess.run(
            [program, *options], capture_output=True, text=True, check=True, timeout=_TIMEOUT_S
        )
    except (OSError, subprocess.SubprocessError):
        return
    yield from done.stdout.splitlines()

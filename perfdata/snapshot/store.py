"""The store: the snapshots of a home folder, by name."""

from __future__ import annotations

import difflib
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from perfdata.config import Settings
from perfdata.errors import (
    InvalidNameError,
    SnapshotDamagedError,
    SnapshotError,
    SnapshotExistsError,
    SnapshotNotFoundError,
)
from perfdata.progress import Event, silent
from perfdata.snapshot.format.reader import SnapshotFile

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from perfdata.progress import Report
    from perfdata.snapshot.format.manifest import Manifest

SUFFIX = ".json.zst"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_DEVICES = {"con", "prn", "aux", "nul"} | {f"{d}{n}" for d in ("com", "lpt") for n in range(1, 10)}


@dataclass(frozen=True)
class Snapshot:
    """One snapshot file and what its manifest says."""

    name: str
    path: Path
    size_bytes: int
    manifest: Manifest

    def open(self) -> SnapshotFile:
        """Open the file, whose manifest is read anew; raise what SnapshotFile.open raises."""
        return SnapshotFile.open(self.path)


def check_name(name: str) -> str:
    """Return the name, or raise InvalidNameError saying what a name is."""
    if not _NAME.fullmatch(name) or name.endswith("."):
        raise InvalidNameError(
            f"{name!r} is not a name: 1 to 100 of A-Z a-z 0-9 _ . -, beginning with a letter or "
            "a digit, not ending with a dot"
        )
    if name.partition(".")[0].lower() in _DEVICES:
        raise InvalidNameError(f"{name!r} is not a name: Windows keeps it for a device")
    return name


def snapshot_path(name: str, settings: Settings) -> Path:
    """Return where the snapshot of that name is or would be."""
    return settings.home / "snapshots" / f"{check_name(name)}{SUFFIX}"


def list_snapshots(settings: Settings | None = None, report: Report = silent) -> list[Snapshot]:
    """Return all snapshots, by name; only manifests are read.

    A file that is damaged is told to ``report`` and left out.
    """
    settings = settings or Settings.load()
    found = []
    for name in _names(settings):
        try:
            found.append(_read(name, settings))
        except SnapshotError as error:
            report(Event(f"left out: {error}"))
    return found


def find_snapshot(
    name: str, settings: Settings | None = None, datasets: Sequence[str] = ()
) -> Snapshot:
    """Return the snapshot of that name.

    Raises SnapshotNotFoundError (with a near miss), SnapshotDamagedError, InvalidNameError.
    ``datasets`` are those that would do as well, to be named in the first.
    """
    settings = settings or Settings.load()
    check_name(name)
    if not snapshot_exists(name, settings):
        names = sorted({*_names(settings), *datasets})
        near = difflib.get_close_matches(name.lower(), [one.lower() for one in names], n=1)
        real = [one for one in names if one.lower() in near]
        hint = f"did you mean {real[0]}?" if real else f"there are: {', '.join(names) or 'none'}"
        what = "snapshot or dataset" if datasets else "snapshot"
        if not settings.configured:
            hint = f"{hint}. No [tool.perfdata] was found from {settings.root} up"
        raise SnapshotNotFoundError(f"no {what} is named {name!r}; {hint}")
    return _read(name, settings)


def _read(name: str, settings: Settings) -> Snapshot:
    path = snapshot_path(name, settings)
    file = SnapshotFile.open(path)
    manifest = file.manifest
    if manifest.name != name:
        file.check_bytes()  # damage comes first: another name is of no use to such a file
        raise SnapshotDamagedError(
            f"{path.name} holds a snapshot named {manifest.name!r}: give it its own name again"
        )
    return Snapshot(name, path, path.stat().st_size, manifest)


def snapshot_exists(name: str, settings: Settings | None = None) -> bool:
    """Tell whether there is a snapshot of that name, in that spelling."""
    settings = settings or Settings.load()
    check_name(name)
    return name in _names(settings)


def delete_snapshot(name: str, settings: Settings | None = None) -> Path:
    """Delete the snapshot of that name, damaged or not, and return where it was."""
    settings = settings or Settings.load()
    if not snapshot_exists(name, settings):
        find_snapshot(name, settings)  # raises, with a near miss
    path = snapshot_path(name, settings)
    try:
        path.unlink()
    except OSError as error:
        raise SnapshotError(f"{path} can't be deleted: {error.strerror}") from error
    return path


def check_free(name: str, settings: Settings, *, replace: bool) -> None:
    """Raise SnapshotExistsError where a snapshot of that name, in any case, is in the way."""
    check_name(name)
    for other in _names(settings):
        if other.lower() == name.lower() and not (replace and other == name):
            hint = (
                "replace it with --replace, or take another name"
                if other == name
                else "names must differ by more than case"
            )
            raise SnapshotExistsError(f"there is a snapshot named {other!r} already; {hint}")


def _names(settings: Settings) -> list[str]:
    """Name what lies in the folder; SnapshotError where that can't be looked into."""
    folder = settings.home / "snapshots"
    try:
        with os.scandir(folder) as entries:
            # A folder or a pipe of that name is no snapshot.
            files = [entry.name for entry in entries if entry.is_file()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise SnapshotError(f"{folder} can't be read: {error.strerror}") from error
    names = (name.removesuffix(SUFFIX) for name in files if name.endswith(SUFFIX))
    return sorted(name for name in names if _NAME.fullmatch(name))

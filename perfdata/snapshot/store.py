"""The snapshot files in the home folder, found by name."""

from __future__ import annotations

import difflib
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from perfdata.config import SNAPSHOT_SUFFIX, Settings, snapshots_folder
from perfdata.errors import (
    InvalidNameError,
    LoadError,
    SnapshotDamagedError,
    SnapshotError,
    SnapshotExistsError,
    SnapshotNotFoundError,
    SnapshotStaleError,
)
from perfdata.progress import Event, silent
from perfdata.project import NO_PROJECT_REMEDY, no_project_reason
from perfdata.snapshot.format.reader import SnapshotFile

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from perfdata.progress import Report
    from perfdata.snapshot.format.manifest import Manifest

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_DEVICES = {"con", "prn", "aux", "nul"} | {f"{d}{n}" for d in ("com", "lpt") for n in range(1, 10)}


@dataclass(frozen=True)
class Snapshot:
    """A snapshot file and its manifest."""

    name: str
    path: Path
    size_bytes: int
    manifest: Manifest

    def open(self) -> SnapshotFile:
        """Open the file, which must still have this manifest (see SnapshotFile.open).

        Raises LoadError if it was replaced meanwhile.
        """
        file = SnapshotFile.open(self.path)
        if not file.manifest.is_same(self.manifest):
            raise LoadError(f"snapshot {self.name} was replaced meanwhile", remedy="Run it again")
        return file


def check_name(name: str) -> str:
    """Return a valid name of a snapshot or dataset; raise InvalidNameError for any other."""
    if not _NAME.fullmatch(name) or name.endswith("."):
        raise InvalidNameError(
            f"{name!r} is not a name: 1 to 100 of A-Z a-z 0-9 _ . -, beginning with a letter or "
            "a digit, not ending with a dot"
        )
    if name.partition(".")[0].lower() in _DEVICES:
        raise InvalidNameError(f"{name!r} is not a name: Windows reserves it for a device")
    return name


def snapshot_path(name: str, settings: Settings) -> Path:
    """Return the path of the snapshot with that name, whether or not it exists."""
    return snapshots_folder(settings.home) / f"{check_name(name)}{SNAPSHOT_SUFFIX}"


def list_snapshots(settings: Settings | None = None, report: Report = silent) -> list[Snapshot]:
    """List all snapshots by name; only their manifests are read.

    Damaged files are reported to ``report`` and left out.
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

    Raises SnapshotNotFoundError, SnapshotDamagedError and InvalidNameError. SnapshotNotFoundError
    suggests the closest name, also among ``datasets``.
    """
    settings = settings or Settings.load()
    if snapshot_exists(name, settings):
        return _read(name, settings)
    names = sorted({*_names(settings), *datasets})
    closest = difflib.get_close_matches(name.lower(), [other.lower() for other in names], n=1)
    similar = [other for other in names if other.lower() in closest]
    hint = f"did you mean {similar[0]}?" if similar else f"there are: {', '.join(names) or 'none'}"
    remedy = ""
    if settings.project is None:
        hint, remedy = f"{hint}; {no_project_reason(settings)}", NO_PROJECT_REMEDY
    what = "snapshot or dataset" if datasets else "snapshot"
    raise SnapshotNotFoundError(f"no {what} is named {name!r}; {hint}", remedy=remedy)


def _read(name: str, settings: Settings) -> Snapshot:
    path = snapshot_path(name, settings)
    file = SnapshotFile.open(path)
    manifest = file.manifest
    if manifest.name != name:
        file.check_bytes()  # renaming a damaged file would not help
        raise SnapshotDamagedError(
            f"{path.name} holds a snapshot named {manifest.name!r}",
            remedy=f"Rename the file to {manifest.name}{SNAPSHOT_SUFFIX}",
        )
    return Snapshot(name, path, path.stat().st_size, manifest)


def snapshot_exists(name: str, settings: Settings | None = None) -> bool:
    """Tell whether there is a snapshot of exactly that name, in the same case."""
    settings = settings or Settings.load()
    check_name(name)
    return name in _names(settings)


def delete_snapshot(name: str, settings: Settings | None = None) -> Path:
    """Delete the snapshot of that name, damaged or not, and return its path.

    Raises SnapshotNotFoundError, InvalidNameError, and SnapshotError if it can't be deleted.
    """
    settings = settings or Settings.load()
    if not snapshot_exists(name, settings):
        find_snapshot(name, settings)  # raises, and suggests the closest name
    path = snapshot_path(name, settings)
    try:
        path.unlink()
    except OSError as error:
        raise SnapshotError(f"{path} can't be deleted: {error.strerror}") from error
    return path


def check_free(name: str, settings: Settings, *, replace: bool) -> None:
    """Raise SnapshotExistsError if a snapshot has that name, in upper or lower case."""
    check_name(name)
    for other in _names(settings):
        if other.lower() == name.lower() and not (replace and other == name):
            remedy = "Names must differ by more than case"
            if other == name:
                remedy = "Replace it with replace=True, or use another name"
            raise SnapshotExistsError(f"there is a snapshot named {other!r} already", remedy=remedy)


def _names(settings: Settings) -> list[str]:
    """List the names of the files in the folder; raise SnapshotError if it can't be read."""
    folder = snapshots_folder(settings.home)
    try:
        with os.scandir(folder) as entries:
            files = [entry.name for entry in entries if entry.is_file()]  # no folders, no pipes
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise SnapshotError(f"{folder} can't be read: {error.strerror}") from error
    names = (name.removesuffix(SNAPSHOT_SUFFIX) for name in files if name.endswith(SNAPSHOT_SUFFIX))
    return sorted(name for name in names if _NAME.fullmatch(name))


def check_replaceable(name: str, settings: Settings, *, replace: bool) -> None:
    """Raise SnapshotExistsError if a build may not save its snapshot under that name."""
    if not replace and snapshot_exists(name, settings) and is_by_hand(name, settings):
        raise SnapshotExistsError(
            f"snapshot {name} was created by hand, not built from the dataset of that name",
            remedy="Replace it with replace=True, or build with snapshot=False",
        )
    check_free(name, settings, replace=True)


def is_by_hand(name: str, settings: Settings) -> bool:
    """Tell whether a snapshot was created by hand, not built from a dataset."""
    try:
        return find_snapshot(name, settings).manifest.dataset_fingerprint is None
    except (SnapshotDamagedError, SnapshotStaleError):  # another format: nobody can read it
        return False

"""The reserve: room on the disk that the embedded server gets back when the disk is full.

A server whose disk is full ends, and does not start again: recovery needs a new segment of the log,
16 MB, and perfdata needs to write what it is started with. A file that is given up then lets it
start, and ``db.gc`` run.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from typing import TYPE_CHECKING

from perfdata.temporary import give_name, temporary_beside

if TYPE_CHECKING:
    from pathlib import Path

# Two segments of the log: recovery needs one, and dropping databases may begin the next.
RESERVE_BYTES = 32 << 20
# With this much left a server starts: a segment, and the files that it makes then.
_ENOUGH_BYTES = 24 << 20
_BLOCK_BYTES = 1 << 20


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

"""Disk space: whether a server on this machine has enough for new rows and databases."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from perfdata.errors import RefusedError
from perfdata.postgres.link import Check
from perfdata.server.cluster import read_identifier

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perfdata.postgres.link import Link, Rows

# The peak size of tables, indexes and WAL, measured with durability off: 355 MB for 5000_offices
# (325 MB of text, 1,605,001 rows), 74 MB for a million rows of two numbers (21 MB of text), 10 MB
# for 100_offices (6.7 MB). So: the text, an overhead per row (header, pointer, index entries), and
# the first pages of files. The space of removed rows is freed only at the commit.
_ROW_BYTES = 55
_BASE_BYTES = 8_000_000

# Only some roles may see the folder. Databases in another tablespace may be on another disk.
_FOLDER = """
SELECT s.setting FROM pg_catalog.pg_settings s JOIN pg_catalog.pg_database d
  ON d.datname = coalesce(%s, current_database()) AND d.dattablespace = 1663
WHERE s.name = 'data_directory' AND s.setting IS NOT NULL"""


def rows_space_check(link: Link, text_bytes: int, rows: int) -> Check:
    """Check that the disk of the link's database has space for rows."""
    needed = rows_bytes(text_bytes, rows)
    what = f"the rows need about {mb(needed)} ({mb(text_bytes)} of text in {rows:,} rows)"
    return disk_space_check(link, needed, what)


def rows_bytes(text_bytes: int, rows: int) -> int:
    """Return how many bytes rows take in a database at most."""
    return text_bytes + rows * _ROW_BYTES + _BASE_BYTES


def disk_space_check(link: Link, needed: int, what: str, database: str | None = None) -> Check:
    """Check that a database's disk has ``needed`` bytes free, if the disk is on this machine.

    ``what`` begins the error message. ``database`` None is the link's own.
    """

    def judge(answers: Sequence[Rows]) -> None:
        for (folder,) in answers[0]:
            free = _free_bytes(link, Path(folder))
            if free is not None and free < needed:
                raise RefusedError(
                    f"refused, nothing was touched: {what}, and the disk of {folder} has "
                    f"{mb(free)} free",
                    remedy="Free some space there (db.gc removes old templates and databases)",
                )

    return Check([(_FOLDER, (database,))], judge)


def _free_bytes(link: Link, folder: Path) -> int | None:
    """Return the free bytes on the cluster's disk; None if the folder is not this server's.

    The server may be on another machine, where the same path is another folder.
    """
    try:
        identifier = read_identifier(folder)
        if identifier is None or identifier != link.server_identifier:
            return None
        return shutil.disk_usage(folder).free
    except OSError:
        return None


def mb(size: int) -> str:
    """Format a number of bytes in MB."""
    return f"{size / 1e6:,.0f} MB"

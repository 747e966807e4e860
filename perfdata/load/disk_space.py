"""Room: whether the disk of a server on this machine holds the rows and databases to come."""

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

# Tables, indexes and the log at their most, measured with durability off: 355 MB for the 325 MB of
# text and 1,605,001 rows of 5000_offices, 74 MB for the 21 MB of a million rows of two numbers,
# 10 MB for the 6.7 MB of 100_offices. So: the text, what each row costs besides (header, pointer,
# its entries in indexes), and a few files that are begun. What goes is given back at the commit.
_ROW_BYTES = 55
_BEGUN_BYTES = 8_000_000

# The folder is told to roles that may see it; what lies in another tablespace is on another disk.
_PLACE = """
SELECT s.setting FROM pg_catalog.pg_settings s JOIN pg_catalog.pg_database d
  ON d.datname = coalesce(%s, current_database()) AND d.dattablespace = 1663
WHERE s.name = 'data_directory' AND s.setting IS NOT NULL"""


def space_check(link: Link, text_bytes: int, rows: int) -> Check:
    """Check that there is room for rows in the link's database."""
    needed = rows_bytes(text_bytes, rows)
    what = f"the rows need about {mb(needed)} ({mb(text_bytes)} of text in {rows:,} rows)"
    return room_check(link, needed, what)


def rows_bytes(text_bytes: int, rows: int) -> int:
    """Return how many bytes rows take in a database at their most."""
    return text_bytes + rows * _ROW_BYTES + _BEGUN_BYTES


def room_check(link: Link, needed: int, what: str, database: str | None = None) -> Check:
    """Check that bytes fit where a database lies, if that is seen from here.

    ``what`` says in an error what needs them; ``database`` None is the link's own.
    """

    def judge(answers: Sequence[Rows]) -> None:
        for (folder,) in answers[0]:
            free = _free_bytes(link, Path(folder))
            if free is not None and free < needed:
                raise RefusedError(
                    f"refused, nothing was touched: {what}, and the disk of {folder} has "
                    f"{mb(free)} left. Make room there (old templates and databases: db.gc)"
                )

    return Check([(_PLACE, (database,))], judge)


def _free_bytes(link: Link, folder: Path) -> int | None:
    """Return what is left where the cluster lies; None where that folder is another's, or unseen.

    A path alone says nothing: the server may be on another machine that has the same.
    """
    try:
        identifier = read_identifier(folder)
        if identifier is None or identifier != link.server_identifier:
            return None
        return shutil.disk_usage(folder).free
    except OSError:
        return None


def mb(size: int) -> str:
    """Write a number of bytes for people."""
    return f"{size / 1e6:,.0f} MB"

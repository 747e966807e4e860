"""Fill the tables of a database that nobody uses yet, each in one COPY, by one filler or two.

Both read the same file, and each loads the tables that it is the first to claim, with their indexes
right after the rows. What is claimed is so as long as the connection that claimed it lasts.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from psycopg import sql

from perfdata.errors import LoadError, SchemaError
from perfdata.postgres.connection import open_link
from perfdata.postgres.locks import ADVISORY_LOCK
from perfdata.progress import Event
from perfdata.snapshot.format import read_manifest, read_tables
from perfdata.snapshot.restore import table_load

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from perfdata.database.plan import TableLoad
    from perfdata.postgres.catalog import Catalog
    from perfdata.postgres.link import Link
    from perfdata.postgres.statistics import Statistics
    from perfdata.progress import Report


_QUIET = """
SELECT set_config(name, 'off', false) FROM pg_settings
WHERE name = 'event_triggers' AND current_setting('is_superuser') = 'on'"""


@dataclass(frozen=True)
class Job:
    """What both processes are told: it goes from one to the other as JSON, over a pipe.

    ``conninfo`` may hold a password; ``search_path`` is what users' code runs on. ``counts`` are
    the rows that come, ``build`` the statements that make indexes, both by table key. ``flag`` is
    the column that must be true in the tables ``flagged``. The tables ``tied`` are empty, and keys
    between them keep them from being emptied one by one.
    """

    conninfo: str
    search_path: str
    path: str
    sha256: str
    counts: Mapping[str, int]
    build: Mapping[str, Sequence[str]]
    flag: str
    flagged: Sequence[str]
    tied: Sequence[str]

    def to_json(self) -> str:
        """Write it as one line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, line: str) -> Job:
        """Read what to_json wrote."""
        return cls(**json.loads(line))


@dataclass(frozen=True)
class Filled:
    """The rows that one of them loaded, by table key, and the file's planner statistics."""

    rows: dict[str, int]
    statistics: Statistics | None


@contextmanager
def open_room(conninfo: str, search_path: str) -> Iterator[Link]:
    """Open a connection to a database that nobody uses yet, for work that is no one transaction.

    No setting of the role's or the database's counts, which a clone does not have: users' code runs
    on ``search_path``. Event triggers are quiet where a superuser
    may have them so, which is from 17 on. Raises ConnectError.
    """
    with open_link(conninfo) as link:
        link.pin(search_path)
        link.rows(_QUIET)
        yield link


def fill_tables(link: Link, job: Job, catalog: Catalog, report: Report) -> Filled:
    """Load the tables that nobody else has claimed, build their indexes, and freeze them.

    The link is to stay open until everybody is done. Raises SnapshotDamagedError, SchemaError,
    LoadError.
    """
    path = Path(job.path)
    manifest, offset = read_manifest(path)
    if manifest.body.sha256 != job.sha256:
        raise SchemaError(f"{path.name} was replaced while it was restored; run it again")
    rows: dict[str, int] = {}
    known: list[Statistics] = []
    claim = sql.SQL("SELECT pg_try_advisory_lock({}, {})")
    for number, body in enumerate(read_tables(path, offset, manifest.body, known.append)):
        if link.value(claim.format(sql.Literal(ADVISORY_LOCK), sql.Literal(number))):
            rows[body.key] = _fill(link, job, table_load(path, manifest, catalog, body), report)
        else:
            # Read past, not turned into CSV: half of the 0.9 s that reading 5000_offices takes.
            for _ in body.blocks:
                pass
    return Filled(rows, known[0] if known else None)


def _fill(link: Link, job: Job, one: TableLoad, report: Report) -> int:
    key = one.table.key
    if key not in job.counts:
        raise SchemaError(f"rows came for table {key}, which this load may not fill")
    report(Event(key, 0, job.counts[key]))
    with link.transaction():
        # FREEZE needs a table emptied in this very transaction, and no partitioned one.
        freeze = key not in job.tied and not one.table.partitioned
        if key not in job.tied:
            link.later(sql.SQL("TRUNCATE {}").format(one.table.only))
        with link.own_path():
            rows = link.copy_in(
                one.table.identifier, one.columns, one.blocks, one.form, freeze=freeze
            )
    if rows != job.counts[key]:
        raise LoadError(f"{key}: {rows:,} rows came where {job.counts[key]:,} are promised")
    for statement in job.build.get(key, ()):
        link.execute(sql.SQL(statement))
    # Gives back pages that COPY took and did not fill, and does what is not frozen yet.
    link.execute(sql.SQL("VACUUM (FREEZE) {}").format(one.table.identifier))
    if key in job.flagged:
        unflagged = sql.SQL("SELECT count(*) FROM {} WHERE {} IS NOT TRUE")
        if extra := link.value(unflagged.format(one.table.only, sql.Identifier(job.flag))):
            raise LoadError(
                f"{extra:,} rows came for {key} whose {job.flag} is not true; nothing was touched. "
                "All rows that a load brings carry the flag: mend what makes them, and build or "
                "create the snapshot again"
            )
    report(Event(key, rows, job.counts[key]))
    return rows

"""What a load does for its tables when the rows are committed: VACUUM and the statistics."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, LiteralString

from psycopg import sql

from perfdata.database.statistics import restore_sizes
from perfdata.errors import ServerRefusedError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from perfdata.database.catalog import Table
    from perfdata.database.known import Statistics
    from perfdata.database.link import Link


def tend(
    link: Link,
    tables: Sequence[Table],
    statistics: Statistics | None,
    known: Collection[int],
    *,
    freeze: bool = False,
) -> list[str]:
    """Set the visibility map, give back pages that were taken too many, and analyse.

    ``known`` are the oids of the tables that restore_statistics gave theirs: these are vacuumed
    alone, which reads next to nothing where COPY froze the rows. ``freeze`` has TOAST's rows frozen
    too. The rows are committed by now: what goes wrong is returned as a note.
    """
    frozen = sql.SQL("FREEZE, " if freeze else "")
    try:
        with _no_timeout(link):
            _run(link, "VACUUM ({}SKIP_LOCKED) {}", frozen, [t for t in tables if t.oid in known])
            others = [one for one in tables if one.oid not in known]
            _run(link, "VACUUM ({}ANALYZE, SKIP_LOCKED) {}", frozen, others)
            if statistics is not None:
                restore_sizes(link, statistics, known)
    except ServerRefusedError as error:
        return [f"the rows are in, but VACUUM and statistics are not done: {error.__cause__}"]
    return []


def _run(link: Link, command: LiteralString, how: sql.SQL, tables: Sequence[Table]) -> None:
    if tables:
        names = sql.SQL(", ").join(table.identifier for table in tables)
        link.execute(sql.SQL(command).format(how, names))


@contextmanager
def _no_timeout(link: Link) -> Iterator[None]:
    change = "SELECT set_config('statement_timeout', %s, false)"
    ((timeout,),), _ = link.together(["SHOW statement_timeout", (change, ("0",))])
    try:
        yield
    finally:
        if timeout != "0":
            link.rows(change, (timeout,))

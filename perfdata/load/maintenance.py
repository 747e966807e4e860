"""What a load does for its tables when the rows are committed: VACUUM and the statistics."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from psycopg import sql

from perfdata.errors import ServerRefusedError
from perfdata.postgres.statistics import restore_row_counts

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from perfdata.load.plan import Plan
    from perfdata.load.readers import Deletion
    from perfdata.postgres.link import Link
    from perfdata.postgres.statistics import Statistics


# ANALYZE reads so many rows for each unit of the target, which is 100 unless a server or a column
# says otherwise: 30,000 rows, chosen by chance. To read all of 5000_offices gives the same each
# time and takes five times as long (1.3 and 6.8 s).
_SAMPLED_ROWS, _DEFAULT_TARGET, _HIGHEST_TARGET = 300, 100, 10_000


def vacuum_and_analyze(
    link: Link,
    plan: Plan,
    rows: Mapping[str, int],
    statistics: Statistics | None,
    known: Collection[int],
    deletion: Deletion | None = None,
) -> list[str]:
    """Set the visibility map, give back pages that were taken too many, and analyse.

    ``rows`` came in by table; ``known`` are the oids of the tables that restore_statistics gave
    theirs: these are vacuumed alone, which reads next to nothing where COPY froze the rows. Who
    keeps VACUUM from reclaiming the rows of ``deletion`` is named. The rows are committed by now:
    what goes wrong is returned as a note.
    """
    freeze = sql.SQL("FREEZE, " if plan.sealed else "")
    try:
        with _settings(link, plan, rows):
            for way, tables in (
                ("", [table for table in plan.tables if table.oid in known]),
                ("ANALYZE, ", [table for table in plan.tables if table.oid not in known]),
            ):
                if tables:
                    names = sql.SQL(", ").join(table.identifier for table in tables)
                    vacuum = sql.SQL("VACUUM ({}{}SKIP_LOCKED) {}")
                    link.execute(vacuum.format(freeze, sql.SQL(way), names))
            if statistics is not None:
                restore_row_counts(link, statistics, known)
        return deletion.unreclaimed(link) if deletion is not None else []
    except ServerRefusedError as error:
        return [f"the rows are in, but VACUUM and statistics are not done: {error.__cause__}"]


def settle(link: Link) -> None:
    """Freeze and analyse the whole database, every row of it: the same statistics each time.

    Beyond 3,000,000 rows of one table ANALYZE can't be made to read them all.
    """
    rows = link.value("SELECT coalesce(max(reltuples), 0)::bigint FROM pg_class")
    target = sql.Literal(_target({"": rows}))
    link.execute(sql.SQL("SET default_statistics_target TO {}").format(target))
    link.execute("VACUUM (FREEZE, ANALYZE)")
    link.execute("RESET default_statistics_target")


@contextmanager
def _settings(link: Link, plan: Plan, rows: Mapping[str, int]) -> Iterator[None]:
    """Have no timeout, and for what is sealed ANALYZE read every row."""
    names = ["statement_timeout", "default_statistics_target"]
    target = _target(rows) if plan.sealed else _DEFAULT_TARGET
    if target == _DEFAULT_TARGET:
        del names[1]
    change = "SELECT set_config(n, v, false) FROM unnest(%s::text[], %s::text[]) AS s (n, v)"
    current = "SELECT current_setting(n) FROM unnest(%s::text[]) AS s (n)"
    wanted = ["0", str(target)][: len(names)]
    found, _ = link.together([(current, (names,)), (change, (names, wanted))])
    before = [row[0] for row in found]
    try:
        yield
    finally:
        if before != wanted:
            link.rows(change, (names, before))


def _target(rows: Mapping[str, int]) -> int:
    """Return the statistics target at which ANALYZE reads every row of the largest table."""
    needed = -(-max(rows.values(), default=0) // _SAMPLED_ROWS)
    return min(max(needed, _DEFAULT_TARGET), _HIGHEST_TARGET)

"""VACUUM and statistics for the tables of a load, once its rows are committed."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from psycopg import sql

from perfdata.errors import ServerRefusedError
from perfdata.postgres.statistics import restore_row_counts
from perfdata.text import join_first

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from perfdata.load.plan import Plan
    from perfdata.load.removals import Removal
    from perfdata.postgres.catalog import Table
    from perfdata.postgres.link import Deferred, Link
    from perfdata.postgres.statistics import Statistics

# ANALYZE samples 300 rows per unit of the statistics target, which is 100 unless a server or a
# column sets another: 30,000 random rows. Reading all rows of 5000_offices gives the same result
# each time and takes five times as long (1.3 and 6.8 s).
_SAMPLED_ROWS, _DEFAULT_TARGET, _HIGHEST_TARGET = 300, 100, 10_000

# What may still read rows that transaction xid deleted; a walsender stands for a standby's readers.
_HOLDERS = """
WITH deleted (age) AS (SELECT age(%(xid)s::text::xid))
SELECT format('pid %%s (%%s, user %%s, %%s since %%s)', a.pid,
  coalesce(nullif(a.application_name, ''), 'no application name'), a.usename,
  coalesce(a.state, a.backend_type), to_char(a.xact_start, 'HH24:MI:SS TZ'))
FROM pg_stat_activity a, deleted WHERE a.pid <> pg_backend_pid()
  AND (a.datname = current_database() OR a.datname IS NULL) AND age(a.backend_xmin) >= deleted.age
UNION ALL SELECT format('prepared transaction %%s', p.gid) FROM pg_prepared_xacts p, deleted
WHERE p.database = current_database() AND age(p.transaction) >= deleted.age
UNION ALL SELECT format('replication slot %%s', s.slot_name) FROM pg_replication_slots s, deleted
WHERE age(s.xmin) >= deleted.age"""


@dataclass(frozen=True)
class Deletion:
    """The number of rows that a transaction deleted, and its id."""

    rows: int
    xid: Deferred

    def space_notes(self, link: Link) -> list[str]:
        """Name what kept VACUUM from freeing the space of the deleted rows."""
        holders = [row[0] for row in link.rows(_HOLDERS, {"xid": self.xid.rows[0][0]})]
        if not holders:
            return []
        note = (
            f"the space of {self.rows:,} deleted rows can't be used again yet: VACUUM keeps what "
            f"these may still read: {join_first(holders)}"
        )
        return [note]


def deletion_of(link: Link, removals: Iterable[Removal]) -> Deletion | None:
    """Return what the open transaction deletes, None if nothing; queue the query for its id."""
    rows = sum(removal.going for removal in removals if not removal.truncate)
    return Deletion(rows, link.later("SELECT pg_current_xact_id()::text")) if rows else None


def vacuum_and_analyze(
    link: Link,
    plan: Plan,
    rows: Mapping[str, int],
    statistics: Statistics | None,
    restored: Collection[int],
    deletion: Deletion | None = None,
) -> list[str]:
    """Vacuum the tables of a plan, analyse them, and return notes for users.

    VACUUM sets the visibility map and gives back unused pages. ``rows`` are the loaded rows by
    table key; tables in ``restored`` (oids) have their statistics, and are not analysed. The rows
    are committed, so an error is returned as a note.
    """
    freeze = sql.SQL("FREEZE, " if plan.sealed else "")
    try:
        with _settings(link, plan, rows):
            for analyze, tables in (
                ("", [table for table in plan.tables if table.oid in restored]),
                ("ANALYZE, ", [table for table in plan.tables if table.oid not in restored]),
            ):
                if tables:
                    names = sql.SQL(", ").join(table.identifier for table in tables)
                    vacuum = sql.SQL("VACUUM ({}{}SKIP_LOCKED) {}")
                    link.execute(vacuum.format(freeze, sql.SQL(analyze), names))
            if statistics is not None:
                restore_row_counts(link, statistics, restored)
        return deletion.space_notes(link) if deletion is not None else []
    except ServerRefusedError as error:
        return [f"the rows are committed, but VACUUM or ANALYZE failed: {error.__cause__}"]


def analyse_statements(tables: Iterable[Table], rows: Mapping[str, int]) -> list[str]:
    """Return what freezes tables and analyses every row, as the load of a sealed plan does.

    ``rows`` are all loaded rows by table key: the largest table decides how detailed the statistics
    of each are.
    """
    names = sql.SQL(", ").join(table.identifier for table in tables)
    if not names.as_string(None):
        return []
    return [
        f"SET default_statistics_target TO {_target(rows)}",
        sql.SQL("VACUUM (FREEZE, ANALYZE) {}").format(names).as_string(None),
        "RESET default_statistics_target",
    ]


def freeze_and_analyse(link: Link) -> None:
    """Freeze and analyse the whole database, reading every row: statistics are deterministic.

    ANALYZE can read all rows of tables with up to 3,000,000.
    """
    rows = link.value("SELECT coalesce(max(reltuples), 0)::bigint FROM pg_class")
    target = sql.Literal(_target({"": rows}))
    link.execute(sql.SQL("SET default_statistics_target TO {}").format(target))
    link.execute("VACUUM (FREEZE, ANALYZE)")
    link.execute("RESET default_statistics_target")


@contextmanager
def _settings(link: Link, plan: Plan, rows: Mapping[str, int]) -> Iterator[None]:
    """Disable statement_timeout and, in a sealed database, have ANALYZE read every row."""
    wanted = {"statement_timeout": "0"}
    if plan.sealed and (target := _target(rows)) != _DEFAULT_TARGET:
        wanted["default_statistics_target"] = str(target)
    names, values = list(wanted), list(wanted.values())
    change = "SELECT set_config(n, v, false) FROM unnest(%s::text[], %s::text[]) AS s (n, v)"
    current = "SELECT current_setting(n) FROM unnest(%s::text[]) AS s (n)"
    found, _ = link.together([(current, (names,)), (change, (names, values))])
    before = [row[0] for row in found]
    try:
        yield
    finally:
        if before != values:
            link.rows(change, (names, before))


def _target(rows: Mapping[str, int]) -> int:
    """Return the statistics target for which ANALYZE reads every row of the largest table."""
    needed = -(-max(rows.values(), default=0) // _SAMPLED_ROWS)
    return min(max(needed, _DEFAULT_TARGET), _HIGHEST_TARGET)

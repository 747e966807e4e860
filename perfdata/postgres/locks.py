"""Locks: what loads and creates wait for, how long, and who is named when it was too long."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from psycopg import sql

from perfdata.errors import ConfigError, LoadError, ServerRefusedError
from perfdata.postgres.catalog import table_key
from perfdata.progress import Event
from perfdata.text import first

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from perfdata.postgres.catalog import Table
    from perfdata.postgres.link import AnyQuery, Link, Rows
    from perfdata.progress import Report

LOCK_TIMEOUT_S = 10.0
# PostgreSQL's own limit for lock_timeout, an int of milliseconds: 24 days.
_SHORTEST_S, _LONGEST_S = 0.001, 2147483.0
# Every load takes it, and every create shares it: two loads would dead-lock, and TRUNCATE and
# FREEZE are seen by snapshots that are older than they.
ADVISORY_LOCK = 0x70657266
_NOT_AVAILABLE = "55P03"

# What stands in the way: locks in such a mode that are held, or queued for; behind those, whoever
# these wait for themselves. State and age are shown to roles that may see them; never a query,
# which may hold a password.
_HOLDERS = """
WITH RECURSIVE locks AS MATERIALIZED (SELECT * FROM pg_locks),
part (oid) AS (
  SELECT unnest(%(oids)s::bigint[])::oid
  UNION SELECT i.inhrelid FROM part p JOIN pg_inherits i ON i.inhparent = p.oid),
own (oid) AS (SELECT oid FROM pg_database WHERE datname = current_database()),
way AS (
  SELECT l.* FROM locks l JOIN own ON l.database = own.oid
  WHERE l.pid IS DISTINCT FROM pg_backend_pid() AND (
    l.relation IN (SELECT oid FROM part) OR %(oids)s::bigint[] IS NULL AND l.mode ~ %(modes)s
      AND EXISTS (SELECT FROM pg_class c WHERE c.oid = l.relation AND c.relpersistence <> 't'
                  AND (c.oid >= 16384 OR l.mode = 'AccessExclusiveLock'))
    OR l.locktype = 'advisory' AND l.classid = 0 AND l.objid = %(number)s AND l.objsubid = 1)),
behind AS (
  SELECT l.* FROM locks l JOIN own ON l.database = own.oid
  JOIN locks w ON NOT w.granted AND w.relation = l.relation AND w.database = l.database
  WHERE w.pid IN (SELECT pid FROM way)
    AND (l.pid = w.pid OR l.granted AND coalesce(l.pid, 0) = ANY (pg_blocking_pids(w.pid))))
SELECT DISTINCT l.granted, l.mode, n.nspname, c.relname,
  coalesce('prepared transaction ' || p.gid, concat_ws(', ', 'pid ' || l.pid,
    nullif(a.application_name, ''), 'user ' || a.usename,
    a.state || ' since ' || to_char(a.state_change, 'HH24:MI:SS TZ')))
FROM (SELECT * FROM way UNION SELECT * FROM behind) l LEFT JOIN pg_stat_activity a USING (pid)
LEFT JOIN pg_prepared_xacts p ON l.virtualtransaction = '-1/' || p.transaction
LEFT JOIN pg_class c ON c.oid = l.relation LEFT JOIN pg_namespace n ON n.oid = c.relnamespace
ORDER BY l.granted DESC, 2, 3, 4, 5"""
# What keeps a reader out, and what keeps out one that holds others' writes off.
_READERS, _HOLDERS_OFF = "^AccessExclusive", "Exclusive"


def lock_timeout(seconds: float) -> dict[str, str]:
    """Return the setting that lets locks be waited for so long; ConfigError where it can't be."""
    if not _SHORTEST_S <= seconds <= _LONGEST_S:
        raise ConfigError(
            f"locks can be waited for 1 ms to {_LONGEST_S:.0f} s, not {seconds:g} s; "
            "there is no waiting for ever"
        )
    return {"lock_timeout": f"{seconds * 1000:.0f}ms"}


@contextmanager
def load_lock(link: Link, *, shared: bool, timeout_s: float = LOCK_TIMEOUT_S) -> Iterator[None]:
    """Keep other loads out for a block: over transactions, or for the rest of a joined one.

    Raises LoadError where another has not ended within the lock timeout.
    """
    number = sql.Literal(ADVISORY_LOCK)
    way = sql.SQL("_shared" if shared else "")
    timeout = lock_timeout(timeout_s)
    if link.joined:
        with explain_lock_timeout(link, timeout_s, ()), link.transaction(timeout):
            link.rows(sql.SQL("SELECT pg_advisory_xact_lock{}({})").format(way, number))
        yield
        return
    before = link.value("SHOW lock_timeout")
    change = "SELECT set_config('lock_timeout', %s, false)"
    with explain_lock_timeout(link, timeout_s, ()):
        link.rows(change, (timeout["lock_timeout"],))
        try:
            link.rows(sql.SQL("SELECT pg_advisory_lock{}({})").format(way, number))
        finally:
            link.rows(change, (before,))
    try:
        yield
    finally:
        link.rows(sql.SQL("SELECT pg_advisory_unlock{}({})").format(way, number))


def take_load_lock(link: Link, report: Report, *asked: AnyQuery) -> list[Rows]:
    """Keep loads and creates out until the transaction ends; return what else is asked.

    That comes in the same round trip, before any wait.
    """
    number = sql.Literal(ADVISORY_LOCK)
    tried = sql.SQL("SELECT pg_try_advisory_xact_lock({})").format(number)
    got, *answers = link.together([tried, *asked])
    if not got[0][0]:
        report(Event("waiting for another load, or a create, in the same database"))
        link.execute(sql.SQL("SELECT pg_advisory_xact_lock({})").format(number))
    return answers


def lock_tables(link: Link, tables: Sequence[Table]) -> None:
    """Keep everybody else from the tables, from the next statement on."""
    if tables:
        names = sql.SQL(", ").join(table.identifier for table in tables)
        link.later(sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(names))


@contextmanager
def consistent_read(
    link: Link, timeout_s: float = LOCK_TIMEOUT_S, *, writers_off: bool = False
) -> Iterator[None]:
    """Read for a block in a transaction; LoadError where a lock is not had.

    ``writers_off`` tells that others' writes are held off in it, so that they are waited for too.
    """
    with (
        explain_lock_timeout(link, timeout_s, writers_off=writers_off),
        link.transaction(lock_timeout(timeout_s), reading=True),
    ):
        yield


@contextmanager
def explain_lock_timeout(
    link: Link,
    timeout_s: float,
    tables: Collection[Table] | None = None,
    *,
    writers_off: bool = False,
) -> Iterator[None]:
    """Raise LoadError, naming who holds what, where a lock did not come in time.

    Without ``tables`` whoever keeps readers from any is named, and with ``writers_off`` whoever
    writes. To be used around a transaction: by then all of it is rolled back.
    """
    try:
        yield
    except ServerRefusedError as error:
        if error.sqlstate != _NOT_AVAILABLE:
            raise
        oids = None if tables is None else [table.oid for table in tables]
        modes = _HOLDERS_OFF if writers_off else _READERS
        params = {"oids": oids, "number": ADVISORY_LOCK, "modes": modes}
        holders = first([_described(*row) for row in link.rows(_HOLDERS, params)])
        what = "another load or create has not ended" if oids == [] else "a table was not to be had"
        raise LoadError(
            f"{what} within {timeout_s:g} s; nothing was touched. "
            f"{holders or 'Whoever held it has let go by now'}. Run it again when that has "
            "ended, or wait longer (--lock-timeout)"
        ) from error


def _described(granted: bool, mode: str, schema: str | None, name: str | None, who: str) -> str:
    held = table_key(schema, name) if schema and name else "the lock of loads and creates"
    return f"{mode} {'holds' if granted else 'waits for'} {held} ({who})"

"""Locks: how loads and creates exclude one another, and error messages for lock timeouts."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from psycopg import sql

from perfdata.errors import ConfigError, LoadError, ServerRefusedError
from perfdata.postgres.catalog import table_key
from perfdata.progress import Event, silent
from perfdata.text import join_first

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from perfdata.postgres.catalog import Table
    from perfdata.postgres.link import AnyQuery, Link, Rows
    from perfdata.progress import Report

LOCK_TIMEOUT_S = 10.0
# lock_timeout is an int of milliseconds, so 24 days at most; 0 would mean no limit.
_SHORTEST_S, _LONGEST_S = 0.001, 2147483.0
# Loads take this lock exclusively, creates share it. Two loads would deadlock, and TRUNCATE and
# FREEZE are not MVCC-safe: a create that began earlier would see their effects.
ADVISORY_LOCK = 0x70657266
_NOT_AVAILABLE = "55P03"
_WAITING = "waiting for another load or create in the same database"

# The blocking locks: those held or requested on the tables in a conflicting mode, and those that
# their requesters wait for. The state of a session is shown to roles that may see it; its query
# never is, as it may contain a password.
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
# The lock modes that conflict with reading, and with a reader that also blocks others' writes.
_BLOCK_READERS, _BLOCK_WRITE_BLOCKERS = "^AccessExclusive", "Exclusive"


def lock_timeout(seconds: float) -> dict[str, str]:
    """Return the setting for a lock timeout in seconds; raise ConfigError if out of range."""
    if not _SHORTEST_S <= seconds <= _LONGEST_S:
        raise ConfigError(
            f"a lock timeout of {seconds:g} s is out of range: it must be between 1 ms and "
            f"{_LONGEST_S:.0f} s, and can't be switched off"
        )
    return {"lock_timeout": f"{seconds * 1000:.0f}ms"}


@contextmanager
def load_lock(
    link: Link, *, shared: bool, timeout_s: float = LOCK_TIMEOUT_S, report: Report = silent
) -> Iterator[None]:
    """Hold the advisory lock of loads and creates for a block, across transactions.

    In a joined transaction it is held until that ends. Raises LoadError if the lock is not granted
    within the timeout.
    """
    number = sql.Literal(ADVISORY_LOCK)
    suffix = sql.SQL("_shared" if shared else "")
    timeout = lock_timeout(timeout_s)
    if link.joined:
        with explain_lock_timeout(link, timeout_s, ()), link.transaction(timeout):
            link.rows(sql.SQL("SELECT pg_advisory_xact_lock{}({})").format(suffix, number))
        yield
        return
    attempt = sql.SQL("SELECT pg_try_advisory_lock{}({})").format(suffix, number)
    if not link.value(attempt):
        report(Event(_WAITING))
        before = link.value("SHOW lock_timeout")
        change = "SELECT set_config('lock_timeout', %s, false)"
        with explain_lock_timeout(link, timeout_s, ()):
            link.rows(change, (timeout["lock_timeout"],))
            try:
                link.rows(sql.SQL("SELECT pg_advisory_lock{}({})").format(suffix, number))
            finally:
                link.rows(change, (before,))
    try:
        yield
    finally:
        with suppress(ServerRefusedError):  # the connection is lost, and the lock with it
            link.rows(sql.SQL("SELECT pg_advisory_unlock{}({})").format(suffix, number))


def take_load_lock(link: Link, report: Report, *queries: AnyQuery) -> list[Rows]:
    """Take the advisory lock of loads until the transaction ends; return the rows of ``queries``.

    The queries are sent in the same round trip, and run before any wait for the lock.
    """
    number = sql.Literal(ADVISORY_LOCK)
    attempt = sql.SQL("SELECT pg_try_advisory_xact_lock({})").format(number)
    granted, *results = link.together([attempt, *queries])
    if not granted[0][0]:
        report(Event(_WAITING))
        link.execute(sql.SQL("SELECT pg_advisory_xact_lock({})").format(number))
    return results


def lock_tables(link: Link, tables: Sequence[Table]) -> None:
    """Queue a lock on tables in ACCESS EXCLUSIVE mode: it is sent with the next statement."""
    if tables:
        names = sql.SQL(", ").join(table.identifier for table in tables)
        link.later(sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(names))


@contextmanager
def consistent_read(
    link: Link, timeout_s: float = LOCK_TIMEOUT_S, *, writers_off: bool = False
) -> Iterator[None]:
    """Run a block in a read-only REPEATABLE READ transaction.

    ``writers_off`` says that the block also takes locks that conflict with writes. Raises LoadError
    if a lock is not granted within the timeout.
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
    """Turn a lock timeout into a LoadError that names the sessions holding the locks.

    Without ``tables``, these are the sessions that block reading any table, with ``writers_off``
    also those that write to one. Must enclose the transaction, so that it is rolled back when the
    locks are looked up.
    """
    try:
        yield
    except ServerRefusedError as error:
        if error.sqlstate != _NOT_AVAILABLE:
            raise
        oids = None if tables is None else [table.oid for table in tables]
        modes = _BLOCK_WRITE_BLOCKERS if writers_off else _BLOCK_READERS
        params = {"oids": oids, "number": ADVISORY_LOCK, "modes": modes}
        holders = join_first([_described(*row) for row in link.rows(_HOLDERS, params)])
        failure = (
            "another load or create did not end" if oids == [] else "a table lock was not granted"
        )
        raise LoadError(
            f"{failure} within {timeout_s:g} s; nothing was touched. "
            f"{holders or 'The lock has been released since'}. Run the command again when the "
            "lock is free, or wait longer (lock_timeout_s)"
        ) from error


def _described(granted: bool, mode: str, schema: str | None, name: str | None, who: str) -> str:
    held = table_key(schema, name) if schema and name else "perfdata's advisory lock"
    return f"{mode} {'holds' if granted else 'waits for'} {held} ({who})"

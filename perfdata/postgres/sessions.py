"""Sessions: who is in a database, and how they are made to leave it."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from perfdata.errors import PerfdataError, RefusedError, ServerRefusedError
from perfdata.postgres.connection import connect
from perfdata.postgres.drivers import PsycopgLink
from perfdata.text import first

if TYPE_CHECKING:
    from collections.abc import Iterator

    from perfdata.postgres.link import Link

_IN_USE = "55006"
_NOT_ALLOWED = "42501"
# A session that was just closed is gone in 1 to 3 ms; the server itself looks again only after
# 100 ms, and gives up after 5 s.
_POLL_S = 0.002
_PASSING_S = 0.5

# Those of autovacuum belong to no role; the server ends them by itself.
_SESSIONS = """
SELECT pid, format('pid %%s (%%s, user %%s)', pid, coalesce(nullif(application_name, ''),
  'no application name'), coalesce(usename, usesysid::text))
FROM pg_stat_activity
WHERE datid = %s AND pid <> pg_backend_pid() AND usesysid IS NOT NULL ORDER BY pid"""

# CREATE DATABASE shares its template's lock, a renaming takes it alone: connections wait for both.
_BLOCKED = """
SELECT EXISTS (SELECT FROM pg_locks
WHERE locktype = 'object' AND classid = 'pg_database'::regclass AND objid = %s AND granted
  AND mode IN ('ShareLock', 'AccessExclusiveLock'))"""


def refuse_sessions(link: Link, oid: int, name: str) -> None:
    """Raise RefusedError, naming them, where sessions are open in a database and do not end."""
    if found := remaining_sessions(link, oid):
        raise _in_use(name, found)


def remaining_sessions(link: Link, oid: int) -> list[str]:
    """Describe the sessions in a database that are not about to end."""
    deadline = time.monotonic() + _PASSING_S
    while found := link.rows(_SESSIONS, (oid,)):
        if time.monotonic() > deadline:
            break
        time.sleep(_POLL_S)
    return [row[1] for row in found]


def _in_use(name: str, sessions: list[str], why: str = "") -> RefusedError:
    return RefusedError(
        "refused, nothing was touched: a database can be cloned or replaced only while nobody is "
        f"in it, and in {name} are: {first(sessions)}. "
        f"{why or 'End them (snapshot.restore --terminate does)'}"
    )


@contextmanager
def without_sessions(
    link: Link, conninfo: str, oid: int, name: str, *, terminate: bool
) -> Iterator[None]:
    """Run a statement that needs a database with nobody in it.

    ``terminate``: once the statement holds the lock that new connections wait for, the sessions
    that are there are ended, over another connection to ``conninfo``. Raises RefusedError, naming
    who is there.
    """
    if not terminate:
        refuse_sessions(link, oid, name)
        with _named(link, oid, name):
            yield
        return
    ender = _Ender(conninfo, oid)
    try:
        with _named(link, oid, name):
            yield
    finally:
        ender.finish()
    if ender.refused:
        raise _in_use(name, ender.refused, "This role may not end them")


@contextmanager
def _named(link: Link, oid: int, name: str) -> Iterator[None]:
    """Name who is there where the server waited for them in vain."""
    try:
        yield
    except ServerRefusedError as error:
        if error.sqlstate != _IN_USE or link.in_transaction():
            raise
        found = [row[1] for row in link.rows(_SESSIONS, (oid,))]
        raise _in_use(name, found or [error.detail or "others"]) from error


class _Ender:
    """Ends a database's sessions from a thread while another connection waits for them to go."""

    def __init__(self, conninfo: str, oid: int) -> None:
        self.refused: list[str] = []
        self._oid = oid
        self._connection = connect(conninfo)
        self._link = PsycopgLink(self._connection)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="perfdata-terminate", daemon=True)
        self._thread.start()

    def finish(self) -> None:
        self._done.set()
        self._thread.join()
        self._connection.close()

    def _run(self) -> None:
        try:
            while not self._done.wait(_POLL_S):
                if self._link.value(_BLOCKED, (self._oid,)):
                    self._end()
        except PerfdataError as error:  # the waiting statement then ends in its own refusal
            self.refused.append(str(error))

    def _end(self) -> None:
        refused = []
        for pid, described in self._link.rows(_SESSIONS, (self._oid,)):
            try:
                self._link.rows("SELECT pg_terminate_backend(%s)", (pid,))
            except ServerRefusedError as error:
                if error.sqlstate != _NOT_ALLOWED:
                    raise
                refused.append(described)
        self.refused = refused

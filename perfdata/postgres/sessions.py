"""Sessions: which ones are connected to a database, and how they are ended."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from perfdata.errors import PerfdataError, RefusedError, ServerRefusedError
from perfdata.postgres.connection import connect
from perfdata.postgres.drivers import PsycopgLink
from perfdata.text import join_first

if TYPE_CHECKING:
    from collections.abc import Iterator

    from perfdata.postgres.link import Link

IN_USE = "55006"
_NOT_ALLOWED = "42501"
# A session that was just closed is gone after 1 to 3 ms. The server itself looks only every 100 ms,
# and gives up after 5 s.
_POLL_S = 0.002
_CLOSING_S = 0.5

# All but autovacuum workers, which have no role: the server ends those by itself.
_SESSIONS = """
SELECT pid, format('pid %%s (%%s, user %%s)', pid, coalesce(nullif(application_name, ''),
  'no application name'), coalesce(usename, usesysid::text))
FROM pg_stat_activity
WHERE datid = %s AND pid <> pg_backend_pid() AND usesysid IS NOT NULL ORDER BY pid"""

# The database lock that makes new connections wait: CREATE DATABASE takes it on its template in
# share mode, renaming exclusively.
_BLOCKED = """
SELECT EXISTS (SELECT FROM pg_locks
WHERE locktype = 'object' AND classid = 'pg_database'::regclass AND objid = %s AND granted
  AND mode IN ('ShareLock', 'AccessExclusiveLock'))"""


def refuse_sessions(link: Link, oid: int, name: str, remedy: str = "") -> None:
    """Raise RefusedError, which names them, if sessions stay connected to a database."""
    if sessions := remaining_sessions(link, oid):
        raise _in_use(name, sessions, remedy)


def remaining_sessions(link: Link, oid: int) -> list[str]:
    """Describe a database's sessions, after waiting for those that are just closing."""
    deadline = time.monotonic() + _CLOSING_S
    while rows := link.rows(_SESSIONS, (oid,)):
        if time.monotonic() > deadline:
            break
        time.sleep(_POLL_S)
    return [description for _, description in rows]


def _in_use(name: str, sessions: list[str], remedy: str = "") -> RefusedError:
    return RefusedError(
        "refused, nothing was touched: a database can be cloned, renamed or replaced only while no "
        f"session is connected to it, and {name} has: {join_first(sessions)}",
        remedy=remedy or "End them (terminate=True does)",
    )


@contextmanager
def without_sessions(
    link: Link, conninfo: str, oid: int, name: str, *, terminate: bool
) -> Iterator[None]:
    """Run a statement that requires a database without sessions.

    With ``terminate``, sessions are ended over another connection to ``conninfo``, once the
    statement holds the lock that makes new connections wait. Raises RefusedError, which names the
    sessions that are left.
    """
    if not terminate:
        refuse_sessions(link, oid, name)
        with _explained(link, oid, name):
            yield
        return
    terminator = _Terminator(conninfo, oid)
    try:
        with _explained(link, oid, name):
            yield
    finally:
        terminator.finish()
    if terminator.refused:
        raise _in_use(name, terminator.refused, "This role may not end them")


@contextmanager
def _explained(link: Link, oid: int, name: str) -> Iterator[None]:
    """Turn the server's error that a database is in use into one that names the sessions."""
    try:
        yield
    except ServerRefusedError as error:
        if error.sqlstate != IN_USE or link.in_transaction():
            raise
        sessions = [description for _, description in link.rows(_SESSIONS, (oid,))]
        raise _in_use(name, sessions or [error.detail or "unknown sessions"]) from error


class _Terminator:
    """Ends a database's sessions from a thread, while a statement waits for them on another link.

    ``refused`` describes the sessions that the role may not end.
    """

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
                    self._terminate_sessions()
        except PerfdataError as error:  # the waiting statement then fails with its own error
            self.refused.append(str(error))

    def _terminate_sessions(self) -> None:
        refused = []
        for pid, description in self._link.rows(_SESSIONS, (self._oid,)):
            try:
                self._link.rows("SELECT pg_terminate_backend(%s)", (pid,))
            except ServerRefusedError as error:
                if error.sqlstate != _NOT_ALLOWED:
                    raise
                refused.append(description)
        self.refused = refused

"""Audit: one line in the server's log says who replaced rows, from what, and how.

It is meant for the server's administrators. Meanwhile pg_stat_activity shows the session under an
application_name such as ``perfdata restore 100_offices``.
"""

from __future__ import annotations

import getpass
import os
import socket
from typing import TYPE_CHECKING

from psycopg import sql

from perfdata.errors import ServerRefusedError
from perfdata.server.accounts import user_name

if TYPE_CHECKING:
    from perfdata.postgres.link import Link

_MAY_LOG = """
SELECT current_database(), EXISTS (SELECT FROM pg_language
  WHERE lanname = 'plpgsql' AND has_language_privilege(oid, 'USAGE'))"""


def log_change(
    link: Link, done: str, rows: int, strategy: str, database: str | None = None
) -> tuple[str, ...]:
    """Write to the server's log what was done, such as ``restored snapshot NAME (sha256 …)``.

    ``database`` defaults to the link's. A role that may not use PL/pgSQL writes no line. In a
    caller's transaction the line stays even if the caller rolls back. As the rows are loaded by
    now, a refusal is returned as a note.
    """
    try:
        ((here, may_log),) = link.rows(_MAY_LOG)
        if may_log:
            link.execute(_statement(link, done, database or here, rows, strategy))
    except ServerRefusedError as error:
        if link.joined:
            raise
        return (f"the rows are loaded, but not in the server's log: {error.server_message}",)
    return ()


def _statement(link: Link, done: str, database: str, rows: int, strategy: str) -> sql.Composed:
    how = f"{strategy}, in the caller's transaction" if link.joined else strategy
    text = f"perfdata {done} into database {database}: {rows:,} rows ({how}), for {_person()}"
    # A name with line breaks could forge lines of the log.
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    body = f"BEGIN RAISE LOG '%', {sql.Literal(text).as_string()}; END"
    return sql.SQL("DO {}").format(sql.Literal(body))


def _person() -> str:
    """Name the operating system's user from the process, not from the environment."""
    user = user_name(os.getuid()) if os.name == "posix" else getpass.getuser()
    return f"operating system user {user} on {socket.gethostname()}"

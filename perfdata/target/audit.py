"""Audit: one line in the server's log says who replaced rows, from what, and how.

It is for the server's administrators. The sessions that do it carry an application_name, such as
``perfdata restore 100_offices``, which pg_stat_activity shows meanwhile.
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

_ASKED = """
SELECT current_database(), EXISTS (SELECT FROM pg_language
  WHERE lanname = 'plpgsql' AND has_language_privilege(oid, 'USAGE'))"""


def log_change(
    link: Link, done: str, rows: int, strategy: str, database: str | None = None
) -> tuple[str, ...]:
    """Write to the server's log what was done, as ``restored snapshot NAME (sha256 …)``.

    ``database`` is that of the link where it is None. A role that may use no PL/pgSQL leaves no
    line. In a caller's transaction the line stays whether or not the caller commits. The rows are
    in by now: what goes wrong is returned as a note.
    """
    try:
        ((here, may_log),) = link.rows(_ASKED)
        if may_log:
            link.execute(_statement(link, done, database or here, rows, strategy))
    except ServerRefusedError as error:
        if link.joined:
            raise
        return (
            f"the rows are in, but the server's log has no line about it: {error.server_message}",
        )
    return ()


def _statement(link: Link, done: str, database: str, rows: int, strategy: str) -> sql.Composed:
    how = f"{strategy}, in a transaction of the caller's" if link.joined else strategy
    text = f"perfdata {done} into database {database}: {rows:,} rows ({how}), for {_person()}"
    # A name with line breaks in it would pass for lines of the server's own.
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    body = f"BEGIN RAISE LOG '%', {sql.Literal(text).as_string()}; END"
    return sql.SQL("DO {}").format(sql.Literal(body))


def _person() -> str:
    """Name the user of the operating system, by the process and not by its environment."""
    user = user_name(os.getuid()) if os.name == "posix" else getpass.getuser()
    return f"operating system user {user} on {socket.gethostname()}"

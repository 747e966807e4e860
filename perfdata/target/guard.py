"""The guard: the databases whose rows perfdata may replace.

An entry of ``allow`` is ``HOST[:PORT]/DATABASE[@IDENTIFIER]`` as the client dials it: port 5432
where none is written, ``local`` for the socket in libpq's default folder, ``FOLDER:PORT`` for any
other socket, ``[::1]`` for an IPv6 address. Wildcards match the database's name only, which is the
server's own for it. ``IDENTIFIER`` is the server's system identifier.
"""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from psycopg import sql

from perfdata.errors import GuardError
from perfdata.postgres.link import IDENTIFIER_GRANT
from perfdata.server.embedded import EmbeddedServer
from perfdata.text import join_first

if TYPE_CHECKING:
    from collections.abc import Iterable

    from perfdata.addresses import Address
    from perfdata.config import Settings
    from perfdata.postgres.link import Link

# Any value of perfdata.restore that a DBA set for the database or the role protects the rows, even
# a misspelled one. It is read from the catalog, as a session can override it with SET; the value in
# the session covers the server's configuration file.
_FORBIDDEN = """
SELECT pg_catalog.current_database(), ARRAY(
  SELECT pg_catalog.split_part(c.setting, '=', 2)
  FROM pg_catalog.pg_db_role_setting s CROSS JOIN pg_catalog.unnest(s.setconfig) c (setting)
  WHERE s.setdatabase IN (0, d.oid)
    AND s.setrole IN (SELECT 0 UNION ALL SELECT r.oid FROM pg_catalog.pg_roles r
                      WHERE r.rolname IN (current_user, session_user))
    AND c.setting ILIKE 'perfdata.restore=_%'
  UNION ALL SELECT f.setting FROM pg_catalog.current_setting('perfdata.restore', true) f (setting)
  WHERE f.setting <> '')
FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()"""
# The first 32 bits of a system identifier are the second in which initdb ran: 19 digits since 1999.
_IDENTIFIED = re.compile(r"(.*)@(\d{16,20})", re.DOTALL)


@dataclass(frozen=True)
class Location:
    """A database: where the client reached it, and its name on the server."""

    link: Link
    address: Address
    database: str

    @property
    def entry(self) -> str:
        """The entry that allows this database only."""
        return f"{self.address.spellings[0]}/{self.database}"

    def listed(self, entries: Iterable[str]) -> bool:
        """Tell whether one of the entries matches the database."""
        return any(_matches(pattern, self.database) for pattern in self._patterns(entries))

    def listed_by_name(self, entries: Iterable[str]) -> bool:
        """Tell whether one of the entries names the database in full, without a wildcard."""
        return self.database in self._patterns(entries)

    def updated(self, entry: str) -> str | None:
        """Return the present form of an entry that matched before entries had ports and folders."""
        host = "local" if self.address.is_socket else self.address.host
        if not _matches(entry, f"{host}/{self.database}"):
            return None
        server, _, pattern = entry.partition("/")
        return f"{self.address.spellings[0]}/{pattern}" if server == host else self.entry

    def _patterns(self, entries: Iterable[str]) -> list[str]:
        """Return the patterns for database names in the entries for this server."""
        patterns: list[str] = []
        for entry in entries:
            identified = _IDENTIFIED.fullmatch(entry)
            if identified and self.link.server_identifier != int(identified[2]):
                continue
            text = identified[1] if identified else entry
            prefixes = [f"{server}/" for server in self.address.spellings]
            patterns += [
                text.removeprefix(prefix) for prefix in prefixes if text.startswith(prefix)
            ]
        return patterns


def _matches(pattern: str, name: str) -> bool:
    return name == pattern or fnmatchcase(name, pattern)


def locate(link: Link) -> Location:
    """Return the location of a link's database."""
    return Location(link, link.address(), str(link.value("SELECT pg_catalog.current_database()")))


def allowed_by_name(link: Link, settings: Settings) -> bool:
    """Tell whether an entry of ``allow`` names this database in full, without a wildcard."""
    return locate(link).listed_by_name(settings.allow)


def check_guard(link: Link, settings: Settings) -> None:
    """Raise GuardError unless rows of this database may be replaced (see refusal)."""
    if error := refusal(link, settings):
        raise error


def protection(link: Link) -> GuardError | None:
    """Return the error that protects a database in which perfdata.restore is set, else None."""
    database, forbidden = link.rows(_FORBIDDEN)[0]
    if not forbidden:
        return None
    name = sql.Identifier(database).as_string(None)
    return GuardError(
        f"refused, whatever is allowed: perfdata.restore is set to {forbidden[0]}, which "
        f"protects every row of {database}",
        remedy="Whoever set it can reset it, for example with "
        f"ALTER DATABASE {name} RESET perfdata.restore",
    )


def refusal(link: Link, settings: Settings) -> GuardError | None:
    """Return the reason why rows of this database may not be replaced, None if they may.

    Rows may be replaced on the embedded server, known by its system identifier, and in databases
    listed in PERFDATA_ALLOW or ``[tool.perfdata] allow``, unless ``perfdata.restore`` is set.
    """
    if error := protection(link):
        return error
    if EmbeddedServer(settings).owns(link):
        return None
    location = locate(link)
    if location.listed(settings.allow):
        return None
    entry = location.entry
    return GuardError(
        "refused: perfdata replaces rows only on its embedded server or in databases that are "
        f"listed, and {entry} is not. {_describe_list(location, settings)}",
        remedy=f"If its flagged rows may be replaced, set PERFDATA_ALLOW={shlex.quote(entry)} or, "
        f"in pyproject.toml, [tool.perfdata] allow = [{json.dumps(entry, ensure_ascii=False)}]",
    )


def _describe_list(location: Location, settings: Settings) -> str:
    """Say what is listed where, and which entries no longer match because their form changed."""
    pyproject = f"allow in {settings.root / 'pyproject.toml'}"
    if not settings.allow:
        other = pyproject if settings.configured else "a [tool.perfdata]"
        return f"The list is empty: there is neither PERFDATA_ALLOW nor {other}"
    environ = settings.allow_environ
    entries = [
        f"{entry!r} ({'PERFDATA_ALLOW' if entry in environ else pyproject})"
        for entry in settings.allow
    ]
    form = "host:port/database as the client dials it, with port 5432 if none is given"
    wildcards = "wildcards in the database's name only"
    sentences = [f"The list has {join_first(entries)}; entries are {form} and {wildcards}"]
    updates = [(entry, location.updated(entry)) for entry in settings.allow]
    sentences += [f"{old!r} no longer matches: write {new!r}" for old, new in updates if new]
    if any("@" in entry for entry in settings.allow):
        identifier = location.link.server_identifier
        sentences.append(
            f"This server's identifier is {identifier}"
            if identifier
            else f"This role may not read the server's identifier: {IDENTIFIER_GRANT}"
        )
    return ". ".join(sentences)

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
from perfdata.text import first

if TYPE_CHECKING:
    from collections.abc import Iterable

    from perfdata.addresses import Address
    from perfdata.config import Settings
    from perfdata.postgres.link import Link

# What the DBA set for the database, for this role or for all; a session can hide it with SET. Any
# value counts, so that a misspelt one protects too. The session's own says what the server's
# configuration file does.
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
# Of an identifier the first 32 bits are the second in which initdb ran: 19 digits since 1999.
_IDENTIFIED = re.compile(r"(.*)@(\d{16,20})", re.DOTALL)


@dataclass(frozen=True)
class Location:
    """A database where a client reached it, by the name that the server has for it."""

    link: Link
    address: Address
    database: str

    @property
    def entry(self) -> str:
        """The entry that names this database alone."""
        return f"{self.address.spellings[0]}/{self.database}"

    def listed(self, entries: Iterable[str]) -> bool:
        """Tell whether one of the entries covers it."""
        return any(_covers(pattern, self.database) for pattern in self._patterns(entries))

    def listed_by_name(self, entries: Iterable[str]) -> bool:
        """Tell whether one of the entries names it in full, with no wildcard."""
        return self.database in self._patterns(entries)

    def renewed(self, entry: str) -> str | None:
        """Return the new form of an entry that covered it before ports and folders counted."""
        host = "local" if self.address.is_socket else self.address.host
        if not _covers(entry, f"{host}/{self.database}"):
            return None
        server, _, pattern = entry.partition("/")
        return f"{self.address.spellings[0]}/{pattern}" if server == host else self.entry

    def _patterns(self, entries: Iterable[str]) -> list[str]:
        """Return what the entries of this very server say of the database's name."""
        found: list[str] = []
        for entry in entries:
            identified = _IDENTIFIED.fullmatch(entry)
            if identified and self.link.server_identifier != int(identified[2]):
                continue
            text = identified[1] if identified else entry
            starts = [f"{server}/" for server in self.address.spellings]
            found += [text.removeprefix(one) for one in starts if text.startswith(one)]
        return found


def _covers(pattern: str, name: str) -> bool:
    return name == pattern or fnmatchcase(name, pattern)


def check_guard(link: Link, settings: Settings) -> None:
    """Raise GuardError unless rows of this database may be replaced (see refusal)."""
    if reason := refusal(link, settings):
        raise GuardError(reason)


def refusal(link: Link, settings: Settings) -> str | None:
    """Say why rows of this database may not be replaced; None: they may.

    They may on the embedded server, known by its cluster's own identifier, and in a database that
    PERFDATA_ALLOW or ``[tool.perfdata] allow`` lists (see allowlist); but nowhere where
    ``perfdata.restore`` is set.
    """
    database, forbidden = link.rows(_FORBIDDEN)[0]
    if forbidden:
        return (
            f"refused, whatever is allowed: perfdata.restore is set to {forbidden[0]}; no row of "
            f"{database} is replaced while it is. Who set it takes it back, as by "
            f"ALTER DATABASE {_quoted(database)} RESET perfdata.restore"
        )
    if EmbeddedServer(settings).owns(link):
        return None
    location = Location(link, link.address(), database)
    if location.listed(settings.allow):
        return None
    entry = location.entry
    return (
        f"refused: perfdata replaces rows only on its embedded server or in databases that are "
        f"listed, and {entry} is not. {_listed(location, settings)}. If its flagged rows may be "
        f"replaced, set PERFDATA_ALLOW={shlex.quote(entry)} or, in pyproject.toml, "
        f"[tool.perfdata] allow = [{json.dumps(entry, ensure_ascii=False)}]"
    )


def _listed(location: Location, settings: Settings) -> str:
    """Say what is listed, and where; and which entries of an earlier form miss it now."""
    pyproject = f"allow in {settings.root / 'pyproject.toml'}"
    if not settings.allow:
        return "The list is empty: nothing in PERFDATA_ALLOW" + (
            f", nor as {pyproject}" if settings.configured else ", and no [tool.perfdata] was found"
        )
    environ = settings.allow_environ
    entries = [
        f"{one!r} ({'PERFDATA_ALLOW' if one in environ else pyproject})" for one in settings.allow
    ]
    form = "host:port/database as they are dialled, port 5432 where none is written"
    wildcards = "with wildcards in the database's name only"
    said = [f"The list has {first(entries)}; entries are {form}, {wildcards}"]
    renewed = [(one, location.renewed(one)) for one in settings.allow]
    said += [f"{old!r} covers it no longer: write {new!r}" for old, new in renewed if new]
    if any("@" in one for one in settings.allow):
        identifier = location.link.server_identifier
        said.append(
            f"This server's identifier is {identifier}"
            if identifier
            else f"This role may not read the server's identifier: {IDENTIFIER_GRANT}"
        )
    return ". ".join(said)


def _quoted(name: str) -> str:
    return sql.Identifier(name).as_string(None)


def locate(link: Link) -> Location:
    """Return where a database is, by the address dialled and the server's own name for it."""
    return Location(link, link.address(), str(link.value("SELECT pg_catalog.current_database()")))


def allowed_by_name(link: Link, settings: Settings) -> bool:
    """Tell whether this very database is listed, by its full name with no wildcard."""
    return locate(link).listed_by_name(settings.allow)

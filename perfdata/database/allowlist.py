"""The list of databases that may be changed: how an entry of ``allow`` names one.

``HOST[:PORT]/DATABASE[@IDENTIFIER]`` as the client dials it: port 5432 where none is written,
``local`` for the socket in libpq's default folder, ``FOLDER:PORT`` for any other socket, ``[::1]``
for an IPv6 address. Wildcards match the database's name only, which is the server's own for it.
``IDENTIFIER`` is the server's system identifier.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from perfdata.addresses import Address
    from perfdata.postgres.link import Link

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

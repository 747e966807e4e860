"""The disk that databases take which perfdata keeps beside the target."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from perfdata.templates.databases import list_databases
from perfdata.templates.marks import Kind

if TYPE_CHECKING:
    from perfdata.postgres.link import Link

_KINDS = {
    Kind.PARKED: "parked",
    Kind.BEFORE: "replaced",
    Kind.TEMPLATE: "templates",
    Kind.PERF: "templates",
}


@dataclass(frozen=True)
class DiskUsage:
    """How many databases there are of a kind, and their size in bytes."""

    count: int = 0
    size_bytes: int = 0


def measure_databases(link: Link, target: str | None = None) -> dict[str, DiskUsage]:
    """Return the disk usage of ``parked``, ``replaced`` and ``templates`` databases.

    Those of one target only, if it is given, and only databases that this role may drop.
    """
    usage = dict.fromkeys(_KINDS.values(), DiskUsage())
    for database in list_databases(link):
        mark = database.mark
        if mark is None or mark.kind not in _KINDS or not database.droppable:
            continue
        if target in {None, mark.target}:
            size = link.value("SELECT pg_database_size(%s::oid)", (database.oid,))
            found = usage[name := _KINDS[mark.kind]]
            usage[name] = DiskUsage(found.count + 1, found.size_bytes + size)
    return usage

"""What db.status shows: the server in use, its settings, and what takes disk on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from perfdata.tasks.output import human_size, print_facts
from perfdata.tasks.task import untouched_target

if TYPE_CHECKING:
    from collections.abc import Mapping

    from perfdata.config import Settings
    from perfdata.target.disk_usage import DiskUsage

# Settings of somebody else's server that affect the times measured on it.
_PERFORMANCE_SETTINGS = (
    "fsync", "synchronous_commit", "full_page_writes", "wal_level", "autovacuum", "jit",
    "shared_buffers", "max_wal_size",
)  # fmt: skip


def read_status(settings: Settings) -> dict[str, object]:
    """Return the facts about the server in use, as db.status --json prints them."""
    if settings.database_url is None:
        return _read_embedded(settings)
    return _read_reached(settings)


def print_status(facts: dict[str, object]) -> None:
    """Print the facts for people."""
    server_settings: Any = facts.pop("settings")
    databases: Any = facts.pop("databases")
    variables: Any = facts.pop("environment")
    if facts.get("socket_url") == facts["url"]:
        facts.pop("socket_url", None)
    print_facts({name: _plain(value) for name, value in facts.items()})
    if any(usage["count"] for usage in databases.values()):
        print("\ndatabases kept beside it (db.gc removes those that are of no use)")
        print_facts({f"  {name}": _measured(usage) for name, usage in databases.items()})
    if server_settings:
        print("\nserver settings")
        print_facts({f"  {name}": value for name, value in server_settings.items()})
    if variables:
        print("\nthe application's variables")
        print_facts({f"  {name}": value for name, value in variables.items()})


def _read_embedded(settings: Settings) -> dict[str, object]:
    from dataclasses import asdict

    from perfdata.postgres.connection import open_link
    from perfdata.server.embedded import EmbeddedServer
    from perfdata.server.environment import application_variables
    from perfdata.target.disk_usage import measure_databases
    from perfdata.templates.databases import MAINTENANCE

    server = EmbeddedServer(settings)
    status = server.status()
    facts: dict[str, object] = {
        "running": status.running,
        "url": status.url() if status.running else None,
        "socket_url": status.socket_url() if status.running else None,
        # Of a server that was never started, they would have to be chosen.
        "environment": application_variables(settings).shown() if status.running else {},
        "databases": {},
    }
    if status.running:
        with open_link(server.conninfo(MAINTENANCE)) as link:
            facts["databases"] = _usage(measure_databases(link))
    return {**facts, **asdict(status)}


def _usage(measured: Mapping[str, DiskUsage]) -> dict[str, object]:
    from dataclasses import asdict

    return {name: asdict(usage) for name, usage in measured.items()}


def _read_reached(settings: Settings) -> dict[str, object]:
    """Return the facts of _read_embedded about a database given by URL.

    ``allow_entry`` is its entry for the ``allow`` setting; ``refusal`` says why its rows may not be
    replaced, None where they may; ``owned`` whether perfdata owns it.
    """
    from perfdata.postgres.connection import open_link
    from perfdata.server.environment import application_variables
    from perfdata.target.disk_usage import measure_databases
    from perfdata.target.guard import locate, refusal
    from perfdata.templates.provenance import find_owned

    with open_link(settings.database_url) as link:
        server_settings = link.rows(
            "SELECT name, current_setting(name) FROM unnest(%s::text[]) AS s (name)",
            (list(_PERFORMANCE_SETTINGS),),
        )
        database = str(link.value("SELECT current_database()"))
        return {
            "running": True,
            "url": untouched_target(settings).described(),
            "version": link.value("SELECT current_setting('server_version')"),
            "identifier": link.server_identifier,
            "allow_entry": locate(link).entry,
            "refusal": refusal(link, settings),
            "owned": find_owned(link) is not None,
            "databases": _usage(measure_databases(link, database)),
            "settings": dict(server_settings),
            "environment": application_variables(settings).shown(),
        }


def _measured(usage: Mapping[str, int]) -> str:
    return f"{usage['count']}, {human_size(usage['size_bytes'])}"


def _plain(value: object) -> object:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value is None else value

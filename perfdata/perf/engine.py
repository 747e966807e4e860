"""The engine that scenarios are measured on, and the settings its sessions have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

# What would choose another plan after some executions, or on another machine (POSTGRES.md: psycopg
# prepares at the fifth execution, PostgreSQL turns to a generic plan at the eleventh).
MEASURED = {
    "plan_cache_mode": "force_custom_plan",
    "jit": "off",
    "max_parallel_workers_per_gather": "0",
}


def sqlalchemy_url(conninfo: str) -> str:
    """Write a libpq conninfo as a SQLAlchemy URL on psycopg, percent-encoded, password included."""
    from psycopg.conninfo import conninfo_to_dict

    parts = {key: str(value) for key, value in conninfo_to_dict(conninfo).items() if value}
    login = quote(parts.pop("user", ""), safe="")
    if password := parts.pop("password", None):
        login += f":{quote(password, safe='')}"
    database = quote(parts.pop("dbname", ""), safe="")
    hosts = _hosts(parts.pop("host", ""), parts.pop("port", ""))
    query = [*hosts, *parts.items()]
    tail = f"?{urlencode(query, quote_via=quote)}" if query else ""
    return f"postgresql+psycopg://{login}@/{database}{tail}"


def _hosts(host: str, port: str) -> list[tuple[str, str]]:
    """Give hosts and ports as query parameters, which hold sockets, IPv6 and lists alike."""
    hosts, ports = host.split(","), port.split(",")
    if len(hosts) == 1:
        return [(key, value) for key, value in (("host", host), ("port", port)) if value]
    ports = ports * len(hosts) if len(ports) == 1 else ports
    return [("host", f"{name}:{number}") for name, number in zip(hosts, ports, strict=True)]


def make_engine(url: str) -> Engine:
    """Make an engine on psycopg whose connections never prepare, and have the MEASURED settings.

    ``url`` is any that perfdata takes (postgresql://, postgresql+asyncpg://, key=value).
    """
    from sqlalchemy import create_engine, event

    from perfdata.database.connection import normalise_url

    engine = create_engine(
        sqlalchemy_url(normalise_url(url)), connect_args={"prepare_threshold": None}
    )
    event.listen(engine, "connect", _settle)
    return engine


def _settle(connection: Any, _record: Any) -> None:
    before, connection.autocommit = connection.autocommit, True
    for name, value in MEASURED.items():
        connection.execute("SELECT set_config(%s, %s, false)", (name, value))
    connection.autocommit = before


def settings_in_force(connection: Connection) -> dict[str, str]:
    """Return the settings of a session that decide plans, and the server's version."""
    from sqlalchemy import text

    query = text("SELECT name, setting FROM pg_settings WHERE name = ANY (:names) ORDER BY name")
    names = [*MEASURED, "server_version", "work_mem", "random_page_cost", "effective_cache_size"]
    return {row.name: row.setting for row in connection.execute(query, {"names": names})}

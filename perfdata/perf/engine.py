"""The engine that scenarios are measured on, and the settings its sessions have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import psycopg
    from sqlalchemy import Connection, Engine
    from sqlalchemy.ext.asyncio import AsyncEngine

# What would choose another plan after some executions, or on another machine (POSTGRES.md: psycopg
# prepares at the fifth execution, PostgreSQL turns to a generic plan at the eleventh).
MEASURED = {
    "plan_cache_mode": "force_custom_plan",
    "jit": "off",
    "max_parallel_workers_per_gather": "0",
}


def make_engine(url: str) -> Engine:
    """Make an engine on psycopg whose connections never prepare, and have the MEASURED settings.

    ``url`` is any that perfdata takes (postgresql://, postgresql+asyncpg://, key=value).
    """
    from sqlalchemy import create_engine, event

    from perfdata.database.connection import normalise_url
    from perfdata.database.url import make_url

    engine = create_engine(
        make_url(normalise_url(url), "psycopg"), connect_args={"prepare_threshold": None}
    )
    event.listen(engine, "connect", _settle)
    return engine


def _settle(connection: Any, _record: Any) -> None:
    before, connection.autocommit = connection.autocommit, True
    for name, value in MEASURED.items():
        connection.execute("SELECT set_config(%s, %s, false)", (name, value))
    connection.autocommit = before


def make_async_engine(url: str) -> AsyncEngine:
    """Make the engine of make_engine for asynchronous callers, on psycopg too."""
    from sqlalchemy import event
    from sqlalchemy.ext.asyncio import create_async_engine

    from perfdata.database.connection import normalise_url
    from perfdata.database.url import make_url

    engine = create_async_engine(
        make_url(normalise_url(url), "psycopg"), connect_args={"prepare_threshold": None}
    )
    event.listen(
        engine.sync_engine, "connect", lambda connection, _: connection.run_async(_settle_async)
    )
    return engine


async def _settle_async(connection: psycopg.AsyncConnection[Any]) -> None:
    before = connection.autocommit
    await connection.set_autocommit(True)
    for name, value in MEASURED.items():
        await connection.execute("SELECT set_config(%s, %s, false)", (name, value))
    await connection.set_autocommit(before)


def settings_in_force(connection: Connection) -> dict[str, str]:
    """Return the settings of a session that decide plans, and the server's version."""
    from sqlalchemy import text

    query = text("SELECT name, setting FROM pg_settings WHERE name = ANY (:names) ORDER BY name")
    names = [*MEASURED, "server_version", "work_mem", "random_page_cost", "effective_cache_size"]
    return {row.name: row.setting for row in connection.execute(query, {"names": names})}

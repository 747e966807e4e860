"""Run the migrations over asyncpg; each module of the application has its folder of revisions."""

import asyncio
from pathlib import Path

from alembic import context
from engine.database import url
from engine.tables import metadata
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import create_async_engine

context.script.version_locations = sorted(map(str, Path(__file__).parent.glob("*_revisions")))


def run(connection: Connection) -> None:
    """Run the migrations on a connection."""
    context.configure(connection=connection, target_metadata=metadata)
    with context.begin_transaction():
        context.run_migrations()


async def main() -> None:
    """Connect, and run the migrations."""
    engine = create_async_engine(url())
    async with engine.connect() as connection:
        await connection.run_sync(run)
    await engine.dispose()


asyncio.run(main())

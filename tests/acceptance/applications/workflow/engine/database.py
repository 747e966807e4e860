"""The address of the database, for asyncpg."""

import os


def url() -> str:
    """Return the URL for SQLAlchemy."""
    return os.environ["ENGINE_DATABASE_URL"].replace("postgresql://", "postgresql+asyncpg://", 1)

"""Run the migrations on the engine of the application."""

import shop.models  # noqa: F401  registers the tables
from alembic import context
from shop.database import engine
from sqlmodel import SQLModel

with engine.connect() as connection:
    context.configure(connection=connection, target_metadata=SQLModel.metadata)
    with context.begin_transaction():
        context.run_migrations()

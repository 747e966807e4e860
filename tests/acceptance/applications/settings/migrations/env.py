"""Run the migrations in the database of the settings."""

from alembic import context
from office.models import Base
from office.settings import settings
from sqlalchemy import create_engine

with create_engine(str(settings.url)).connect() as connection:
    context.configure(connection=connection, target_metadata=Base.metadata)
    with context.begin_transaction():
        context.run_migrations()

"""Run the migrations on the connection of the caller, else on that of alembic.ini."""

from alembic import context
from billing.models import Base
from sqlalchemy import create_engine


def run(connection):
    """Run the migrations on a connection."""
    context.configure(connection=connection, target_metadata=Base.metadata)
    with context.begin_transaction():
        context.run_migrations()


if connection := context.config.attributes.get("connection"):
    run(connection)
else:
    with create_engine(context.config.get_main_option("sqlalchemy.url")).connect() as connection:
        run(connection)

"""Invoices are paid; the tables themselves were made by hand."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("invoices", sa.Column("paid", sa.Boolean, nullable=False, server_default="false"))

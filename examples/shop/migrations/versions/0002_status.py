"""Orders have a status."""

import sqlalchemy as sa
from alembic import op

revision = "0002_status"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "orders", sa.Column("status", sa.Text, nullable=False, server_default=sa.text("'new'"))
    )


def downgrade() -> None:
    op.drop_column("orders", "status")

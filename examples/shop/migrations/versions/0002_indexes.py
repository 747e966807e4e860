"""Index what is looked up."""

from alembic import op

revision = "0002_indexes"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_orders_customer_id", "orders", ["customer_id"])
    op.create_index("ix_orders_ordered_at", "orders", ["ordered_at"])
    op.create_index("ix_order_lines_product_id", "order_lines", ["product_id"])


def downgrade() -> None:
    op.drop_index("ix_order_lines_product_id")
    op.drop_index("ix_orders_ordered_at")
    op.drop_index("ix_orders_customer_id")

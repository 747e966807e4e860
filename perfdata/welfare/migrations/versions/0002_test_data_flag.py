"""The test-data flag and its indexes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002_test_data_flag"
down_revision = "0001_tables"
branch_labels = None
depends_on = None

TABLES = (
    "staffs",
    "offices",
    "office_staffs",
    "welfare_recipients",
    "office_welfare_recipients",
    "support_plan_cycles",
)


def upgrade() -> None:
    for table in TABLES:
        op.add_column(
            table,
            sa.Column(
                "is_test_data",
                sa.Boolean(),
                server_default=sa.false(),
                nullable=False,
                comment="true: made for tests, may be deleted at any time",
            ),
        )
        op.create_index(f"ix_{table}_is_test_data", table, ["is_test_data"])


def downgrade() -> None:
    for table in reversed(TABLES):
        op.drop_index(f"ix_{table}_is_test_data", table_name=table)
        op.drop_column(table, "is_test_data")

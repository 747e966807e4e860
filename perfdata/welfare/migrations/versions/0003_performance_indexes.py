"""The performance indexes, built without locking out those who write."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0003_performance_indexes"
down_revision = "0002_test_data_flag"
branch_labels = None
depends_on = None

FURIGANA = sa.text("(last_name_furigana || first_name_furigana) gin_trgm_ops")

# Name, table, columns, what else CREATE INDEX is told.
INDEXES: tuple[tuple[str, str, list[Any], dict[str, Any]], ...] = (
    ("ix_office_staffs_staff_id", "office_staffs", ["staff_id"], {}),
    ("ix_office_staffs_office_id", "office_staffs", ["office_id"], {}),
    (
        "ix_office_welfare_recipients_welfare_recipient_id",
        "office_welfare_recipients",
        ["welfare_recipient_id"],
        {},
    ),
    ("ix_office_welfare_recipients_office_id", "office_welfare_recipients", ["office_id"], {}),
    ("ix_offices_name_is_deleted", "offices", ["name", "is_deleted"], {}),
    (
        "ix_welfare_recipients_furigana_trgm",
        "welfare_recipients",
        [FURIGANA],
        {"postgresql_using": "gin"},
    ),
    (
        "ix_support_plan_cycles_recipient_latest",
        "support_plan_cycles",
        ["welfare_recipient_id", "is_latest_cycle"],
        {"postgresql_where": sa.text("is_latest_cycle")},
    ),
    (
        "ix_support_plan_cycles_office_latest_deadline",
        "support_plan_cycles",
        ["office_id", "is_latest_cycle", "next_renewal_deadline"],
        {},
    ),
)


def upgrade() -> None:
    op.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")
    with op.get_context().autocommit_block():
        for name, table, columns, options in INDEXES:
            # A run that was killed here leaves its indexes, one of them perhaps invalid.
            op.drop_index(name, table_name=table, if_exists=True, postgresql_concurrently=True)
            op.create_index(name, table, columns, postgresql_concurrently=True, **options)


def downgrade() -> None:
    # The extension stays: something else in the database may use it.
    with op.get_context().autocommit_block():
        for name, table, _columns, _options in reversed(INDEXES):
            op.drop_index(name, table_name=table, postgresql_concurrently=True)

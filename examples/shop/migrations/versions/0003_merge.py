"""Merge the status and the indexes."""

revision = "0003"
down_revision = ("0002_status", "0002_indexes")
branch_labels = None
depends_on = None


def upgrade() -> None:
    pass


def downgrade() -> None:
    pass

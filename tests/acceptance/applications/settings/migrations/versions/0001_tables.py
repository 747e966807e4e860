"""Create the tables."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "notes",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("owner", sa.String, nullable=False),
        sa.Column("text", sa.String, nullable=False),
        sa.Column("is_test_data", sa.Boolean, nullable=False, server_default="false"),
    )
    op.create_index("ix_notes_owner", "notes", ["owner"])
    op.create_table(
        "tags",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("note_id", sa.Integer, sa.ForeignKey("notes.id"), nullable=False),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("is_test_data", sa.Boolean, nullable=False, server_default="false"),
    )
    op.create_index("ix_tags_note_id", "tags", ["note_id"])

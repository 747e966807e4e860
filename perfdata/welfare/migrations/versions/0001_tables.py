"""The tables."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001_tables"
down_revision = None
branch_labels = None
depends_on = None

PREFERENCES = (
    '{"in_app_notification": true, "email_notification": true, "system_notification": false, '
    '"email_threshold_days": 30, "push_threshold_days": 10}'
)


def moment(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.DateTime(timezone=True))


def recorded() -> list[sa.Column[Any]]:
    return [
        sa.Column(name, sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False)
        for name in ("created_at", "updated_at")
    ]


def uuid_key() -> sa.Column[Any]:
    return sa.Column("id", sa.Uuid(), primary_key=True, server_default=sa.func.gen_random_uuid())


def flag(name: str, *, default: bool = False) -> sa.Column[Any]:
    return sa.Column(
        name, sa.Boolean(), server_default=sa.true() if default else sa.false(), nullable=False
    )


def reference(
    name: str, target: str, ondelete: str | None = None, *, nullable: bool = False
) -> sa.Column[Any]:
    return sa.Column(
        name, sa.Uuid(), sa.ForeignKey(f"{target}.id", ondelete=ondelete), nullable=nullable
    )


def upgrade() -> None:
    create_staffs()
    create_offices()
    op.create_table(
        "office_staffs",
        uuid_key(),
        reference("staff_id", "staffs", "CASCADE"),
        reference("office_id", "offices", "CASCADE"),
        flag("is_primary", default=True),
        *recorded(),
    )
    create_recipients()
    create_cycles()


def create_staffs() -> None:
    roles = postgresql.ENUM("employee", "manager", "owner", "app_admin", name="staffrole")
    op.create_table(
        "staffs",
        uuid_key(),
        sa.Column("email", sa.String(255), nullable=False),
        sa.Column("hashed_password", sa.String(255), nullable=False),
        sa.Column("name", sa.String(255), comment="deprecated: see full_name"),
        sa.Column("last_name", sa.String(50)),
        sa.Column("first_name", sa.String(50)),
        sa.Column("last_name_furigana", sa.String(100)),
        sa.Column("first_name_furigana", sa.String(100)),
        sa.Column(
            "full_name", sa.String(255), nullable=False, comment="last name, blank, first name"
        ),
        sa.Column("role", roles, nullable=False),
        flag("is_email_verified"),
        flag("is_mfa_enabled"),
        flag("is_mfa_verified_by_user"),
        sa.Column("mfa_secret", sa.String(255)),
        sa.Column("mfa_backup_codes_used", sa.Integer(), server_default="0", nullable=False),
        moment("password_changed_at"),
        sa.Column("failed_password_attempts", sa.Integer(), server_default="0", nullable=False),
        flag("is_locked"),
        moment("locked_at"),
        sa.Column("hashed_passphrase", sa.String(255)),
        moment("passphrase_changed_at"),
        flag("is_deleted"),
        moment("deleted_at"),
        reference("deleted_by", "staffs", nullable=True),
        *recorded(),
        sa.Column(
            "notification_preferences",
            postgresql.JSONB(),
            server_default=sa.text(f"'{PREFERENCES}'::jsonb"),
            nullable=False,
        ),
    )
    op.create_index("ix_staffs_email", "staffs", ["email"], unique=True)
    op.create_index("ix_staffs_is_deleted", "staffs", ["is_deleted"])


def create_offices() -> None:
    types = postgresql.ENUM(
        "transition_to_employment", "type_B_office", "type_A_office", name="officetype"
    )
    op.create_table(
        "offices",
        uuid_key(),
        sa.Column("name", sa.String(255), nullable=False),
        flag("is_group"),
        sa.Column("type", types, nullable=False),
        sa.Column("address", sa.String(500)),
        sa.Column("phone_number", sa.String(20)),
        sa.Column("email", sa.String(255)),
        reference("created_by", "staffs", "CASCADE"),
        reference("last_modified_by", "staffs", "CASCADE"),
        moment("deactivated_at"),
        *recorded(),
        flag("is_deleted"),
        moment("deleted_at"),
        reference("deleted_by", "staffs", "SET NULL", nullable=True),
    )
    op.create_index("ix_offices_is_deleted", "offices", ["is_deleted"])


def create_recipients() -> None:
    genders = postgresql.ENUM("male", "female", "other", name="gendertype")
    op.create_table(
        "welfare_recipients",
        uuid_key(),
        sa.Column("first_name", sa.String(255), nullable=False),
        sa.Column("last_name", sa.String(255), nullable=False),
        sa.Column("first_name_furigana", sa.String(255), nullable=False),
        sa.Column("last_name_furigana", sa.String(255), nullable=False),
        sa.Column("birth_day", sa.Date(), nullable=False),
        sa.Column("gender", genders, nullable=False),
        *recorded(),
    )
    op.create_table(
        "office_welfare_recipients",
        uuid_key(),
        reference("welfare_recipient_id", "welfare_recipients"),
        reference("office_id", "offices"),
        *recorded(),
    )


def create_cycles() -> None:
    op.create_table(
        "support_plan_cycles",
        sa.Column("id", sa.Integer(), primary_key=True),
        reference("welfare_recipient_id", "welfare_recipients"),
        reference("office_id", "offices", "CASCADE"),
        sa.Column("plan_cycle_start_date", sa.Date()),
        sa.Column("final_plan_signed_date", sa.Date()),
        sa.Column("next_renewal_deadline", sa.Date()),
        flag("is_latest_cycle", default=True),
        sa.Column("cycle_number", sa.Integer(), server_default="1", nullable=False),
        sa.Column(
            "next_plan_start_date",
            sa.Integer(),
            server_default="7",
            comment="days from the deadline to the next plan's start",
        ),
        sa.Column("google_calendar_id", sa.Text()),
        sa.Column("google_event_id", sa.Text()),
        sa.Column("google_event_url", sa.Text()),
        *recorded(),
    )


def downgrade() -> None:
    for table in (
        "support_plan_cycles",
        "office_welfare_recipients",
        "welfare_recipients",
        "office_staffs",
        "offices",
        "staffs",
    ):
        op.drop_table(table)
    for name in ("gendertype", "officetype", "staffrole"):
        postgresql.ENUM(name=name).drop(op.get_bind())

"""The tables of the welfare project, as typed SQLAlchemy models."""

from __future__ import annotations

import enum
import uuid
from datetime import date, datetime
from typing import Annotated, Any

from sqlalchemy import DateTime, Enum, ForeignKey, Index, String, Text, false, func, text, true
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, declared_attr, mapped_column, relationship

DEFAULT_PREFERENCES = (
    '{"in_app_notification": true, "email_notification": true, "system_notification": false, '
    '"email_threshold_days": 30, "push_threshold_days": 10}'
)

UuidKey = Annotated[
    uuid.UUID, mapped_column(primary_key=True, server_default=func.gen_random_uuid())
]
Flag = Annotated[bool, mapped_column(server_default=false())]
Zero = Annotated[int, mapped_column(server_default="0")]
Moment = Annotated[datetime, mapped_column(DateTime(timezone=True))]
Created = Annotated[datetime, mapped_column(DateTime(timezone=True), server_default=func.now())]


class StaffRole(enum.StrEnum):
    """What a member of staff may do."""

    EMPLOYEE = "employee"
    MANAGER = "manager"
    OWNER = "owner"
    APP_ADMIN = "app_admin"


class OfficeType(enum.StrEnum):
    """An office's service under the Services and Supports for Persons with Disabilities Act."""

    TRANSITION_TO_EMPLOYMENT = "transition_to_employment"
    TYPE_B = "type_B_office"
    TYPE_A = "type_A_office"


class Gender(enum.StrEnum):
    """A recipient's gender."""

    MALE = "male"
    FEMALE = "female"
    OTHER = "other"


def _enum(kind: type[enum.StrEnum], name: str) -> Enum:
    """Return a PostgreSQL enum of the members' values, not of their Python names."""
    return Enum(kind, name=name, values_callable=lambda members: [str(each) for each in members])


class Base(DeclarativeBase):
    """The base of every table."""


class Recorded:
    """The columns of every table: when a row was created and changed, and the test-data flag."""

    created_at: Mapped[Created]
    updated_at: Mapped[Created]

    @declared_attr
    @classmethod
    def is_test_data(cls) -> Mapped[bool]:
        """The flag of test data, which may be deleted at any time."""
        return mapped_column(
            server_default=false(),
            index=True,
            comment="true: made for tests, may be deleted at any time",
        )


class OfficeStaff(Recorded, Base):
    """An office that a member of staff works in."""

    __tablename__ = "office_staffs"

    id: Mapped[UuidKey]
    staff_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("staffs.id", ondelete="CASCADE"), index=True
    )
    office_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("offices.id", ondelete="CASCADE"), index=True
    )
    is_primary: Mapped[bool] = mapped_column(server_default=true())


class Staff(Recorded, Base):
    """A member of staff, with a login."""

    __tablename__ = "staffs"

    id: Mapped[UuidKey]
    email: Mapped[str] = mapped_column(String(255), unique=True, index=True)
    hashed_password: Mapped[str] = mapped_column(String(255))
    name: Mapped[str | None] = mapped_column(String(255), comment="deprecated: see full_name")
    last_name: Mapped[str | None] = mapped_column(String(50))
    first_name: Mapped[str | None] = mapped_column(String(50))
    last_name_furigana: Mapped[str | None] = mapped_column(String(100))
    first_name_furigana: Mapped[str | None] = mapped_column(String(100))
    full_name: Mapped[str] = mapped_column(String(255), comment="last name, blank, first name")
    role: Mapped[StaffRole] = mapped_column(_enum(StaffRole, "staffrole"))
    is_email_verified: Mapped[Flag]
    is_mfa_enabled: Mapped[Flag]
    is_mfa_verified_by_user: Mapped[Flag]
    mfa_secret: Mapped[str | None] = mapped_column(String(255))
    mfa_backup_codes_used: Mapped[Zero]
    password_changed_at: Mapped[Moment | None]
    failed_password_attempts: Mapped[Zero]
    is_locked: Mapped[Flag]
    locked_at: Mapped[Moment | None]
    hashed_passphrase: Mapped[str | None] = mapped_column(String(255))
    passphrase_changed_at: Mapped[Moment | None]
    is_deleted: Mapped[bool] = mapped_column(server_default=false(), index=True)
    deleted_at: Mapped[Moment | None]
    deleted_by: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("staffs.id"))
    notification_preferences: Mapped[dict[str, Any]] = mapped_column(
        JSONB, server_default=text(f"'{DEFAULT_PREFERENCES}'::jsonb")
    )

    offices: Mapped[list[Office]] = relationship(
        secondary=OfficeStaff.__table__,
        primaryjoin=lambda: Staff.id == OfficeStaff.staff_id,
        secondaryjoin=lambda: Office.id == OfficeStaff.office_id,
        back_populates="staffs",
    )


class Office(Recorded, Base):
    """An office that helps people with disabilities into employment."""

    __tablename__ = "offices"

    id: Mapped[UuidKey]
    name: Mapped[str] = mapped_column(String(255))
    is_group: Mapped[Flag]
    type: Mapped[OfficeType] = mapped_column(_enum(OfficeType, "officetype"))
    address: Mapped[str | None] = mapped_column(String(500))
    phone_number: Mapped[str | None] = mapped_column(String(20))
    email: Mapped[str | None] = mapped_column(String(255))
    created_by: Mapped[uuid.UUID] = mapped_column(ForeignKey("staffs.id", ondelete="CASCADE"))
    last_modified_by: Mapped[uuid.UUID] = mapped_column(ForeignKey("staffs.id", ondelete="CASCADE"))
    deactivated_at: Mapped[Moment | None]
    is_deleted: Mapped[bool] = mapped_column(server_default=false(), index=True)
    deleted_at: Mapped[Moment | None]
    deleted_by: Mapped[uuid.UUID | None] = mapped_column(
        ForeignKey("staffs.id", ondelete="SET NULL")
    )

    staffs: Mapped[list[Staff]] = relationship(
        secondary=OfficeStaff.__table__,
        primaryjoin=lambda: Office.id == OfficeStaff.office_id,
        secondaryjoin=lambda: Staff.id == OfficeStaff.staff_id,
        back_populates="offices",
    )

    __table_args__ = (Index("ix_offices_name_is_deleted", "name", "is_deleted"),)


class WelfareRecipient(Recorded, Base):
    """A person whom an office supports."""

    __tablename__ = "welfare_recipients"

    id: Mapped[UuidKey]
    first_name: Mapped[str] = mapped_column(String(255))
    last_name: Mapped[str] = mapped_column(String(255))
    first_name_furigana: Mapped[str] = mapped_column(String(255))
    last_name_furigana: Mapped[str] = mapped_column(String(255))
    birth_day: Mapped[date]
    gender: Mapped[Gender] = mapped_column(_enum(Gender, "gendertype"))


Index(
    "ix_welfare_recipients_furigana_trgm",
    (WelfareRecipient.last_name_furigana + WelfareRecipient.first_name_furigana).label("furigana"),
    postgresql_using="gin",
    postgresql_ops={"furigana": "gin_trgm_ops"},
)


class OfficeWelfareRecipient(Recorded, Base):
    """An office that supports a recipient."""

    __tablename__ = "office_welfare_recipients"

    id: Mapped[UuidKey]
    welfare_recipient_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("welfare_recipients.id"), index=True
    )
    office_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("offices.id"), index=True)


class SupportPlanCycle(Recorded, Base):
    """One half-year of a recipient's support plan, up to its renewal."""

    __tablename__ = "support_plan_cycles"

    id: Mapped[int] = mapped_column(primary_key=True)
    welfare_recipient_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("welfare_recipients.id"))
    office_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("offices.id", ondelete="CASCADE"))
    plan_cycle_start_date: Mapped[date | None]
    final_plan_signed_date: Mapped[date | None]
    next_renewal_deadline: Mapped[date | None]
    is_latest_cycle: Mapped[bool] = mapped_column(server_default=true())
    cycle_number: Mapped[int] = mapped_column(server_default="1")
    next_plan_start_date: Mapped[int | None] = mapped_column(
        server_default="7", comment="days from the deadline to the next plan's start"
    )
    google_calendar_id: Mapped[str | None] = mapped_column(Text)
    google_event_id: Mapped[str | None] = mapped_column(Text)
    google_event_url: Mapped[str | None] = mapped_column(Text)

    __table_args__ = (
        Index(
            "ix_support_plan_cycles_recipient_latest",
            "welfare_recipient_id",
            "is_latest_cycle",
            postgresql_where=text("is_latest_cycle"),
        ),
        Index(
            "ix_support_plan_cycles_office_latest_deadline",
            "office_id",
            "is_latest_cycle",
            "next_renewal_deadline",
        ),
    )

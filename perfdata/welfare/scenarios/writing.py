"""Writes: renew a support-plan cycle, withdraw an office."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING

from sqlalchemy import exists, select, update
from sqlalchemy.orm import aliased

from perfdata.welfare.models import Office, OfficeStaff, Staff, SupportPlanCycle
from perfdata.welfare.rows import CYCLE_DAYS

if TYPE_CHECKING:
    import uuid

    from sqlalchemy.orm import Session


@dataclass(frozen=True, slots=True)
class Renewal:
    """A closed cycle and the one that follows it."""

    closed_id: int
    opened_id: int
    cycle_number: int
    deadline: date


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """A soft-deleted office, and how many of its staff were deleted with it."""

    office_id: uuid.UUID
    staff_count: int


def renew_cycle(session: Session, *, cycle_id: int, as_of: date) -> Renewal:
    """Close a recipient's latest cycle and open the next, due half a year after ``as_of``.

    The next cycle is test data if the closed one is. Raises LookupError if the cycle does not exist
    or is not the latest.
    """
    closed = session.scalar(
        select(SupportPlanCycle)
        .where(SupportPlanCycle.id == cycle_id, SupportPlanCycle.is_latest_cycle)
        .with_for_update()
    )
    if closed is None:
        raise LookupError(f"support plan cycle {cycle_id} is not a latest cycle")
    at = datetime.combine(as_of, time(), UTC)
    deadline = as_of + timedelta(days=CYCLE_DAYS)
    opened = SupportPlanCycle(
        welfare_recipient_id=closed.welfare_recipient_id,
        office_id=closed.office_id,
        plan_cycle_start_date=as_of,
        next_renewal_deadline=deadline,
        is_latest_cycle=True,
        cycle_number=closed.cycle_number + 1,
        next_plan_start_date=closed.next_plan_start_date,
        created_at=at,
        updated_at=at,
        is_test_data=closed.is_test_data,
    )
    closed.is_latest_cycle = False
    closed.updated_at = at
    session.add(opened)
    session.flush()
    return Renewal(closed.id, opened.id, opened.cycle_number, deadline)


def withdraw_office(session: Session, *, office_id: uuid.UUID, at: datetime) -> Withdrawal:
    """Soft-delete an office and its staff, except those who also work in another office.

    Raises LookupError if the office does not exist or is already deleted.
    """
    office = session.scalar(
        update(Office)
        .where(Office.id == office_id, Office.is_deleted.is_(False))
        .values(is_deleted=True, deleted_at=at, deactivated_at=at, updated_at=at)
        .returning(Office.id)
    )
    if office is None:
        raise LookupError(f"office {office_id} does not exist or was withdrawn already")
    elsewhere, other = aliased(OfficeStaff), aliased(Office)
    stays = exists().where(
        elsewhere.staff_id == Staff.id, other.id == elsewhere.office_id, other.is_deleted.is_(False)
    )
    members = select(OfficeStaff.staff_id).where(OfficeStaff.office_id == office_id)
    gone = session.scalars(
        update(Staff)
        .where(Staff.id.in_(members), Staff.is_deleted.is_(False), ~stays)
        .values(is_deleted=True, deleted_at=at, updated_at=at)
        .returning(Staff.id)
    )
    return Withdrawal(office_id, len(gone.all()))

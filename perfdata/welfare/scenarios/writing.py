"""What an office's people change: a cycle is renewed, an office withdraws."""

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
    """A cycle that was closed and the one that follows it."""

    closed_id: int
    opened_id: int
    cycle_number: int
    deadline: date


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """An office that was soft-deleted, and how many of its staff with it."""

    office_id: uuid.UUID
    staff_count: int


def renew_cycle(session: Session, *, cycle_id: int, as_of: date) -> Renewal:
    """Close a recipient's latest cycle and open the next, due half a year after ``as_of``.

    The next cycle is test data when the closed one is. Raises LookupError where the cycle is not
    there or is not the latest.
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
    """Soft-delete an office and its staff, but those who work in another office too.

    Raises LookupError where the office is not there or is deleted already.
    """
    office = session.scalar(
        update(Office)
        .where(Office.id == office_id, Office.is_deleted.is_(False))
        .values(is_deleted=True, deleted_at=at, deactivated_at=at, updated_at=at)
        .returning(Office.id)
    )
    if office is None:
        raise LookupError(f"office {office_id} is not there, or was withdrawn already")
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

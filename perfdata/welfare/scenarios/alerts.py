"""Deadline alerts: the mails to send about support plans that are due for renewal."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING, NamedTuple, cast

from sqlalchemy import ColumnElement, and_, func, select

from perfdata.welfare.models import (
    Office,
    OfficeStaff,
    OfficeWelfareRecipient,
    Staff,
    SupportPlanCycle,
    WelfareRecipient,
)

if TYPE_CHECKING:
    import uuid
    from collections.abc import Mapping, Sequence

    from sqlalchemy.orm import Session

_DEFAULT_THRESHOLD_DAYS = 30


class DueRecipient(NamedTuple):
    """A recipient whose plan is due; shared by the mails of an office."""

    recipient_id: uuid.UUID
    name: str
    deadline: date
    days_left: int


@dataclass(frozen=True, slots=True)
class Mail:
    """One mail: an office's plans that are due within one member of staff's threshold."""

    to: str
    staff_name: str
    office_id: uuid.UUID
    office_name: str
    threshold_days: int
    recipients: Sequence[DueRecipient]


class _Reader(NamedTuple):
    office_id: uuid.UUID
    email: str
    name: str
    threshold_days: int


def deadline_alerts(session: Session, *, as_of: date) -> list[Mail]:
    """Return the mails of a day, sorted by office and address; none without a plan that is due.

    A plan is due if its latest cycle's deadline is between ``as_of`` and the reader's threshold,
    both days included; overdue plans are left to the overdue report. Mails go to staff who want
    e-mail and are neither deleted nor locked, in offices that are neither deleted nor deactivated.
    Runs four queries for any number of offices, and loads columns instead of entities.
    """
    offices = _active_offices(session)
    readers = _readers(session)
    horizon = max((reader.threshold_days for reader in readers), default=0)
    due = _due_by_office(session, as_of, horizon)
    mails = []
    for reader in readers:
        recipients = due.get(reader.office_id, [])
        within = bisect_right(recipients, reader.threshold_days, key=lambda each: each.days_left)
        if within:
            mails.append(
                Mail(
                    to=reader.email,
                    staff_name=reader.name,
                    office_id=reader.office_id,
                    office_name=offices[reader.office_id],
                    threshold_days=reader.threshold_days,
                    recipients=recipients[:within],
                )
            )
    return mails


def _is_active() -> ColumnElement[bool]:
    return and_(Office.is_deleted.is_(False), Office.deactivated_at.is_(None))


def _active_offices(session: Session) -> dict[uuid.UUID, str]:
    rows = session.execute(select(Office.id, Office.name).where(_is_active()))
    return {row.id: row.name for row in rows}


def _readers(session: Session) -> list[_Reader]:
    wants = Staff.notification_preferences["email_notification"].as_boolean()
    threshold = Staff.notification_preferences["email_threshold_days"].as_integer()
    rows = session.execute(
        select(
            OfficeStaff.office_id,
            Staff.email,
            Staff.full_name,
            func.coalesce(threshold, _DEFAULT_THRESHOLD_DAYS),
        )
        .join(Staff, Staff.id == OfficeStaff.staff_id)
        .join(Office, Office.id == OfficeStaff.office_id)
        .where(
            _is_active(),
            Staff.is_deleted.is_(False),
            Staff.is_locked.is_(False),
            func.coalesce(wants, True),
        )
        .order_by(OfficeStaff.office_id, Staff.email)
    )
    return [_Reader(*row) for row in rows]


def _due_by_office(
    session: Session, as_of: date, horizon_days: int
) -> Mapping[uuid.UUID, list[DueRecipient]]:
    """Return the due recipients of each office, earliest deadline first."""
    is_due = and_(
        SupportPlanCycle.is_latest_cycle,
        SupportPlanCycle.next_renewal_deadline.between(as_of, as_of + timedelta(days=horizon_days)),
    )
    due_ids = select(SupportPlanCycle.welfare_recipient_id).where(is_due)
    names = {
        row.id: f"{row.last_name} {row.first_name}"
        for row in session.execute(
            select(
                WelfareRecipient.id, WelfareRecipient.last_name, WelfareRecipient.first_name
            ).where(WelfareRecipient.id.in_(due_ids))
        )
    }
    rows = session.execute(
        select(
            SupportPlanCycle.office_id,
            SupportPlanCycle.welfare_recipient_id,
            SupportPlanCycle.next_renewal_deadline,
        )
        .join(
            OfficeWelfareRecipient,
            and_(
                OfficeWelfareRecipient.welfare_recipient_id
                == SupportPlanCycle.welfare_recipient_id,
                OfficeWelfareRecipient.office_id == SupportPlanCycle.office_id,
            ),
        )
        .join(Office, Office.id == SupportPlanCycle.office_id)
        .where(is_due, _is_active())
        .order_by(SupportPlanCycle.next_renewal_deadline, SupportPlanCycle.id)
    )
    due = defaultdict(list)
    for office_id, recipient_id, found in rows:
        deadline = cast("date", found)  # BETWEEN lets no null through
        left = (deadline - as_of).days
        due[office_id].append(DueRecipient(recipient_id, names[recipient_id], deadline, left))
    return due

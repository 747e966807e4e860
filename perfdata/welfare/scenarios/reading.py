"""Reads: the dashboard, the search, the overdue report, the staff directory."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import Date, DateTime, and_, cast, func, or_, select
from sqlalchemy.orm import load_only, selectinload

from perfdata.welfare.models import (
    Office,
    OfficeWelfareRecipient,
    Staff,
    SupportPlanCycle,
    WelfareRecipient,
)

if TYPE_CHECKING:
    import uuid

    from sqlalchemy import ColumnElement, Select
    from sqlalchemy.orm import Session

# Hiragana to katakana, as readings are stored: the 86 letters ぁ–ゖ move by 96 code points.
_TO_KATAKANA = {letter: letter + 0x60 for letter in range(0x3041, 0x3097)}


class DashboardSort(enum.StrEnum):
    """The sort order of a dashboard."""

    DEADLINE = "deadline"
    NAME = "name"


@dataclass(frozen=True, slots=True)
class DashboardRow:
    """A recipient with the latest cycle; its fields are None for a recipient without a cycle.

    ``days_left`` is negative if the deadline has passed.
    """

    recipient_id: uuid.UUID
    name: str
    furigana: str
    cycle_number: int | None
    deadline: date | None
    days_left: int | None


@dataclass(frozen=True, slots=True)
class DashboardPage:
    """One page of an office's recipients, and the total number of recipients."""

    rows: list[DashboardRow]
    total: int
    page: int
    page_size: int


@dataclass(frozen=True, slots=True)
class FoundRecipient:
    """A recipient found by a search."""

    recipient_id: uuid.UUID
    name: str
    furigana: str
    birth_day: date


@dataclass(frozen=True, slots=True)
class OverdueCount:
    """Counts of one office's cycles whose deadline was in one month and has passed.

    ``due`` counts all of them, ``overdue`` those that were not renewed. ``month`` is the month's
    first day.
    """

    office_id: uuid.UUID
    office_name: str
    month: date
    due: int
    overdue: int


@dataclass(frozen=True, slots=True)
class StaffEntry:
    """A member of staff with the sorted names of the offices."""

    staff_id: uuid.UUID
    name: str
    email: str
    role: str
    offices: tuple[str, ...]


def office_dashboard(
    session: Session,
    *,
    office_id: uuid.UUID,
    as_of: date,
    search: str | None = None,
    due_within_days: int | None = None,
    sort: str = "deadline",
    page: int = 1,
    page_size: int = 20,
) -> DashboardPage:
    """Return one office's recipients with their latest cycle and the days left, in two queries.

    ``search`` matches names and readings; ``due_within_days`` keeps those due from ``as_of`` to so
    many days later. ``page`` counts from 1. Raises ValueError for an unknown sort.
    """
    matching = _office_recipients(office_id)
    if search:
        matching = matching.where(or_(_name().contains(search, autoescape=True), _reads(search)))
    if due_within_days is not None:
        last = as_of + timedelta(days=due_within_days)
        matching = matching.where(SupportPlanCycle.next_renewal_deadline.between(as_of, last))
    by_name = (WelfareRecipient.last_name_furigana, WelfareRecipient.first_name_furigana)
    by_deadline = SupportPlanCycle.next_renewal_deadline.asc().nulls_last()
    first = by_name if DashboardSort(sort) is DashboardSort.NAME else (by_deadline, *by_name)
    total = session.scalar(matching.with_only_columns(func.count()))
    rows = session.execute(
        matching.order_by(*first, WelfareRecipient.id)
        .limit(page_size)
        .offset((page - 1) * page_size)
    )
    return DashboardPage(
        rows=[
            DashboardRow(
                *(key, name, furigana, number, deadline),
                days_left=None if deadline is None else (deadline - as_of).days,
            )
            for key, name, furigana, number, deadline in rows
        ],
        total=total or 0,
        page=page,
        page_size=page_size,
    )


def search_recipients(session: Session, *, kana: str, limit: int = 50) -> list[FoundRecipient]:
    """Return the recipients whose reading contains ``kana``, sorted by reading.

    Hiragana matches katakana; spaces are ignored.
    """
    rows = session.execute(
        select(WelfareRecipient.id, _full_name(), _full_furigana(), WelfareRecipient.birth_day)
        .where(_reads(kana))
        .order_by(
            WelfareRecipient.last_name_furigana,
            WelfareRecipient.first_name_furigana,
            WelfareRecipient.id,
        )
        .limit(limit)
    )
    return [FoundRecipient(*row) for row in rows]


def overdue_report(session: Session, *, as_of: date) -> list[OverdueCount]:
    """Count past deadlines by office and month, over all cycles, in one query."""
    deadline = SupportPlanCycle.next_renewal_deadline
    month = cast(func.date_trunc("month", cast(deadline, DateTime)), Date)
    rows = session.execute(
        select(
            Office.id,
            Office.name,
            month,
            func.count(),
            func.count().filter(SupportPlanCycle.is_latest_cycle),
        )
        .join(SupportPlanCycle, SupportPlanCycle.office_id == Office.id)
        .where(Office.is_deleted.is_(False), deadline < as_of)
        .group_by(Office.id, Office.name, month)
        .order_by(Office.name, Office.id, month)
    )
    return [OverdueCount(*row) for row in rows]


def staff_directory(
    session: Session, *, search: str | None = None, page: int = 1, page_size: int = 50
) -> list[StaffEntry]:
    """Return one page of the staff with their offices, sorted by reading, in two queries.

    Deleted staff and offices are left out. ``search`` matches names.
    """
    staffs = (
        select(Staff)
        .where(Staff.is_deleted.is_(False))
        .options(
            load_only(Staff.full_name, Staff.email, Staff.role),
            selectinload(Staff.offices.and_(Office.is_deleted.is_(False))).load_only(Office.name),
        )
        .order_by(Staff.last_name_furigana, Staff.first_name_furigana, Staff.id)
        .limit(page_size)
        .offset((page - 1) * page_size)
    )
    if search:
        staffs = staffs.where(Staff.full_name.contains(search, autoescape=True))
    return [
        StaffEntry(
            staff_id=staff.id,
            name=staff.full_name,
            email=staff.email,
            role=staff.role,
            offices=tuple(sorted(office.name for office in staff.offices)),
        )
        for staff in session.scalars(staffs)
    ]


def _office_recipients(office_id: uuid.UUID) -> Select[*tuple[Any, ...]]:
    latest = and_(
        SupportPlanCycle.welfare_recipient_id == WelfareRecipient.id,
        SupportPlanCycle.office_id == office_id,
        SupportPlanCycle.is_latest_cycle,
    )
    return (
        select(
            WelfareRecipient.id,
            _full_name(),
            _full_furigana(),
            SupportPlanCycle.cycle_number,
            SupportPlanCycle.next_renewal_deadline.label("deadline"),
        )
        .select_from(OfficeWelfareRecipient)
        .join(WelfareRecipient, WelfareRecipient.id == OfficeWelfareRecipient.welfare_recipient_id)
        .outerjoin(SupportPlanCycle, latest)
        .where(OfficeWelfareRecipient.office_id == office_id)
    )


def _name() -> ColumnElement[str]:
    return WelfareRecipient.last_name + WelfareRecipient.first_name


def _full_name() -> ColumnElement[str]:
    return WelfareRecipient.last_name + " " + WelfareRecipient.first_name


def _full_furigana() -> ColumnElement[str]:
    return WelfareRecipient.last_name_furigana + " " + WelfareRecipient.first_name_furigana


def _reads(kana: str) -> ColumnElement[bool]:
    """Match readings with the expression of the trigram index, so that PostgreSQL uses it."""
    wanted = "".join(kana.split()).translate(_TO_KATAKANA)
    reading = WelfareRecipient.last_name_furigana + WelfareRecipient.first_name_furigana
    return reading.contains(wanted, autoescape=True)

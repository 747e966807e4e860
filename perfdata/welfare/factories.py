"""Factories: rows for one test, generated like a dataset's and added to the existing rows.

Each call uses a random seed, so its rows never collide with those of another call or of a dataset.
Pass ``seed`` to get the same rows each time; using a seed twice in one database violates its unique
keys (LoadError). Dates depend on ``as_of``. Every row is flagged as test data.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Protocol
from uuid import UUID

from perfdata.dataset import TableRows
from perfdata.errors import ConfigError
from perfdata.welfare import rows, staff_rows
from perfdata.welfare.copytext import read_rows
from perfdata.welfare.datasets import AS_OF
from perfdata.welfare.rows import Origin
from perfdata.welfare.tables import blocks

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


class OfficeLike(Protocol):
    """What the factories need of an office: a CreatedOffice or an ORM instance has it."""

    @property
    def id(self) -> UUID:
        """The office's primary key."""

    @property
    def created_by(self) -> UUID:
        """The member of staff who created the office, and who deletes its staff."""

    @property
    def is_deleted(self) -> bool:
        """Whether the office is soft-deleted, and its staff with it."""


class RecipientLike(Protocol):
    """What the factories need of a recipient: a CreatedRecipient or an ORM instance has it."""

    @property
    def id(self) -> UUID:
        """The recipient's primary key."""


@dataclass(frozen=True, slots=True)
class CreatedOffice:
    """A created office."""

    id: UUID
    name: str
    type: str
    created_by: UUID
    is_deleted: bool


@dataclass(frozen=True, slots=True)
class CreatedStaff:
    """A created member of an office's staff."""

    id: UUID
    office_id: UUID
    email: str
    full_name: str
    role: str
    is_deleted: bool


@dataclass(frozen=True, slots=True)
class CreatedRecipient:
    """A created welfare recipient of an office."""

    id: UUID
    office_id: UUID
    last_name: str
    first_name: str
    last_name_furigana: str
    first_name_furigana: str
    birth_day: date


@dataclass(frozen=True, slots=True)
class CreatedCycle:
    """A created support-plan cycle, without its id, which the database assigns."""

    welfare_recipient_id: UUID
    office_id: UUID
    cycle_number: int
    next_renewal_deadline: date
    is_latest_cycle: bool


def bulk_create_offices(
    database: object,
    count: int,
    batch_size: int = 500,
    *,
    as_of: date = AS_OF,
    seed: int | None = None,
) -> list[CreatedOffice]:
    """Create a system administrator and ``count`` offices, ``batch_size`` offices per COPY block.

    3 % of the offices are soft-deleted, as in a dataset.
    """
    _check(count=count, batch_size=batch_size)
    origin = _origin(seed, as_of)
    administrator = [staff_rows.administrator_line(origin)]
    lines = (rows.office_lines(origin, number) for number in range(count))
    offices = _table("offices", rows.OFFICES, lines, batch_size)
    _append(database, _table("staffs", staff_rows.STAFFS, [administrator]), offices)
    return [
        CreatedOffice(
            id=UUID(row["id"]),
            name=row["name"],
            type=row["type"],
            created_by=UUID(row["created_by"]),
            is_deleted=row["is_deleted"] == "t",
        )
        for row in _values(offices)
    ]


def bulk_create_staffs(
    database: object,
    offices: Sequence[OfficeLike],
    count_per_office: int,
    *,
    as_of: date = AS_OF,
    seed: int | None = None,
) -> dict[UUID, list[CreatedStaff]]:
    """Create staff for each office and return ``{office_id: [staff, …]}``."""
    _check(count_per_office=count_per_office)
    origin = _origin(seed, as_of)
    lines = (
        staff_rows.staff_lines(
            origin,
            number,
            count_per_office,
            withdrawn=office.is_deleted,
            administrator=str(office.created_by),
        )
        for number, office in enumerate(offices)
    )
    links = (
        staff_rows.office_staff_lines(
            origin, number, str(office.id), staff_rows.staff_ids(origin, number, count_per_office)
        )
        for number, office in enumerate(offices)
    )
    staffs = _table("staffs", staff_rows.STAFFS, lines)
    memberships = _table("office_staffs", staff_rows.OFFICE_STAFFS, links)
    _append(database, staffs, memberships)
    created: dict[UUID, list[CreatedStaff]] = {office.id: [] for office in offices}
    for row, link in zip(_values(staffs), _values(memberships), strict=True):
        office_id = UUID(link["office_id"])
        created[office_id].append(
            CreatedStaff(
                id=UUID(row["id"]),
                office_id=office_id,
                email=row["email"],
                full_name=row["full_name"],
                role=row["role"],
                is_deleted=row["is_deleted"] == "t",
            )
        )
    return created


def bulk_create_welfare_recipients(
    database: object,
    offices: Sequence[OfficeLike],
    count_per_office: int,
    *,
    as_of: date = AS_OF,
    seed: int | None = None,
) -> dict[UUID, list[CreatedRecipient]]:
    """Create welfare recipients for each office and return ``{office_id: [recipient, …]}``."""
    _check(count_per_office=count_per_office)
    origin = _origin(seed, as_of)
    lines = (
        rows.recipient_lines(origin, number, count_per_office) for number in range(len(offices))
    )
    links = (
        rows.office_recipient_lines(
            origin, number, str(office.id), rows.recipient_ids(origin, number, count_per_office)
        )
        for number, office in enumerate(offices)
    )
    recipients = _table("welfare_recipients", rows.WELFARE_RECIPIENTS, lines)
    memberships = _table("office_welfare_recipients", rows.OFFICE_WELFARE_RECIPIENTS, links)
    _append(database, recipients, memberships)
    created: dict[UUID, list[CreatedRecipient]] = {office.id: [] for office in offices}
    for row, link in zip(_values(recipients), _values(memberships), strict=True):
        office_id = UUID(link["office_id"])
        created[office_id].append(
            CreatedRecipient(
                id=UUID(row["id"]),
                office_id=office_id,
                last_name=row["last_name"],
                first_name=row["first_name"],
                last_name_furigana=row["last_name_furigana"],
                first_name_furigana=row["first_name_furigana"],
                birth_day=date.fromisoformat(row["birth_day"]),
            )
        )
    return created


def bulk_create_support_plan_cycles(
    database: object,
    recipients_by_office: Mapping[UUID, Sequence[RecipientLike]],
    *,
    cycles_per_recipient: int = 1,
    as_of: date = AS_OF,
    seed: int | None = None,
) -> dict[UUID, list[CreatedCycle]]:
    """Create support-plan cycles, oldest first, and return ``{office_id: [cycle, …]}``.

    The last cycle of each recipient is the latest one.
    """
    _check(cycles_per_recipient=cycles_per_recipient)
    origin = _origin(seed, as_of)
    lines = (
        rows.cycle_lines(
            origin,
            number,
            str(office_id),
            [str(recipient.id) for recipient in recipients],
            cycles_per_recipient,
        )
        for number, (office_id, recipients) in enumerate(recipients_by_office.items())
    )
    cycles = _table("support_plan_cycles", rows.SUPPORT_PLAN_CYCLES, lines)
    _append(database, cycles)
    created: dict[UUID, list[CreatedCycle]] = {office_id: [] for office_id in recipients_by_office}
    for row in _values(cycles):
        office_id = UUID(row["office_id"])
        created[office_id].append(
            CreatedCycle(
                welfare_recipient_id=UUID(row["welfare_recipient_id"]),
                office_id=office_id,
                cycle_number=int(row["cycle_number"]),
                next_renewal_deadline=date.fromisoformat(row["next_renewal_deadline"]),
                is_latest_cycle=row["is_latest_cycle"] == "t",
            )
        )
    return created


def _origin(seed: int | None, as_of: date) -> Origin:
    return Origin(secrets.randbits(64) if seed is None else seed, as_of)


def _check(**counts: int) -> None:
    for name, count in counts.items():
        minimum = 0 if name.startswith("count") else 1
        if count < minimum:
            raise ConfigError(f"{name} must be at least {minimum}, not {count}")


def _table(
    name: str, columns: tuple[str, ...], lines: Iterable[list[str]], batch_size: int = 1000
) -> TableRows:
    """Generate rows and keep them: they are loaded, then read back for the caller."""
    return TableRows(name, columns, tuple(blocks(iter(lines), batch_size)))


def _append(database: object, *tables: TableRows) -> None:
    from perfdata.load.rows.append import append_rows

    append_rows(database, tables)


def _values(table: TableRows) -> list[dict[str, str]]:
    """Return a table's rows without their nulls."""
    return [
        {column: value for column, value in row.items() if value is not None}
        for row in read_rows(table)
    ]

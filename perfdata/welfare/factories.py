"""Factories: rows for one test, generated like a dataset's and added to the existing rows.

Each call uses a random seed, so its rows never collide with those of another call or of a dataset.
Pass ``seed`` to get the same rows each time; using a seed twice in one database violates its unique
keys (LoadError). Dates depend on ``as_of``. Every row is flagged as test data.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID

from perfdata import generate as g
from perfdata.dataset import Dataset, TableRows
from perfdata.errors import ConfigError
from perfdata.welfare import rows, staffs
from perfdata.welfare.datasets import AS_OF

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import date

    from perfdata.generate import GeneratedTable


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
    dataset = _dataset(seed, as_of)
    offices = rows.offices(dataset, count)
    batches = TableRows("offices", offices.columns, _batches(offices, batch_size))
    _append(database, staffs.administrator(dataset), batches)
    return [
        CreatedOffice(
            id=UUID(row["id"]),
            name=row["name"],
            type=row["type"],
            created_by=UUID(row["created_by"]),
            is_deleted=row["is_deleted"],
        )
        for row in offices.records()
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
    dataset = _dataset(seed, as_of)
    parents = _given(
        dataset,
        [str(office.id) for office in offices],
        created_by=g.listed([str(office.created_by) for office in offices]),
        is_deleted=g.listed([office.is_deleted for office in offices]),
    )
    staff = staffs.staffs(dataset, g.per(parents, count_per_office))
    memberships = staffs.office_staffs(dataset, staff)
    _append(database, staff, memberships)
    created: dict[UUID, list[CreatedStaff]] = {office.id: [] for office in offices}
    for row, link in zip(staff.records(), memberships.records(), strict=True):
        office_id = UUID(link["office_id"])
        created[office_id].append(
            CreatedStaff(
                id=UUID(row["id"]),
                office_id=office_id,
                email=row["email"],
                full_name=row["full_name"],
                role=row["role"],
                is_deleted=row["is_deleted"],
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
    dataset = _dataset(seed, as_of)
    parents = _given(dataset, [str(office.id) for office in offices])
    recipients = rows.recipients(dataset, g.per(parents, count_per_office))
    memberships = rows.office_recipients(dataset, recipients)
    _append(database, recipients, memberships)
    created: dict[UUID, list[CreatedRecipient]] = {office.id: [] for office in offices}
    for row, link in zip(recipients.records(), memberships.records(), strict=True):
        office_id = UUID(link["office_id"])
        created[office_id].append(
            CreatedRecipient(
                id=UUID(row["id"]),
                office_id=office_id,
                last_name=row["last_name"],
                first_name=row["first_name"],
                last_name_furigana=row["last_name_furigana"],
                first_name_furigana=row["first_name_furigana"],
                birth_day=row["birth_day"],
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
    dataset = _dataset(seed, as_of)
    given = [
        (str(recipient.id), str(office_id), number)
        for number, (office_id, recipients) in enumerate(recipients_by_office.items())
        for recipient in recipients
    ]
    parents = g.table(
        dataset,
        "welfare_recipients",
        len(given),
        id=g.listed(recipient for recipient, _, _ in given),
        _office=g.listed(office for _, office, _ in given),
        _number=g.listed(number for _, _, number in given),
        _deadline=g.date(*rows.DEADLINES),
    )
    cycles = rows.cycles(dataset, g.per(parents, cycles_per_recipient))
    _append(database, cycles)
    created: dict[UUID, list[CreatedCycle]] = {office_id: [] for office_id in recipients_by_office}
    for row in cycles.records():
        office_id = UUID(row["office_id"])
        created[office_id].append(
            CreatedCycle(
                welfare_recipient_id=UUID(row["welfare_recipient_id"]),
                office_id=office_id,
                cycle_number=row["cycle_number"],
                next_renewal_deadline=row["next_renewal_deadline"],
                is_latest_cycle=row["is_latest_cycle"],
            )
        )
    return created


def _dataset(seed: int | None, as_of: date) -> Dataset:
    chosen = secrets.randbits(64) if seed is None else seed
    return Dataset(name="factories", generate=rows.generate, as_of=as_of, seed=chosen)


def _check(**counts: int) -> None:
    for name, count in counts.items():
        minimum = 0 if name.startswith("count") else 1
        if count < minimum:
            raise ConfigError(f"{name} must be at least {minimum}, not {count}")


def _given(dataset: Dataset, ids: Sequence[str], **columns: Any) -> GeneratedTable:
    """Return offices that exist, as parents of rows."""
    return g.table(dataset, "offices", len(ids), id=g.listed(ids), _number=g.serial(0), **columns)


def _batches(table: GeneratedTable, size: int) -> Iterator[bytes]:
    """Yield a table's rows in blocks of ``size`` lines."""
    lines = chain.from_iterable(map(table.blocks.lines, range(table.blocks.block_count)))
    while batch := list(islice(lines, size)):
        yield ("\n".join(batch) + "\n").encode()


def _append(database: object, *tables: TableRows) -> None:
    from perfdata.load.rows.append import append_rows

    append_rows(database, tables)

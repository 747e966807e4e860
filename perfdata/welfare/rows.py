"""The rows of offices, of the recipients whom they support, and of their support plans.

Every table's rows belong to those of another: recipients to an office, cycles to a recipient. So
the smaller of two datasets is the beginning of the larger. Datasets and factories both take their
rows from here.
"""

from __future__ import annotations

from datetime import timedelta
from math import lcm
from typing import TYPE_CHECKING

from perfdata import generate as g
from perfdata.welfare import staffs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from perfdata.dataset import Dataset
    from perfdata.generate import GeneratedColumn, GeneratedTable, Per

CYCLE_DAYS = 180
"""A support plan is renewed every half year."""

# Of 64 offices, one is deactivated, two are deleted too.
_STATES = {"active": 61, "deactivated": 1, "deleted": 2}
_KINDS = {
    ("transition_to_employment", "就労移行支援センター"): 1,
    ("type_A_office", "就労継続支援A型事業所"): 1,
    ("type_B_office", "就労継続支援B型事業所"): 2,
}
_GENDERS = {"male": 140, "female": 112, "other": 4}
DEADLINES = (-40, 175)
"""The latest deadlines, in days after as_of: 18 % are overdue and 14 % due within 30 days."""


def generate(dataset: Dataset) -> Iterator[GeneratedTable]:
    """Yield the rows of a dataset: what ``Dataset.generate`` is."""
    yield from tables(dataset)


def tables(dataset: Dataset) -> list[GeneratedTable]:
    """Return the tables of a dataset; the first is the administrator, the second other staff."""
    wanted = dataset.parameters
    skew = wanted.get("zipf_tenths", 0) / 10 or None
    office = offices(dataset, wanted["offices"])
    staff = staffs.staffs(dataset, g.per(office, wanted["staff_per_office"], zipf=skew))
    recipient = recipients(dataset, g.per(office, wanted["recipients_per_office"], zipf=skew))
    fewest = wanted["cycles_per_recipient"]
    cycle_rows = g.per(recipient, fewest, wanted.get("most_cycles_per_recipient", fewest))
    return [
        staffs.administrator(dataset),
        staff,
        office,
        staffs.office_staffs(dataset, staff),
        recipient,
        office_recipients(dataset, recipient),
        cycles(dataset, cycle_rows, id=g.serial()),
    ]


def offices(dataset: Dataset, count: int) -> GeneratedTable:
    """Return offices, which the administrator created; 3 % are soft-deleted."""
    kind, administrator = g.choice(_KINDS), staffs.administrator_id(dataset)
    end = g.timestamp(-12, -1)
    return g.table(
        dataset,
        "offices",
        count,
        id=g.uuid(),
        name=g.text("{_town}{_kind}"),
        is_group=g.boolean(0.1),
        type=kind[0],
        address=g.text("{_prefecture}{_city}{_town}{_block}丁目{_house}番{_part}号"),
        phone_number=lambda _number: f"00-{1000 + _number // 10_000}-{_number % 10_000:04}",
        email=g.text(f"info@office{{_number}}.{staffs.domain(dataset)}"),
        created_by=administrator,
        last_modified_by=administrator,
        deactivated_at=g.where(lambda _state: _state != "active", end),
        is_deleted=lambda _state: _state == "deleted",
        deleted_at=g.where("is_deleted", end),
        deleted_by=g.where("is_deleted", administrator),
        created_at=g.timestamp(-2255, -2000),
        updated_at=lambda deactivated_at, _edited: deactivated_at or _edited,
        is_test_data=True,
        _number=g.serial(0),
        _kind=kind[1],
        _prefecture=g.faker("ja_JP.prefecture"),
        _city=g.faker("ja_JP.city"),
        _town=g.faker("ja_JP.town"),
        _block=g.integer(1, 9),
        _house=g.integer(1, 30),
        _part=g.integer(1, 20),
        _state=g.choice(_STATES),
        _edited=g.timestamp(-275, -20),
    )


def recipients(dataset: Dataset, rows: Per) -> GeneratedTable:
    """Return welfare recipients, aged 19 to 65; ``rows`` is per offices."""
    family, person = g.faker("ja_JP.last_name_pair"), _people()
    return g.table(
        dataset,
        "welfare_recipients",
        rows,
        id=g.uuid(),
        first_name=person[1],
        last_name=family[0],
        first_name_furigana=person[2],
        last_name_furigana=family[1],
        birth_day=g.date(-23_700, -7_000),
        gender=person[0],
        created_at=g.timestamp(-1900, -1300),
        updated_at=g.timestamp(-256, -1),
        is_test_data=True,
        _office=g.parent(),
        _number=g.parent("_number"),
        _deadline=g.date(*DEADLINES),
    )


def office_recipients(dataset: Dataset, recipient: GeneratedTable) -> GeneratedTable:
    """Return the rows that put welfare recipients into their offices."""
    joined = g.timestamp(-1290, -1150)
    return g.table(
        dataset,
        "office_welfare_recipients",
        g.per(recipient, 1),
        id=g.uuid(),
        welfare_recipient_id=g.parent(),
        office_id=g.parent("_office"),
        created_at=joined,
        updated_at=joined,
        is_test_data=True,
    )


def cycles(dataset: Dataset, rows: Per, **more: GeneratedColumn) -> GeneratedTable:
    """Return the support-plan cycles of recipients, oldest first; ``rows`` is per recipients.

    Only the last of a recipient's cycles is the latest; each earlier one ended as the next began.
    ``more`` are other columns: an ``id``, where the sequence shall not give it.
    """
    today, cycle = dataset.as_of, timedelta(days=CYCLE_DAYS)
    calendar = f"calendar.{staffs.domain(dataset)}"
    signed = g.date(14 - CYCLE_DAYS, 53 - CYCLE_DAYS, after="next_renewal_deadline")
    # Where there is one cycle, as in most datasets, there is none before the last.
    last = g.parent("_deadline")
    deadline = last if rows.high == 1 else lambda _last, _later: _last - cycle * _later
    return g.table(
        dataset,
        "support_plan_cycles",
        rows,
        **more,
        welfare_recipient_id=g.parent(),
        office_id=g.parent("_office"),
        plan_cycle_start_date=g.date(-CYCLE_DAYS, -CYCLE_DAYS, after="next_renewal_deadline"),
        final_plan_signed_date=g.where(lambda _signed: _signed <= today, signed),
        next_renewal_deadline=deadline,
        is_latest_cycle=g.is_last(),
        cycle_number=g.position(),
        next_plan_start_date=7,
        google_calendar_id=g.where("_synced", lambda _number: f"office{_number}@{calendar}"),
        google_event_id=g.where(
            "_synced",
            lambda welfare_recipient_id, cycle_number: (
                f"{welfare_recipient_id.replace('-', '')}{cycle_number}"
            ),
        ),
        google_event_url=g.where(
            "_synced",
            lambda google_event_id: f"https://calendar.example/event?eid={google_event_id}",
        ),
        created_at=g.timestamp(-CYCLE_DAYS, -CYCLE_DAYS, after="next_renewal_deadline"),
        updated_at=g.timestamp(0, 0, after="_recorded"),
        is_test_data=True,
        _last=last,
        _number=g.parent("_number"),
        _cycles=g.size(),
        _later=lambda cycle_number, _cycles: _cycles - cycle_number,
        _signed=signed,
        _recorded=lambda _signed: min(_signed, today),
        _synced=g.boolean(0.125),
    )


def _people() -> g.Choice:
    """Return a column of tuples: gender, a first name that goes with it, and its kana."""
    male = g.faker("ja_JP.first_name_male_pair").pool
    female = g.faker("ja_JP.first_name_female_pair").pool
    names = {"male": male, "female": female, "other": [*male, *female]}
    unit = lcm(*map(len, names.values()))
    return g.choice(
        {
            (gender, *name): share * unit // len(names[gender])
            for gender, share in _GENDERS.items()
            for name in names[gender]
        }
    )

"""The rows of one office, table by table, as lines of COPY text.

Every value comes from the seed, the table and the office's number (draw.stream) and hangs on
``as_of``: the rows of any office can be made alone, on any machine, on any day. Datasets and
factories both take their rows from here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from perfdata.welfare.copytext import NULL
from perfdata.welfare.draw import birthdays, columns, days, times, uuids
from perfdata.welfare.pools import load_pools

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

OFFICES = (
    *("id", "name", "is_group", "type", "address", "phone_number", "email", "created_by"),
    *("last_modified_by", "deactivated_at", "is_deleted", "deleted_at", "deleted_by"),
    *("created_at", "updated_at", "is_test_data"),
)
WELFARE_RECIPIENTS = (
    *("id", "first_name", "last_name", "first_name_furigana", "last_name_furigana", "birth_day"),
    *("gender", "created_at", "updated_at", "is_test_data"),
)
OFFICE_WELFARE_RECIPIENTS = (
    *("id", "welfare_recipient_id", "office_id", "created_at", "updated_at", "is_test_data"),
)
# Without the id: a dataset numbers its cycles from 1, a factory leaves that to the sequence.
SUPPORT_PLAN_CYCLES = (
    *("welfare_recipient_id", "office_id", "plan_cycle_start_date"),
    *("final_plan_signed_date", "next_renewal_deadline", "is_latest_cycle", "cycle_number"),
    *("next_plan_start_date", "google_calendar_id", "google_event_id", "google_event_url"),
    *("created_at", "updated_at", "is_test_data"),
)

CYCLE_DAYS = 180
"""A support plan is renewed every half year."""

_TYPES = ("transition_to_employment", "type_B_office", "type_B_office", "type_A_office")
_KINDS = {
    "transition_to_employment": "就労移行支援センター",
    "type_A_office": "就労継続支援A型事業所",
    "type_B_office": "就労継続支援B型事業所",
}
# The latest deadlines lie from 40 days before as_of to 175 days after it: 18 % are overdue and
# 14 % due within 30 days.
_DEADLINES = tuple(slot * 216 // 256 - 40 for slot in range(256))
_DELETED_BELOW, _DEACTIVATED_BELOW, _IN_CALENDAR_BELOW = 8, 12, 32
_NO_GOOGLE = f"{NULL}\t{NULL}\t{NULL}"


@dataclass(frozen=True)
class Origin:
    """Where rows come from: what every value of them hangs on."""

    seed: int
    as_of: date

    @property
    def domain(self) -> str:
        """The e-mail domain of its rows: reserved (RFC 2606), and the seed's own."""
        return f"seed-{self.seed:x}.welfare.example"

    @property
    def administrator_id(self) -> str:
        """The id of the system administrator, who creates every office."""
        return uuids(self.seed, "system_admin", 0, 1)[0]


def office_is_deleted(origin: Origin, office: int) -> bool:
    """Tell whether the office of that number is soft-deleted (3 % are), and its staff with it."""
    return columns(origin.seed, "offices", office, 1, 1)[0][0] < _DELETED_BELOW


def office_id_of(origin: Origin, office: int) -> str:
    """Return the id of the office of that number."""
    return uuids(origin.seed, "offices", office, 1)[0]


def office_lines(origin: Origin, office: int) -> list[str]:
    """Return the line of one office, in a list."""
    pools, day, time = load_pools(), days(origin.as_of), times()
    state, kind, group, prefecture, city, town, block, house, phone, age, edited, hour = (
        column[0] for column in columns(origin.seed, "offices", office, 1, 12)
    )
    office_type = _TYPES[kind % len(_TYPES)]
    gone = f"{day[-1 - state]} {time[hour]}"
    deleted = state < _DELETED_BELOW
    place = f"{pools.prefectures[prefecture]}{pools.cities[city]}{pools.towns[town]}"
    values = (
        office_id_of(origin, office),
        f"{pools.towns[town]}{_KINDS[office_type]}",
        "t" if group % 10 == 0 else "f",
        office_type,
        f"{place}{block % 9 + 1}丁目{house % 30 + 1}番{phone % 20 + 1}号",
        f"00-{1000 + office // 10_000 % 9000:04}-{office % 10_000:04}",
        f"info@office{office}.{origin.domain}",
        origin.administrator_id,
        origin.administrator_id,
        gone if state < _DEACTIVATED_BELOW else NULL,
        "t" if deleted else "f",
        gone if deleted else NULL,
        origin.administrator_id if deleted else NULL,
        f"{day[-2000 - age]} {time[hour]}",
        gone if state < _DEACTIVATED_BELOW else f"{day[-20 - edited]} {time[hour]}",
        "t",
    )
    return ["\t".join(values)]


def recipient_ids(origin: Origin, office: int, count: int) -> list[str]:
    """Return the ids of an office's welfare recipients."""
    return uuids(origin.seed, "welfare_recipients", office, count)


def recipient_lines(origin: Origin, office: int, count: int) -> list[str]:
    """Return the lines of an office's welfare recipients, aged about 19 to 65."""
    pools, day, time, birthday = load_pools(), days(origin.as_of), times(), birthdays()
    genders = [("male", pools.male)] * 140 + [("female", pools.female)] * 112
    genders += [("other", pools.either)] * 4
    years = [str(origin.as_of.year - 20 - slot * 45 // 256) for slot in range(256)]
    family = pools.family
    lines = []
    for key, g, f, l, y, b, c, u, t in zip(  # noqa: E741, each letter is a random byte's purpose
        recipient_ids(origin, office, count),
        *columns(origin.seed, "welfare_recipients", office, count, 8),
        strict=True,
    ):
        gender, given = genders[g]
        first, first_kana, _ = given[f]
        last, last_kana, _ = family[l]
        lines.append(
            f"{key}\t{first}\t{last}\t{first_kana}\t{last_kana}\t{years[y]}{birthday[b]}\t{gender}"
            f"\t{day[-490 - 4 * c]} {time[t]}\t{day[-1 - u]} {time[t]}\tt"
        )
    return lines


def office_recipient_lines(
    origin: Origin, office: int, office_id: str, recipients: Sequence[str]
) -> list[str]:
    """Return the lines that put welfare recipients into an office."""
    day, time = days(origin.as_of), times()
    ages, hours = columns(origin.seed, "office_welfare_recipients", office, len(recipients), 2)
    keys = uuids(origin.seed, "office_welfare_recipients", office, len(recipients))
    lines = []
    for key, recipient, age, hour in zip(keys, recipients, ages, hours, strict=True):
        at = f"{day[-225 - age]} {time[hour]}"
        lines.append(f"{key}\t{recipient}\t{office_id}\t{at}\t{at}\tt")
    return lines


def cycle_lines(
    origin: Origin, office: int, office_id: str, recipients: Sequence[str], cycles: int
) -> list[str]:
    """Return the lines of the recipients' support-plan cycles, oldest first, without their ids.

    Only the last of a recipient's cycles is the latest; each earlier one ended as the next began.
    """
    day, time, calendar = days(origin.as_of), times(), f"office{office}@calendar.{origin.domain}"
    data = columns(origin.seed, "support_plan_cycles", office, len(recipients) * cycles, 3)
    phases = columns(origin.seed, "support_plan_cycles.phase", office, len(recipients), 1)[0]
    turns = [
        (recipient, _DEADLINES[phase]) for recipient, phase in zip(recipients, phases, strict=True)
    ]
    lines = []
    for turn, (signing, event, hour) in enumerate(zip(*data, strict=True)):
        recipient, deadline = turns[turn // cycles]
        number = turn % cycles + 1
        due = deadline - CYCLE_DAYS * (cycles - number)
        start = due - CYCLE_DAYS
        sign = start + 14 + signing % 40
        signed = day[sign] if sign <= 0 else NULL
        google = _google(calendar, recipient, number) if event < _IN_CALENDAR_BELOW else _NO_GOOGLE
        lines.append(
            f"{recipient}\t{office_id}\t{day[start]}\t{signed}\t{day[due]}"
            f"\t{'t' if number == cycles else 'f'}\t{number}\t7\t{google}"
            f"\t{day[start]} {time[hour]}\t{day[min(sign, 0)]} {time[hour]}\tt"
        )
    return lines


def _google(calendar: str, recipient: str, number: int) -> str:
    event = f"{recipient.replace('-', '')}{number}"
    return f"{calendar}\t{event}\thttps://calendar.example/event?eid={event}"

"""How the values of the welfare datasets are distributed: each stated, and counted."""

from __future__ import annotations

from collections import Counter
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
from faker.providers.person.ja_JP import Provider

from perfdata.welfare import project, rows
from perfdata.welfare.datasets import AS_OF

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import date

Row = dict[str, Any]


@cache
def records(dataset: str, table: str) -> list[Row]:
    """Return a table's rows; of staff, without the administrator."""
    (found,) = [each for each in rows.tables(project.dataset(dataset))[1:] if each.table == table]
    return list(found.records())


def share(table: str, chosen: Callable[[Row], object], dataset: str = "1000_offices") -> float:
    found = records(dataset, table)
    return sum(bool(chosen(row)) for row in found) / len(found)


def days(day: date) -> int:
    return (day - AS_OF).days


@pytest.mark.parametrize(
    ("table", "what", "expected", "chosen"),
    [
        ("offices", "soft-deleted", 2 / 64, lambda row: row["is_deleted"]),
        ("offices", "deactivated", 3 / 64, lambda row: row["deactivated_at"]),
        ("offices", "groups", 0.1, lambda row: row["is_group"]),
        ("offices", "type B", 0.5, lambda row: row["type"] == "type_B_office"),
        ("offices", "type A", 0.25, lambda row: row["type"] == "type_A_office"),
        ("staffs", "locked", 3 / 128, lambda row: row["is_locked"]),
        ("staffs", "managers", 0.1 + 0.9 * 11 / 128, lambda row: row["role"] == "manager"),
        ("staffs", "with MFA", 0.25, lambda row: row["is_mfa_enabled"]),
        ("staffs", "verified MFA", 0.1875, lambda row: row["is_mfa_verified_by_user"]),
        ("staffs", "wants no mail", 10 / 128,
         lambda row: not row["notification_preferences"]["email_notification"]),
        ("staffs", "30 days before", 10 / 16,
         lambda row: row["notification_preferences"]["email_threshold_days"] == 30),
        ("staffs", "90 days before", 1 / 16,
         lambda row: row["notification_preferences"]["email_threshold_days"] == 90),
    ],
)  # fmt: skip
def test_offices_and_their_staff(
    table: str, what: str, expected: float, chosen: Callable[[Row], object]
) -> None:
    """Within a third, for the rarest: 1,000 offices, 10,000 members of staff."""
    assert share(table, chosen) == pytest.approx(expected, rel=0.35 if expected < 0.06 else 0.1), (
        what
    )


@pytest.mark.parametrize(
    ("table", "what", "expected", "chosen"),
    [
        ("welfare_recipients", "male", 140 / 256, lambda row: row["gender"] == "male"),
        ("welfare_recipients", "other", 4 / 256, lambda row: row["gender"] == "other"),
        ("welfare_recipients", "under 40", 0.46, lambda row: row["birth_day"].year > 1986),
        ("support_plan_cycles", "overdue", 40 / 216,
         lambda row: days(row["next_renewal_deadline"]) < 0),
        ("support_plan_cycles", "due within 30 days", 31 / 216,
         lambda row: 0 <= days(row["next_renewal_deadline"]) <= 30),
        ("support_plan_cycles", "in a calendar", 0.125, lambda row: row["google_event_id"]),
        ("support_plan_cycles", "signed", 1 - 28.5 / 216,
         lambda row: row["final_plan_signed_date"]),
    ],
)  # fmt: skip
def test_recipients_and_their_cycles(
    table: str, what: str, expected: float, chosen: Callable[[Row], object]
) -> None:
    """Within a tenth: 10,000 rows each."""
    found = share(table, chosen, "100_offices")
    assert found == pytest.approx(expected, rel=0.25 if expected < 0.02 else 0.1), what


def test_the_staff_of_deleted_offices_are_deleted_and_few_others() -> None:
    gone = {row["id"] for row in records("1000_offices", "offices") if row["is_deleted"]}
    links = records("1000_offices", "office_staffs")
    office = {row["staff_id"]: row["office_id"] for row in links}
    others = [row for row in records("1000_offices", "staffs") if office[row["id"]] not in gone]
    assert sum(row["is_deleted"] for row in others) / len(others) == pytest.approx(6 / 128, rel=0.2)
    assert all(
        row["is_deleted"] for row in records("1000_offices", "staffs") if office[row["id"]] in gone
    )


def test_family_names_have_the_shares_that_faker_knows() -> None:
    weights = {pair[0]: weight for pair, weight in Provider.last_name_pairs.items()}
    found = Counter(row["last_name"] for row in records("1000_offices", "welfare_recipients"))
    assert found.keys() == weights.keys()
    for name, weight in weights.items():
        expected = weight / sum(weights.values())
        assert found[name] / 100_000 == pytest.approx(expected, rel=0.1)


def test_recipients_are_adults_of_working_age() -> None:
    ages = [
        days(row["birth_day"]) / -365.25 for row in records("100_offices", "welfare_recipients")
    ]
    assert 19 < min(ages) < 19.5
    assert 64 < max(ages) < 65


def test_a_history_has_2_to_6_cycles_a_recipient_and_exactly_one_latest() -> None:
    cycles = records("100_offices_history", "support_plan_cycles")
    sizes = Counter(row["welfare_recipient_id"] for row in cycles)
    assert len(sizes) == 10_000
    shares = Counter(sizes.values())
    assert shares.keys() == {2, 3, 4, 5, 6}
    assert all(count == pytest.approx(2000, rel=0.1) for count in shares.values())
    latest = [row for row in cycles if row["is_latest_cycle"]]
    assert len(latest) == len({row["welfare_recipient_id"] for row in latest}) == 10_000
    assert all(row["cycle_number"] == sizes[row["welfare_recipient_id"]] for row in latest)
    created = {
        row["id"]: row["created_at"] for row in records("100_offices_history", "welfare_recipients")
    }
    assert all(created[row["welfare_recipient_id"]] < row["created_at"] for row in cycles)


def test_the_largest_skewed_office_has_about_a_tenth_and_the_totals_are_the_same() -> None:
    for table, total in (("office_staffs", 1000), ("office_welfare_recipients", 10_000)):
        sizes = Counter(row["office_id"] for row in records("100_offices_skewed", table))
        (largest, second), last = sizes.most_common(2), min(sizes.values())
        assert sum(sizes.values()) == total
        assert len(sizes) == 100
        assert largest[1] / total == pytest.approx(0.1, rel=0.1)
        assert second[1] / largest[1] == pytest.approx(2**-0.7, rel=0.05)  # Zipf's law
        assert last / total == pytest.approx(0.004, rel=0.3)
    assert len(records("100_offices_skewed", "staffs")) == 1000
    assert len(records("100_offices_skewed", "support_plan_cycles")) == 10_000

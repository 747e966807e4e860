"""The welfare project's rows: exact, the same everywhere, and believable."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime, time, timedelta
from functools import cache
from itertools import pairwise
from typing import Any

import bcrypt
import pytest
from faker.providers.person.ja_JP import Provider

from perfdata import Dataset
from perfdata.errors import ConfigError
from perfdata.sources import imported_sources
from perfdata.welfare import factories, project, rows
from perfdata.welfare.datasets import AS_OF, DATASETS
from perfdata.welfare.staffs import SHARED_LOGIN, SHARED_LOGIN_HASH

COUNTS = {
    "staffs": 1001,
    "offices": 100,
    "office_staffs": 1000,
    "welfare_recipients": 10_000,
    "office_welfare_recipients": 10_000,
    "support_plan_cycles": 10_000,
}

Rows = list[dict[str, Any]]


def dataset_of(offices: int, seed: int = 7, **parameters: int) -> Dataset:
    sizes = {"staff_per_office": 4, "recipients_per_office": 6, "cycles_per_recipient": 3}
    return Dataset(
        name="some",
        generate=rows.generate,
        as_of=AS_OF,
        parameters={"offices": offices, **sizes, **parameters},
        seed=seed,
    )


def written(dataset: Dataset) -> dict[str, bytes]:
    return {table.table: b"".join(table.blocks) for table in dataset.generate(dataset)}


@cache
def records(name: str) -> dict[str, Rows]:
    found: dict[str, Rows] = {}
    for table in rows.tables(project.dataset(name)):
        found.setdefault(table.table, []).extend(table.records())
    return found


def hundred() -> dict[str, Rows]:
    return records("100_offices")


def texts(table: str, column: str) -> list[Any]:
    return [value for row in hundred()[table] if (value := row[column]) is not None]


def test_exact_counts_of_100_offices() -> None:
    assert {table: len(rows) for table, rows in hundred().items()} == COUNTS


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("10_offices", (10, 5, 10, 1)),
        ("100_offices", (100, 10, 100, 1)),
        ("500_offices", (500, 10, 10, 1)),
        ("1000_offices", (1000, 10, 100, 1)),
        ("5000_offices", (5000, 10, 100, 1)),
        ("10000_offices", (10_000, 10, 100, 1)),
    ],
)
def test_datasets_have_their_parameters(name: str, parameters: tuple[int, ...]) -> None:
    names = ("offices", "staff_per_office", "recipients_per_office", "cycles_per_recipient")
    assert project.dataset(name).parameters == dict(zip(names, parameters, strict=True))


def test_every_dataset_has_a_fingerprint_of_its_own_that_covers_what_decides_its_rows() -> None:
    assert len({dataset.fingerprint() for dataset in DATASETS}) == len(DATASETS) == 8
    parts = DATASETS[0].fingerprint_parts()
    assert "faker" in parts
    modules = {name.removeprefix("source ") for name in parts if name.startswith("source ")}
    deciding = ("rows", "staffs")
    assert modules == {f"perfdata.welfare.{name}" for name in deciding}


def test_importing_the_project_is_light() -> None:
    code = (
        "import sys, perfdata.welfare; "
        "print([m for m in ('sqlalchemy', 'faker', 'psycopg', 'alembic') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("hash_seed", ["0", "4242"])
def test_the_same_bytes_whatever_pythonhashseed(hash_seed: str) -> None:
    code = (
        "import hashlib; from perfdata.welfare import project; d = project.dataset('10_offices'); "
        "print(hashlib.sha256(b''.join(b for t in d.generate(d) for b in t.blocks)).hexdigest(), "
        "d.fingerprint())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
    )
    dataset = project.dataset("10_offices")
    content = b"".join(block for table in dataset.generate(dataset) for block in table.blocks)
    expected = f"{hashlib.sha256(content).hexdigest()} {dataset.fingerprint()}"
    assert done.stdout.strip() == expected


def test_a_smaller_dataset_is_the_beginning_of_the_larger() -> None:
    small, large = written(dataset_of(3)), written(dataset_of(8))
    for table, content in small.items():
        assert content
        assert large[table].startswith(content)
        assert len(large[table]) > len(content)


def test_another_seed_shares_no_id_and_no_address() -> None:
    def keys(seed: int) -> set[Any]:
        found = [row for table in rows.tables(dataset_of(3, seed))[:-1] for row in table.records()]
        return {row["id"] for row in found} | {row["email"] for row in found if "email" in row}

    assert not keys(1) & keys(2)


def test_blocks_are_whole_lines_and_of_bounded_size() -> None:
    dataset = project.dataset("100_offices")
    sizes = [block for table in dataset.generate(dataset) for block in table.blocks]
    assert all(block.endswith(b"\n") for block in sizes)
    assert max(map(len, sizes)) < 1_000_000


def test_ids_and_addresses_are_unique() -> None:
    for name, table in hundred().items():
        assert len({row["id"] for row in table}) == len(table), name
    addresses = texts("staffs", "email")
    assert len(set(addresses)) == len(addresses) == 1001
    assert all(address.endswith(".example") for address in addresses + texts("offices", "email"))
    assert all(address.isascii() for address in addresses)


def test_cycles_are_numbered_from_1() -> None:
    assert texts("support_plan_cycles", "id") == [*range(1, 10_001)]


def test_every_row_is_flagged() -> None:
    assert {row["is_test_data"] for table in hundred().values() for row in table} == {True}


def test_references_lead_somewhere() -> None:
    keys = {table: set(texts(table, "id")) for table in hundred()}
    for table, column, parent in (
        ("offices", "created_by", "staffs"),
        ("offices", "deleted_by", "staffs"),
        ("staffs", "deleted_by", "staffs"),
        ("office_staffs", "staff_id", "staffs"),
        ("office_staffs", "office_id", "offices"),
        ("office_welfare_recipients", "welfare_recipient_id", "welfare_recipients"),
        ("office_welfare_recipients", "office_id", "offices"),
        ("support_plan_cycles", "welfare_recipient_id", "welfare_recipients"),
        ("support_plan_cycles", "office_id", "offices"),
    ):
        found = texts(table, column)
        assert found
        assert set(found) <= keys[parent], (table, column)


def test_each_recipient_is_in_the_office_of_the_cycle() -> None:
    members = {
        (row["welfare_recipient_id"], row["office_id"])
        for row in hundred()["office_welfare_recipients"]
    }
    cycles = hundred()["support_plan_cycles"]
    assert {(row["welfare_recipient_id"], row["office_id"]) for row in cycles} == members
    assert set(Counter(office for _, office in members).values()) == {100}


def test_the_administrator_comes_first_and_created_every_office() -> None:
    administrator = hundred()["staffs"][0]
    assert str(administrator["email"]).startswith("system_admin@")
    assert administrator["role"] == "owner"
    assert set(texts("offices", "created_by")) == {administrator["id"]}
    assert Counter(texts("staffs", "role"))["owner"] == 1


@pytest.mark.parametrize("table", ["staffs", "welfare_recipients"])
def test_readings_are_those_of_the_names(table: str) -> None:
    family = {pair[:2] for pair in Provider.last_name_pairs}
    given_names = {pair[:2] for pair in Provider.first_name_pairs}
    rows = hundred()[table]
    assert {(row["last_name"], row["last_name_furigana"]) for row in rows} == family
    assert {(row["first_name"], row["first_name_furigana"]) for row in rows} == given_names


def test_first_names_go_with_the_gender() -> None:
    rows = hundred()["welfare_recipients"]
    for gender, pairs in (
        ("male", Provider.first_name_male_pairs),
        ("female", Provider.first_name_female_pairs),
    ):
        names = {row["first_name"] for row in rows if row["gender"] == gender}
        assert names == {pair[0] for pair in pairs}
    assert 0 < sum(row["gender"] == "other" for row in rows) < 500


def test_common_family_names_are_more_common() -> None:
    counts = Counter(texts("welfare_recipients", "last_name"))
    assert counts["佐藤"] > 2 * counts["中川"] > 0


def test_full_name_is_last_blank_first() -> None:
    for row in hundred()["staffs"]:
        assert row["full_name"] == f"{row['last_name']} {row['first_name']}"


def test_deadlines_spread_around_as_of() -> None:
    left = [(day - AS_OF).days for day in texts("support_plan_cycles", "next_renewal_deadline")]
    assert 500 < sum(0 <= each <= 30 for each in left) < 3000
    assert 500 < sum(each < 0 for each in left) < 3000
    assert max(left) > 150


def test_nothing_is_recorded_after_as_of_and_changes_come_after_making() -> None:
    end = datetime.combine(AS_OF + timedelta(days=1), time(tzinfo=UTC))
    for name in ("100_offices", "100_offices_history"):
        for table in records(name).values():
            assert all(row["created_at"] <= row["updated_at"] < end for row in table)


def test_some_staff_are_deleted_locked_or_have_mfa() -> None:
    staffs = hundred()["staffs"]
    for flag, detail in (
        ("is_deleted", "deleted_at"),
        ("is_locked", "locked_at"),
        ("is_mfa_enabled", "mfa_secret"),
    ):
        assert 5 < sum(row[flag] for row in staffs) < 500
        assert all(row[flag] == (row[detail] is not None) for row in staffs)


def test_thresholds_vary_and_some_want_no_mail() -> None:
    wishes = texts("staffs", "notification_preferences")
    thresholds = Counter(wish["email_threshold_days"] for wish in wishes)
    assert thresholds.most_common(1)[0][0] == 30
    assert {7, 14, 30, 60} <= thresholds.keys()
    assert 10 < sum(not wish["email_notification"] for wish in wishes) < 200


def test_the_staff_of_a_deleted_office_are_deleted() -> None:
    gone = {row["id"] for row in hundred()["offices"] if row["is_deleted"]}
    dead = {row["id"] for row in hundred()["staffs"] if row["is_deleted"]}
    members = {row["staff_id"] for row in hundred()["office_staffs"] if row["office_id"] in gone}
    assert members
    assert members <= dead


def test_only_the_last_cycle_is_the_latest_and_each_begins_where_one_ended() -> None:
    cycles = list(rows.tables(dataset_of(2))[-1].records())
    assert [row["cycle_number"] for row in cycles] == [1, 2, 3] * 12
    assert [row["is_latest_cycle"] for row in cycles] == [False, False, True] * 12
    for row, following in pairwise(cycles):
        days = row["next_renewal_deadline"] - row["plan_cycle_start_date"]
        assert days == timedelta(days=rows.CYCLE_DAYS)
        if row["welfare_recipient_id"] == following["welfare_recipient_id"]:
            assert row["next_renewal_deadline"] == following["plan_cycle_start_date"]


def test_the_shared_login_opens_every_account() -> None:
    assert bcrypt.checkpw(SHARED_LOGIN.encode(), SHARED_LOGIN_HASH.encode())
    assert set(texts("staffs", "hashed_password")) == {SHARED_LOGIN_HASH}


def test_factories_refuse_counts_that_are_none() -> None:
    with pytest.raises(ConfigError, match="count must be at least 0, not -1"):
        factories.bulk_create_offices("", -1)
    with pytest.raises(ConfigError, match="batch_size must be at least 1, not 0"):
        factories.bulk_create_offices("", 1, batch_size=0)
    with pytest.raises(ConfigError, match="cycles_per_recipient must be at least 1"):
        factories.bulk_create_support_plan_cycles("", {}, cycles_per_recipient=0)


def test_no_module_that_decides_rows_is_left_out_of_the_sources() -> None:
    """Of what the rows' module imports; the datasets themselves are in the fingerprint's parts."""
    found = {name for name in imported_sources("perfdata.welfare.rows") if "welfare." in name}
    assert found - {"perfdata.welfare.datasets"} == set(DATASETS[0].sources)

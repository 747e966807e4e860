"""The welfare project's rows: exact, the same everywhere, and believable."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from collections import Counter
from datetime import date, timedelta
from functools import cache
from itertools import pairwise

import bcrypt
import pytest
from faker.providers.person.ja_JP import Provider
from hypothesis import given
from hypothesis import strategies as st

from perfdata.dataset import TableRows
from perfdata.errors import ConfigError
from perfdata.sources import imported_sources
from perfdata.welfare import factories, project
from perfdata.welfare.copytext import escape, read_rows, unescape
from perfdata.welfare.datasets import AS_OF, DATASETS
from perfdata.welfare.draw import days, stream, uuids
from perfdata.welfare.pools import load_pools, pools_digest
from perfdata.welfare.rows import CYCLE_DAYS, Origin, office_is_deleted
from perfdata.welfare.staff_rows import SHARED_LOGIN, SHARED_LOGIN_HASH
from perfdata.welfare.tables import Size, blocks, generate_offices

COUNTS = {
    "staffs": 1001,
    "offices": 100,
    "office_staffs": 1000,
    "welfare_recipients": 10_000,
    "office_welfare_recipients": 10_000,
    "support_plan_cycles": 10_000,
}
ORIGIN = Origin(7, AS_OF)
SIZE = Size(staff=4, recipients=6, cycles=3)

Rows = list[dict[str, str | None]]


def written(origin: Origin, offices: range, size: Size = SIZE) -> dict[str, bytes]:
    return {
        table.table: b"".join(table.blocks) for table in generate_offices(origin, size, offices)
    }


@cache
def hundred() -> dict[str, Rows]:
    dataset = project.dataset("100_offices")
    return {table.table: list(read_rows(table)) for table in dataset.generate(dataset)}


def texts(table: str, column: str) -> list[str]:
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
    assert len({dataset.fingerprint() for dataset in DATASETS}) == len(DATASETS) == 6
    parts = DATASETS[0].fingerprint_parts()
    assert parts["pools"] == pools_digest()
    modules = {name.removeprefix("source ") for name in parts if name.startswith("source ")}
    deciding = ("copytext", "draw", "pools", "rows", "staff_rows", "tables")
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


def test_draws_are_the_same_on_every_machine_and_python() -> None:
    """Values written down once: another hash or another way of reading it would change them."""
    assert stream(1, "staffs", 0, 4).hex() == "bf0c3b50"
    assert uuids(1, "staffs", 0, 2) == [
        "dcaa8904-7d9e-4a95-a19e-19de247b5e03",
        "0cd86806-d241-4014-873a-4f259ac866ef",
    ]


def test_a_longer_draw_begins_with_the_shorter() -> None:
    assert stream(1, "staffs", 5, 100)[:10] == stream(1, "staffs", 5, 10)
    assert uuids(1, "staffs", 5, 9)[:4] == uuids(1, "staffs", 5, 4)


def test_ids_have_the_shape_of_version_4() -> None:
    shape = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
    assert all(shape.fullmatch(key) for key in uuids(1, "offices", 0, 500))


def test_days_count_from_as_of() -> None:
    day = days(AS_OF)
    assert (day[0], day[7]) == ("2026-04-01", "2026-04-08")
    assert (day[-1], day[-365]) == ("2026-03-31", "2025-04-01")


def test_a_smaller_dataset_is_the_beginning_of_the_larger() -> None:
    small, large = written(ORIGIN, range(3)), written(ORIGIN, range(8))
    for table, content in small.items():
        assert content
        assert large[table].startswith(content)
        assert len(large[table]) > len(content)


def test_any_range_of_offices_can_be_made_alone() -> None:
    whole = written(ORIGIN, range(9))
    parts = [written(ORIGIN, part) for part in (range(2), range(2, 7), range(7, 9))]
    assert {table: b"".join(part[table] for part in parts) for table in whole} == whole


def test_another_seed_shares_no_id_and_no_address() -> None:
    def keys(seed: int) -> set[str | None]:
        tables = generate_offices(Origin(seed, AS_OF), SIZE, range(3))
        rows = [
            row
            for table in tables
            if table.table != "support_plan_cycles"
            for row in read_rows(table)
        ]
        return {row["id"] for row in rows} | {row["email"] for row in rows if "email" in row}

    assert not keys(1) & keys(2)


def test_blocks_are_whole_lines_and_of_bounded_size() -> None:
    dataset = project.dataset("100_offices")
    sizes = [block for table in dataset.generate(dataset) for block in table.blocks]
    assert all(block.endswith(b"\n") for block in sizes)
    assert max(map(len, sizes)) < 1_000_000
    assert list(blocks(iter([["a"], ["b"], ["c"]]), 2)) == [b"a\nb\n", b"c\n"]


def test_ids_and_addresses_are_unique() -> None:
    for table, rows in hundred().items():
        assert len({row["id"] for row in rows}) == len(rows), table
    addresses = texts("staffs", "email")
    assert len(set(addresses)) == len(addresses) == 1001
    assert all(address.endswith(".example") for address in addresses + texts("offices", "email"))
    assert all(address.isascii() for address in addresses)


def test_cycles_are_numbered_from_1() -> None:
    assert texts("support_plan_cycles", "id") == [str(number) for number in range(1, 10_001)]


def test_every_row_is_flagged() -> None:
    assert {row["is_test_data"] for rows in hundred().values() for row in rows} == {"t"}


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
    assert all(len(pool) == 256 for pool in (load_pools().family, load_pools().towns))


def test_full_name_is_last_blank_first() -> None:
    for row in hundred()["staffs"]:
        assert row["full_name"] == f"{row['last_name']} {row['first_name']}"


def test_deadlines_spread_around_as_of() -> None:
    left = [
        (date.fromisoformat(text) - AS_OF).days
        for text in texts("support_plan_cycles", "next_renewal_deadline")
    ]
    assert 500 < sum(0 <= each <= 30 for each in left) < 3000
    assert 500 < sum(each < 0 for each in left) < 3000
    assert max(left) > 150


def test_nothing_is_recorded_after_as_of_and_changes_come_after_making() -> None:
    end = f"{AS_OF} 24"
    for rows in hundred().values():
        for row in rows:
            assert row["created_at"] is not None
            assert row["updated_at"] is not None
            assert row["created_at"] <= row["updated_at"] < end


def test_some_staff_are_deleted_locked_or_have_mfa() -> None:
    staffs = hundred()["staffs"]
    for flag, detail in (
        ("is_deleted", "deleted_at"),
        ("is_locked", "locked_at"),
        ("is_mfa_enabled", "mfa_secret"),
    ):
        assert 5 < sum(row[flag] == "t" for row in staffs) < 500
        assert all((row[flag] == "t") == (row[detail] is not None) for row in staffs)


def test_thresholds_vary_and_some_want_no_mail() -> None:
    wishes = [json.loads(text) for text in texts("staffs", "notification_preferences")]
    thresholds = Counter(wish["email_threshold_days"] for wish in wishes)
    assert thresholds.most_common(1)[0][0] == 30
    assert {7, 14, 30, 60} <= thresholds.keys()
    assert 10 < sum(not wish["email_notification"] for wish in wishes) < 200


def test_the_staff_of_a_deleted_office_are_deleted() -> None:
    gone = {row["id"] for row in hundred()["offices"] if row["is_deleted"] == "t"}
    dead = {row["id"] for row in hundred()["staffs"] if row["is_deleted"] == "t"}
    members = {row["staff_id"] for row in hundred()["office_staffs"] if row["office_id"] in gone}
    assert members
    assert members <= dead
    assert [
        number for number, row in enumerate(hundred()["offices"]) if row["is_deleted"] == "t"
    ] == [number for number in range(100) if office_is_deleted(Origin(1, AS_OF), number)]


def test_only_the_last_cycle_is_the_latest_and_each_begins_where_one_ended() -> None:
    tables = generate_offices(ORIGIN, SIZE, range(2))
    cycles = next(list(read_rows(each)) for each in tables if each.table == "support_plan_cycles")
    assert [row["cycle_number"] for row in cycles] == ["1", "2", "3"] * 12
    assert [row["is_latest_cycle"] for row in cycles] == ["f", "f", "t"] * 12
    for one, following in pairwise(cycles):
        start = date.fromisoformat(str(one["plan_cycle_start_date"]))
        end = date.fromisoformat(str(one["next_renewal_deadline"]))
        assert end - start == timedelta(days=CYCLE_DAYS)
        if one["welfare_recipient_id"] == following["welfare_recipient_id"]:
            assert one["next_renewal_deadline"] == following["plan_cycle_start_date"]


def test_the_shared_login_opens_every_account() -> None:
    assert bcrypt.checkpw(SHARED_LOGIN.encode(), SHARED_LOGIN_HASH.encode())
    assert set(texts("staffs", "hashed_password")) == {SHARED_LOGIN_HASH}


@given(st.text(alphabet=st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_what_is_escaped_reads_back(value: str) -> None:
    field = escape(value)
    assert unescape(field) == value
    assert not set(field) & set("\t\n\r\b\f\v")


def test_null_and_its_spelling_are_different_values() -> None:
    assert unescape("\\N") is None
    assert escape("\\N") == "\\\\N"
    table = TableRows("t", ("a", "b"), (b"\\N\t\\\\N\nx\\ty\tz\xe2\x80\xa8\n",))
    assert list(read_rows(table)) == [{"a": None, "b": "\\N"}, {"a": "x\ty", "b": "z\u2028"}]


def test_factories_refuse_counts_that_are_none() -> None:
    with pytest.raises(ConfigError, match="count must be at least 0, not -1"):
        factories.bulk_create_offices("", -1)
    with pytest.raises(ConfigError, match="batch_size must be at least 1, not 0"):
        factories.bulk_create_offices("", 1, batch_size=0)
    with pytest.raises(ConfigError, match="cycles_per_recipient must be at least 1"):
        factories.bulk_create_support_plan_cycles("", {}, cycles_per_recipient=0)


def test_no_module_that_decides_rows_is_left_out_of_the_sources() -> None:
    """Of what the rows' module imports; the datasets themselves are in the fingerprint's parts."""
    found = {one for one in imported_sources("perfdata.welfare.tables") if "welfare." in one}
    assert found - {"perfdata.welfare.datasets"} == set(DATASETS[0].sources)

"""Injected regressions: whole pytest sessions that are green, then red with the right words."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.integration.inner import Pytest, own_frames
from tests.processes import run_script

if TYPE_CHECKING:
    from pathlib import Path

SCENARIOS = """
import os
from datetime import date

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.orm import load_only, selectinload

from perfdata.welfare.models import (
    Office, OfficeStaff, OfficeWelfareRecipient, Staff, SupportPlanCycle, WelfareRecipient
)

pytestmark = pytest.mark.perf(dataset="100_offices")
BAD = "BAD" in os.environ


def cycles_of_office(session, office):
    cycle = SupportPlanCycle
    where = (cycle.office_id == office, cycle.is_latest_cycle)
    return session.scalars(select(cycle.id).where(*where)).all()


def test_index_dropped(perf):
    office = perf.session.scalars(select(Office.id).order_by(Office.id)).first()
    if BAD:
        perf.session.execute(text("DROP INDEX ix_support_plan_cycles_office_latest_deadline"))
    perf(cycles_of_office, office)


def directory(session):
    eager = [] if BAD else [selectinload(Staff.offices)]
    staffs = session.scalars(select(Staff).options(*eager).order_by(Staff.id).limit(40))
    return [[office.name for office in staff.offices] for staff in staffs]


def test_n_plus_one(perf):
    perf(directory)


def by_email(session, email):
    column = func.lower(Staff.email) if BAD else Staff.email
    return session.scalars(select(Staff.id).where(column == email)).all()


def test_lower(perf):
    perf(by_email, perf.session.scalar(select(func.min(Staff.email))))


def by_name(session):
    order = WelfareRecipient.first_name, WelfareRecipient.last_name
    return len(session.execute(select(*order).order_by(*order)).all())


def test_sort_that_spills(perf):
    if BAD:
        perf.session.execute(text("SET LOCAL work_mem = '64kB'"))
    perf(by_name)


def recipients(session, offices):
    one = OfficeWelfareRecipient
    return session.scalars(select(one.id).where(one.office_id.in_(offices))).all()


def test_all_offices_read(perf):
    offices = perf.session.scalars(select(Office.id).order_by(Office.id)).all()
    perf(recipients, offices if BAD else offices[:1])


def long_overdue(session):
    join = SupportPlanCycle.welfare_recipient_id == WelfareRecipient.id
    query = select(WelfareRecipient.last_name).join(SupportPlanCycle, join)
    return session.scalars(
        query.where(SupportPlanCycle.next_renewal_deadline < date(2000, 1, 1))
    ).all()


def test_statistic_missing(perf):
    if BAD:
        perf.session.execute(
            text("DELETE FROM pg_statistic WHERE starelid = 'support_plan_cycles'::regclass")
        )
    perf(long_overdue)


def staff_of_each_office(session):
    return [
        session.scalars(select(OfficeStaff.id).where(OfficeStaff.office_id == one)).all()
        for one in session.scalars(select(Office.id)).all()
    ]


@pytest.mark.perf(max_growth=1.2, max_repeats=None)
def test_queries_that_grow(perf):
    if BAD:
        perf(staff_of_each_office)
    else:
        perf(lambda session: session.scalars(select(OfficeStaff.id)).all())


@pytest.mark.perf(max_growth=0.5, growth="10_offices")
def test_buffers_that_grow(perf):
    table = SupportPlanCycle if BAD else Office
    query = select(func.max(table.created_at))  # in no index
    perf(lambda session: session.scalar(query))
"""

Session = tuple[int, str]


@pytest.fixture(scope="module")
def inner(tmp_path_factory: pytest.TempPathFactory, own_home: Path) -> Pytest:
    inner = Pytest(tmp_path_factory.mktemp("gates"), own_home)
    inner.write(test_gates=SCENARIOS)
    return inner


def invoke(inner: Pytest, *arguments: str, **environ: str) -> Session:
    """Run the console script in the project."""
    variables = {"PERFDATA_HOME": str(inner.home), "COLUMNS": "160", **environ}
    done = run_script(inner.folder, "perfdata", *arguments, **variables)
    return done.returncode, done.stdout + done.stderr


def baselines(inner: Pytest) -> dict[str, bytes]:
    folder = inner.folder / "baselines"
    return {path.name: path.read_bytes() for path in folder.rglob("*.json")}


@pytest.fixture(scope="module")
def first(inner: Pytest) -> Session:
    """A run without baselines, in CI."""
    return inner.run("test_gates.py", CI="true")


@pytest.fixture(scope="module")
def refused(inner: Pytest, first: Session) -> Session:
    """What accepting the first run in CI says."""
    assert first[0] == 0, first[1]
    return invoke(inner, "perf.accept", CI="1")


@pytest.fixture(scope="module")
def accepted(inner: Pytest, refused: Session) -> dict[str, bytes]:
    """What was accepted of the first run."""
    assert (refused[0], baselines(inner)) == (2, {}), refused[1]
    code, said = invoke(inner, "perf.accept")
    assert code == 0, said
    return baselines(inner)


@pytest.fixture(scope="module")
def bad(inner: Pytest, accepted: dict[str, bytes]) -> Session:
    """A run with every regression in it."""
    assert accepted
    return inner.run("test_gates.py", BAD="1")


def block(said: str, test: str) -> str:
    """Return what a failed test says."""
    return said.partition(f"_ {test} _")[2].partition("\n____")[0].partition("\n====")[0]


def test_without_baselines_a_run_passes_loudly_and_writes_none(
    first: Session, accepted: dict[str, bytes]
) -> None:
    code, said = first
    assert code == 0, said
    assert "NO BASELINE: cycles_of_office, directory, by_email, by_name" in said
    assert "perfdata perf.accept" in said
    assert len(accepted) == 8, "none before they were accepted, and not in CI"


def test_the_same_code_is_green_again_with_the_same_counters(
    inner: Pytest, accepted: dict[str, bytes]
) -> None:
    for _ in range(2):
        code, said = inner.run("test_gates.py", "-W", "ignore")
        assert code == 0, said
        assert {one["verdict"] for one in inner.results().values()} == {"ok"}
        assert invoke(inner, "perf.accept")[0] == 0
        assert baselines(inner) == accepted


def test_every_regression_is_red_and_no_baseline_is_written(
    inner: Pytest, bad: Session, accepted: dict[str, bytes]
) -> None:
    code, said = bad
    assert code == 1
    results = inner.results()
    assert {one["verdict"] for one in results.values()} == {"regressed"}, said
    assert len(results) == 8
    assert baselines(inner) == accepted


@pytest.mark.parametrize(
    ("test", "words"),
    [
        (
            "test_index_dropped",
            [
                "cycles_of_office on 100_offices: buffers",
                "changed plan: SELECT support_plan_cycles.id FROM support_plan_cycles WHERE",
                "old plan",
                "~ ",
                "ix_support_plan_cycles_office_latest_deadline",
                "Seq Scan on support_plan_cycles",
                "perfdata perf.accept --only cycles_of_office",
            ],
        ),
        (
            "test_n_plus_one",
            [
                "N+1: test_gates.py:",
                "sent one statement 40 times with 40 different parameters (max_repeats is 9)",
                "new statement, calls 0 → 40",
                "statement no longer sent, calls 1 → 0",
            ],
        ),
        (
            "test_lower",
            [
                "new statement, calls 0 → 1: SELECT staffs.id FROM staffs WHERE LOWER(",
                "instead of: SELECT staffs.id FROM staffs WHERE staffs.email = ",
                "Index Scan using ix_staffs_email on staffs",
                "Seq Scan on staffs",
            ],
        ),
        (
            "test_sort_that_spills",
            [
                "temp blocks (work_mem exceeded) 0 → ",
                "ORDER BY welfare_recipients.first_name",
                "likely cause: the baseline was accepted with other settings, ",
                "work_mem 4096 → 64",
            ],
        ),
        (
            "test_all_offices_read",
            [
                "rows 100 → 10,000 (+9,900 %): SELECT office_welfare_recipients.id",
                "buffers",
            ],
        ),
        (
            "test_statistic_missing",
            ["changed plan: SELECT welfare_recipients.last_name", "Nested Loop", "Hash Join"],
        ),
        (
            "test_queries_that_grow",
            [
                "queries grow with exponent 0.5",
                "max_growth is 0.1: 11 on 10_offices, 101 on 100_offices",
            ],
        ),
        (
            "test_buffers_that_grow",
            ["buffers grow with exponent", "max_growth is 0.5"],
        ),
    ],
)
def test_a_regression_says_what_it_is(bad: Session, test: str, words: list[str]) -> None:
    said = block(bad[1], test)
    for word in words:
        assert word in said, said
    assert "Traceback" not in said
    assert own_frames(said) == []


def test_what_is_accepted_is_green_and_shows_what_changed(
    inner: Pytest, bad: Session, accepted: dict[str, bytes]
) -> None:
    """After all others: it replaces a baseline, and puts it back."""
    assert bad[0] == 1
    code, _ = inner.run("test_gates.py", "-k", "spills", BAD="1")
    assert code == 1
    code, said = invoke(inner, "perf.accept", "--only", "by_name")
    assert code == 0, said
    assert "changed: by_name on 100_offices, baselines/pg18/by_name.100_offices.json" in said
    assert '-    "work_mem": "4096"' in said
    assert '+    "work_mem": "64"' in said
    code, said = invoke(inner, "perf.run", "--only", "by_name", "--json", BAD="1")
    assert code == 0, said
    code, said = invoke(inner, "perf.run", "--only", "n_plus_one", BAD="1")
    assert code == 1, said
    code, said = invoke(inner, "perf.run", "--only", "no_such")
    assert code == 2
    assert "matches 'no_such'" in said
    changed = inner.folder / "baselines" / "pg18" / "by_name.100_offices.json"
    assert json.loads(changed.read_text())["counters"]["temp_blocks"] > 0
    changed.write_bytes(accepted[changed.name])

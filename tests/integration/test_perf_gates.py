"""Injected regressions: whole pytest sessions that are green, then red with the right words."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from perfdata import Settings
from perfdata.server.embedded import EmbeddedServer
from tests.integration.inner import PROJECT, Pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

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
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    folder = tmp_path_factory.mktemp("gates")
    (folder / "pyproject.toml").write_text(PROJECT)
    settings = Settings.load(folder, {"PERFDATA_HOME": str(folder / "home")})
    yield settings
    EmbeddedServer(settings).stop()


@pytest.fixture(scope="module")
def inner(settings: Settings) -> Pytest:
    inner = Pytest(settings.root, settings.home)
    inner.write(test_gates=SCENARIOS)
    return inner


def invoke(inner: Pytest, *arguments: str, **environ: str) -> Session:
    """Run the console script in the project."""
    inherited = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("PERFDATA_", "PYTEST_")) and key != "CI"
    }
    done = subprocess.run(
        [Path(sys.executable).parent / "perfdata", *arguments],
        cwd=inner.folder,
        env={**inherited, "PERFDATA_HOME": str(inner.home), "COLUMNS": "160", **environ},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def baselines(inner: Pytest) -> dict[str, bytes]:
    folder = inner.folder / "baselines"
    return {path.name: path.read_bytes() for path in folder.rglob("*.json")}


@pytest.fixture(scope="module")
def first(inner: Pytest) -> Session:
    """A run without baselines, in CI."""
    return inner.run("test_gates.py", CI="true")


@pytest.fixture(scope="module")
def accepted(inner: Pytest, first: Session) -> dict[str, bytes]:
    """What was accepted of the first run."""
    assert first[0] == 0, first[1]
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
    inner: Pytest, first: Session
) -> None:
    code, said = first
    assert code == 0, said
    assert "NO BASELINE: cycles_of_office, directory, by_email, by_name" in said
    assert "perfdata perf.accept" in said
    if not (inner.folder / "baselines").exists():
        assert invoke(inner, "perf.accept", CI="1")[0] == 2
        assert not (inner.folder / "baselines").exists()


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
    assert "scenario/perf.py" not in said


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
    assert "is named 'no_such'" in said
    changed = inner.folder / "baselines" / "pg18" / "by_name.100_offices.json"
    assert json.loads(changed.read_text())["counters"]["temp_blocks"] > 0
    changed.write_bytes(accepted[changed.name])

"""The plugin, as a project sees it: whole pytest sessions on an embedded server of their own."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from perfdata import (
    Settings,
    build_dataset,
    create_snapshot,
    delete_snapshot,
    open_target,
    snapshot_exists,
)
from tests.homes import project_home
from tests.integration.databases import run
from tests.integration.inner import Pytest, own_frames

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

pytestmark = pytest.mark.slow

SCENARIOS = '''
import pytest
from sqlalchemy import Integer, func, insert, select, text, update
from sqlalchemy.orm import Session

from perfdata import BudgetExceededError, ConfigError
from perfdata.welfare.models import Office, OfficeStaff, Staff

pytestmark = pytest.mark.perf(dataset="10_offices")
MARK = {Office.is_group: True}


def staff_of_each_office(session):
    """The mistake that budgets are for: a query for each office."""
    return {
        office.id: session.scalars(
            select(Staff.id).join(OfficeStaff).where(OfficeStaff.office_id == office.id)
        ).all()
        for office in session.scalars(select(Office))
    }


def rename_offices(session):
    for office in session.scalars(select(Office)):
        office.name = "renamed"
    session.commit()
    return session.scalar(select(func.count()).where(Office.name == "renamed"))


@pytest.mark.perf(max_queries=4)
def test_n_plus_one(perf):
    perf(staff_of_each_office)


@pytest.mark.perf(max_queries=11, max_rows=60, max_repeats=10)
def test_n_plus_one_within_budget(perf):
    assert len(perf(staff_of_each_office)) == 10


@pytest.mark.perf(max_rows=3)
def test_budget_error_can_be_caught(perf):
    with pytest.raises(BudgetExceededError, match="rows, max_rows is 3"):
        with perf.measure("all offices"):
            perf.session.scalars(select(Office)).all()


def test_write_is_undone_each_time(perf, perf_engine):
    seen = []

    def scenario(session):
        seen.append(session.scalar(select(func.count()).where(Office.name == "renamed")))
        return rename_offices(session)

    assert perf(scenario) == 10
    assert seen == [0] * (1 + 1 + 3)  # counted, for its memory, timed
    with perf_engine.connect() as other:
        assert other.scalar(select(func.count()).where(Office.name == "renamed")) == 0


def test_dataset_is_as_it_was(perf, perf_engine):
    assert perf(lambda session: session.scalar(select(func.count(Office.id)))) == 10
    assert perf.dataset.name == "10_offices"


def test_what_the_test_wrote_is_there_in_each_run(perf):
    perf.session.execute(update(Office).values(MARK))
    office = perf.session.scalars(select(Office)).first()
    count = select(func.count()).where(Office.is_group)
    assert perf(lambda session: session.scalar(count)) == 10
    assert office.is_group


def test_measured_block(perf):
    with perf.measure() as seen:
        perf.session.scalars(select(Office)).all()
        perf.session.execute(
            text("UPDATE offices SET name = :name"), [{"name": "a"}, {"name": "b"}]
        )
        with perf.session.begin_nested():
            perf.session.scalar(select(func.count()).select_from(Office))
        stream = select(Staff.id).execution_options(yield_per=7)
        assert len(perf.session.scalars(stream).all()) == 51
    assert [(one.calls, one.rows) for one in seen.statements()] == [
        (1, 10), (1, 20), (1, 1), (1, 51)
    ]


def test_two_blocks_with_names(perf):
    for name in ("first", "second"):
        with perf.measure(name):
            perf.session.scalars(select(Office)).all()


def test_two_blocks_without_names(perf):
    with perf.measure():
        perf.session.scalars(select(Office)).all()
    with pytest.raises(ConfigError, match="already has a result named 'two_blocks_without_names'"):
        with perf.measure():
            perf.session.scalars(select(Staff)).all()


def test_session_has_the_settings_that_keep_plans(perf_session):
    show = "SELECT current_setting('plan_cache_mode') || current_setting('jit')"
    assert perf_session.scalar(text(show)) == "force_custom_planoff"
    driver = perf_session.connection().connection.driver_connection
    assert driver.prepare_threshold is None


def test_returned_objects_can_be_read(perf):
    assert perf(lambda session: session.scalars(select(Office)).first()).name


def test_second_scenario(perf):
    perf(rename_offices)
    perf(rename_offices)


def test_broken_scenario(perf):
    perf(lambda session: session.execute(text("SELECT 1 / 0")))


def test_nothing_is_left_of_a_broken_scenario(perf):
    assert perf(rename_offices) == 10


def test_session_whose_commits_could_not_be_undone(perf, perf_engine):
    with Session(perf_engine) as perf.session:
        with pytest.raises(ConfigError, match="join_transaction_mode"):
            perf(rename_offices)


@pytest.mark.perf("slow")
def test_marker_of_another_meaning():
    """Projects have had markers named perf before."""


async def count_of(session):
    return await session.scalar(select(func.count(Office.id)))


def test_coroutine(perf):
    assert perf(count_of) == 10


@pytest.mark.perf(dataset="by_hand")
def test_snapshot_without_a_dataset(perf):
    assert perf.dataset.as_of.year >= 2024
    assert perf(lambda session: session.scalar(select(func.count(Office.id)))) == 10


@pytest.mark.perf(dataset="10_ofices")
def test_misspelt_dataset(perf):
    pass
'''


@pytest.fixture(scope="module")
def own_settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """A home whose server the inner sessions start."""
    with project_home(tmp_path_factory.mktemp("plugin")) as settings:
        yield settings


@pytest.fixture
def inner(own_settings: Settings, tmp_path: Path) -> Pytest:
    return Pytest(tmp_path, own_settings.home)


@pytest.fixture(scope="module")
def session(
    own_settings: Settings, tmp_path_factory: pytest.TempPathFactory
) -> tuple[int, str, Mapping[str, dict[str, Any]]]:
    """The exit code, the terminal and the results of one session of all SCENARIOS."""
    target = open_target(own_settings)
    build_dataset(target, "10_offices")
    create_snapshot(target.conninfo, "by_hand", settings=own_settings, replace=True)
    inner = Pytest(tmp_path_factory.mktemp("scenarios"), own_settings.home)
    inner.write(test_scenarios=SCENARIOS)
    code, said = inner.run("test_scenarios.py")
    return code, said, inner.results()


def _block(said: str, test: str) -> str:
    """Return what a failed test says, without the headings of pytest."""
    return said.partition(f"_ {test} _")[2].partition("\n____")[0].partition("\n====")[0]


def test_the_scenarios_that_must_fail_are_those_that_do(
    session: tuple[int, str, Mapping[str, dict[str, Any]]],
) -> None:
    code, said, _ = session
    summary = said.partition("short test summary info")[2].splitlines()
    failed = [line.split("::")[1].split()[0] for line in summary if "::" in line]
    assert failed == [
        *("test_n_plus_one", "test_second_scenario", "test_broken_scenario"),
        "test_misspelt_dataset",
    ], said
    assert code == 1


def test_a_broken_budget_says_what_was_sent_and_shows_no_traceback(
    session: tuple[int, str, Mapping[str, dict[str, Any]]],
) -> None:
    _, said, results = session
    block = _block(said, "test_n_plus_one")
    assert "staff_of_each_office on 10_offices: 11 queries, max_queries is 4" in block
    assert "10 x SELECT staffs.id FROM staffs JOIN office_staffs ON" in block
    assert "(50 rows, " in block
    assert own_frames(block) == []
    assert "perf(staff_of_each_office)" not in block
    assert results["test_n_plus_one"]["verdict"] == "regressed"


def test_the_results_hold_counts_times_and_statements(
    session: tuple[int, str, Mapping[str, dict[str, Any]]],
) -> None:
    found = session[2]["test_n_plus_one_within_budget"]
    assert (found["counters"]["queries"], found["counters"]["rows"]) == (11, 60)
    assert [one["calls"] for one in found["statements"]] == [1, 10]
    assert found["time"]["rounds"] == len(found["time"]["rounds_s"]) == 3
    assert found["time"]["min_s"] == min(found["time"]["rounds_s"])
    assert found["settings"]["plan_cache_mode"] == "force_custom_plan"
    assert len(found["data"]["dataset"]) == 16
    assert found["data"]["migrations"].startswith("0003_performance_indexes (")


def test_a_second_result_of_one_name_is_refused_and_the_first_stays(
    session: tuple[int, str, Mapping[str, dict[str, Any]]],
) -> None:
    found = session[2]["test_two_blocks_without_names"]
    assert [one["rows"] for one in found["statements"]] == [10]
    lines = session[1].partition("scenario  ")[2].splitlines()
    assert {"first", "second"} <= {line.split()[0] for line in lines if line.strip()}


def test_the_table_has_every_scenario(
    session: tuple[int, str, Mapping[str, dict[str, Any]]],
) -> None:
    table = session[1].partition("= perfdata =")[2].splitlines()
    lines = [line.split() for line in table]
    found = next(line for line in lines if line[:1] == ["staff_of_each_office"])
    assert found[1:4] == ["10_offices", "11", "60"]
    assert any(line[:3] == ["all", "offices", "10_offices"] for line in lines)


def test_a_run_leaves_a_summary_in_markdown_that_says_what_is_red(
    session: tuple[int, str, Mapping[str, dict[str, Any]]], own_settings: Settings
) -> None:
    summary = (own_settings.home / "results" / "summary.md").read_text(encoding="utf-8")
    assert session[0] == 1
    assert summary.startswith("## ❌ 2 of ")
    document = json.loads((own_settings.home / "results" / "perf.json").read_text("utf-8"))
    assert "division by zero" in document["failures"]["test_scenarios.py::test_broken_scenario"]
    assert any(note.startswith("restored 10_offices") for note in document["notes"])
    assert "| staff\\_of\\_each\\_office | 10\\_offices | **11** (max. 4) | 60 |" in summary
    assert "10 x SELECT staffs.id FROM staffs JOIN office_staffs ON" in summary
    assert "division by zero" in summary.partition("test_broken_scenario")[2]
    assert "no dataset is named" not in summary.partition("test_misspelt_dataset")[0]
    assert "did you mean 10_offices?" in summary.partition("test_misspelt_dataset")[2]


PLAIN = """
import pytest
from sqlalchemy import func, select
from perfdata.welfare.models import Office

@pytest.mark.perf(dataset="no_such", max_queries=1)
def test_count(perf):
    assert perf(lambda session: session.scalar(select(func.count(Office.id)))) == 10

def test_other():
    pass
"""


def test_another_dataset_can_be_asked_for_and_each_run_is_a_line_of_history(
    inner: Pytest, session: object
) -> None:
    assert session
    inner.write(test_plain=PLAIN)
    history = inner.home / "results" / "history.jsonl"
    before = history.read_text(encoding="utf-8")
    job_summary = inner.folder / "job.md"
    job_summary.write_text("of a step before\n")
    where = {"GITHUB_STEP_SUMMARY": str(job_summary), "GITHUB_SHA": "c0ffee"}
    code, said = inner.run("test_plain.py", "--perf-dataset", "10_offices", **where)
    assert code == 0, said
    text = history.read_text(encoding="utf-8")
    assert text.startswith(before)
    (line,) = map(json.loads, text.removeprefix(before).splitlines())
    assert line["commit"] == "c0ffee"
    assert [(one["scenario"], one["queries"]) for one in line["scenarios"]] == [("count", 1)]
    told = job_summary.read_text(encoding="utf-8")
    assert told.startswith("of a step before\n## ✅ 1 scenario, none regressed")
    assert "- cloning 10\\_offices from an existing template" in told


@pytest.mark.parametrize("workers", [(), ("-n", "1")], ids=("here", "in a worker"))
def test_junit_xml_holds_what_was_counted(
    workers: tuple[str, ...], inner: Pytest, session: object
) -> None:
    assert session
    inner.write(test_plain=PLAIN)
    options = ("--perf-dataset", "10_offices", "--junitxml", "junit.xml", *workers)
    assert inner.run("test_plain.py", *options)[0] == 0
    document = ET.parse(inner.folder / "junit.xml")  # noqa: S314  pytest's own
    found = {
        case.attrib["name"]: {one.attrib["name"]: one.attrib["value"] for one in properties}
        for case in document.iter("testcase")
        for properties in case.iter("properties")
    }
    assert found.keys() == {"test_count"}
    counted = found["test_count"]
    (result,) = inner.results().values()
    assert counted["perfdata.count.dataset"] == "10_offices"
    assert counted["perfdata.count.verdict"] == result["verdict"]
    for name, count in result["counters"].items():
        assert counted[f"perfdata.count.{name}"] == str(count)
    time = result["time"]
    assert counted.get("perfdata.count.median_s") == (time and str(time["median_s"]))


def test_a_session_without_perf_tests_leaves_no_summary(inner: Pytest) -> None:
    inner.write(test_plain="def test_it():\n    assert False\n")
    job_summary = inner.folder / "job.md"
    inner.run("test_plain.py", GITHUB_STEP_SUMMARY=str(job_summary))
    assert not job_summary.exists()


def test_each_dataset_is_loaded_once_whatever_is_written(
    session: tuple[int, str, Mapping[str, dict[str, Any]]],
) -> None:
    restored = [line for line in session[1].splitlines() if "perfdata: restored" in line]
    assert [line.split()[2] for line in restored] == ["10_offices:", "by_hand:"]
    assert restored[0].endswith("to be cloned")


def test_a_misspelt_dataset_is_one_line(
    session: tuple[int, str, Mapping[str, dict[str, Any]]],
) -> None:
    block = _block(session[1], "ERROR at setup of test_misspelt_dataset")
    assert "10_ofices" in block
    assert "10_offices" in block
    assert own_frames(block) == []


def test_errors_say_what_to_do(session: tuple[int, str, Mapping[str, dict[str, Any]]]) -> None:
    said = session[1]
    second = _block(said, "test_second_scenario")
    assert "perf.measure()" in second
    assert own_frames(second) == [], "the test's line is to blame"
    assert "DivisionByZero" in _block(said, "test_broken_scenario")


SIMPLE = """
import pytest
from sqlalchemy import func, select
from perfdata.welfare.models import Office

pytestmark = pytest.mark.perf(dataset="10_offices", max_queries=1)


def count_offices(session):
    return session.scalar(select(func.count(Office.id)))


def test_one(perf):
    assert perf(count_offices) == 10


def test_other(perf):
    assert perf(count_offices) == 10
"""


def test_the_first_session_builds_and_the_second_only_clones(
    inner: Pytest, own_settings: Settings
) -> None:
    """What is built goes into a template, which later sessions find, also after another build."""
    if snapshot_exists("10_offices", own_settings):
        delete_snapshot("10_offices", own_settings)
    inner.write(test_simple=SIMPLE)
    code, said = inner.run()
    assert code == 0, said
    assert said.count("perfdata: built 10_offices (no snapshot yet)") == 1
    code, said = inner.run("--benchmark-only", "-q", "--benchmark-json=times.json")
    assert code == 0, said
    assert "perfdata: built" not in said
    assert said.count("perfdata: cloning 10_offices from an existing template") == 1
    found = json.loads((inner.folder / "times.json").read_text())["benchmarks"][0]
    assert found["extra_info"] == {"dataset": "10_offices", "queries": 1, "rows": 1}


def test_fixtures_are_overridden_by_a_projects_conftest(
    inner: Pytest, own_settings: Settings
) -> None:
    target = open_target(own_settings)
    run(
        make_conninfo(target.conninfo, dbname="postgres"),
        "DROP DATABASE IF EXISTS another",
        "CREATE DATABASE another TEMPLATE perfdata",
    )
    run(target.conninfo, "DELETE FROM support_plan_cycles")
    inner.write(
        conftest=f"""
import pytest
from sqlalchemy.orm import Session


class OwnSession(Session):
    pass


@pytest.fixture(scope="session")
def perf_url():
    return {make_conninfo(target.conninfo, dbname="another")!r}


@pytest.fixture
def perf_session(perf_engine, large_dataset):
    with perf_engine.connect() as connection, connection.begin() as transaction:
        yield OwnSession(connection, join_transaction_mode="create_savepoint")
        transaction.rollback()
""",
        test_own=SIMPLE
        + """
def test_own(perf):
    def which(session):
        return type(session).__name__, session.scalar(select(func.current_database()))

    assert perf(which) == ("OwnSession", perf.session.bind.engine.url.database)
    assert perf.session.bind.engine.url.database.startswith("perfdata_clone_")
""",
    )
    code, said = inner.run()
    assert code == 0, said
    assert said.count("restored 10_offices") == 1, "three tests share one template"
    assert "restored 10_offices" in said
    assert run(target.conninfo, "SELECT count(*) FROM support_plan_cycles") == [(0,)]


@pytest.mark.parametrize(
    ("option", "outcome", "timed"),
    [("--benchmark-disable", "2 passed", False), ("--benchmark-skip", "2 skipped", None)],
)
def test_pytest_benchmarks_options_hold(
    inner: Pytest, option: str, outcome: str, timed: bool | None
) -> None:
    """Disabled, the counts are still there; skipped, no server is needed."""
    inner.write(test_simple=SIMPLE)
    environ = {"PERFDATA_PG_BIN": "/nowhere"} if timed is None else {}
    code, said = inner.run(option, **environ)
    assert code == 0, said
    assert outcome in said
    if timed is not None:
        assert inner.results()["test_one"]["counters"]["queries"] == 1
        assert inner.results()["test_one"]["time"] is None


def test_a_wrong_marker_stops_the_session_before_it_starts(inner: Pytest) -> None:
    inner.write(test_simple=SIMPLE.replace("max_queries", "max_query"))
    code, said = inner.run()
    assert code == pytest.ExitCode.USAGE_ERROR
    assert "has no argument 'max_query'; did you mean max_queries?" in said
    assert "Traceback" not in said


def test_workers_of_xdist_take_turns_and_their_results_come_together(inner: Pytest) -> None:
    pytest.importorskip("xdist")
    inner.write(test_simple=SIMPLE)
    code, said = inner.run("-n2", "-W", "ignore")
    assert code == 0, said
    assert {name: one["counters"]["queries"] for name, one in inner.results().items()} == {
        "test_one": 1,
        "test_other": 1,
    }


ASYNCIO = """
import pytest
from sqlalchemy import text

pytestmark = [pytest.mark.asyncio, pytest.mark.perf(dataset="10_offices")]


@pytest.mark.parametrize("time", [1, 2])
async def test_async(perf_async_session, time):
    count = text("SELECT count(*) FROM support_plan_cycles")
    assert (await perf_async_session.execute(count)).scalar_one() == 100
    await perf_async_session.execute(text("DELETE FROM support_plan_cycles"))
    await perf_async_session.commit()
    assert (await perf_async_session.execute(count)).scalar_one() == 0
    mode = await perf_async_session.execute(text("SHOW plan_cache_mode"))
    assert mode.scalar_one() == "force_custom_plan"


@pytest.mark.perf(dataset="10_offices", max_queries=1)
async def test_sync_fixture_in_async_test(perf):
    perf(lambda session: session.execute(text("SELECT 1")))
"""


def test_beside_pytest_asyncio(inner: Pytest) -> None:
    """Its loop and its mode, with every warning an error."""
    inner.write(test_async=ASYNCIO)
    code, said = inner.run("-p", "asyncio", "-o", "asyncio_default_fixture_loop_scope=function")
    assert code == 0, said
    assert "3 passed" in said


def test_without_pytest_asyncio_its_fixture_says_so(inner: Pytest) -> None:
    simple = "def test_one(perf_async_session):\n    assert perf_async_session\n"
    inner.write(test_simple=simple)
    code, said = inner.run()
    assert code == pytest.ExitCode.TESTS_FAILED
    assert "perf_async_session needs pytest-asyncio: pip install pytest-asyncio" in said


BESIDE = """
import pytest
from pytest_postgresql import factories
from sqlalchemy import text

theirs = factories.postgresql("postgresql_noproc")


@pytest.mark.perf(dataset="10_offices")
def test_perfdata(perf):
    assert perf(lambda session: session.scalar(text("SELECT count(*) FROM offices"))) == 10


def test_django(settings):
    assert settings.USE_TZ


def test_postgresql(theirs):
    assert theirs.execute("SELECT current_database()").fetchone() == ("tests",)
"""


def test_beside_pytest_postgresql_and_pytest_django(inner: Pytest, own_settings: Settings) -> None:
    """All in one session, each with its own fixtures, two of them on one server."""
    socket = conninfo_to_dict(open_target(own_settings).conninfo)["host"]
    inner.write(test_beside=BESIDE, beside_settings="USE_TZ = True\nSECRET_KEY = 'x'\n")
    code, said = inner.run(
        *("-p", "django", "-p", "pytest_postgresql", "--ds=beside_settings"),
        f"--postgresql-host={socket}",
        "--postgresql-user=perfdata",
        "-W",
        "default",
    )
    assert code == 0, said
    assert "3 passed" in said

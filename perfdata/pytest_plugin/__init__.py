"""The pytest plugin: fixtures and the marker ``perf``.

A project's conftest may override each fixture:

    perfdata_settings  (session)  the Settings of the current folder
    perf_url           (session)  the database on whose server clones are made, a URL on psycopg
    perf_async_driver  (session)  the driver for coroutine functions: psycopg or asyncpg
    large_dataset                 the marker's dataset, in the test's own clone
    perf_clone_url                that clone, as a SQLAlchemy URL on psycopg
    perf_engine                   an engine on it, with settings that keep plans stable
    perf_session                  a Session in a transaction that is rolled back after the test
    perf                          runs a scenario, counts and times it (perfdata.Perf)

A custom perf_session requests perf_engine, and joins a connection's transaction with
"create_savepoint". Where the role can't make clones, the dataset is restored into the database of
perf_url, and perf_clone_url is the same database.

``@pytest.mark.perf(dataset="100_offices", max_queries=…, max_rows=…)`` applies to tests, classes
and modules; the closest marker wins. A test with budgets fails if nothing was measured in it.
Heavy imports are made by fixtures: every pytest run of an environment with perfdata loads this
module.
"""

from __future__ import annotations

import os
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import pytest

from perfdata.config import Settings
from perfdata.errors import ConfigError
from perfdata.pytest_plugin.environment import (
    learn_passwords,
    nowhere_note,
    session_settings,
    set_variables,
    unset_note,
)
from perfdata.pytest_plugin.marker import Marker, only_dataset, stated_limits
from perfdata.pytest_plugin.redaction import REDACTION_PLUGIN, Redaction
from perfdata.pytest_plugin.summary import (
    SUMMARY_PLUGIN,
    Announcer,
    Summary,
    attach,
    attach_notes,
    junit_properties,
    shortened_error,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Generator, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from sqlalchemy import Engine
    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import Session

    from perfdata.dataset import Dataset
    from perfdata.perf.compare.participant import RoundTimer
    from perfdata.perf.gate.verdict import Judge
    from perfdata.perf.model import ScenarioResult
    from perfdata.perf.scenario.perf import Perf
    from perfdata.perf.scenario.recorder import ScenarioDatabase, ScenarioOptions
    from perfdata.pytest_plugin.databases import SessionDatabases

_FIXTURES = {"large_dataset", "perf", "perf_async_session", "perf_session"}
# The tests that were measured, by their baselines.
_measured_key = pytest.StashKey[dict["Path", str]]()
# The settings and the results of a test.
_results_key = pytest.StashKey[tuple[Settings, list["ScenarioResult"]]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --perf-dataset, --perf-only and --perf-strict."""
    group = parser.getgroup("perfdata")
    group.addoption(
        "--perf-dataset",
        metavar="NAME",
        help="run perf tests on this dataset or snapshot instead of their marker's",
    )
    group.addoption("--perf-only", action="store_true", help="run perf tests only")
    group.addoption(
        "--perf-strict",
        action="store_true",
        help="fail perf tests of which something asked for could not be measured",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Set the application's variables before its code is imported."""
    set_variables(early_config)


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker and the plugins for the summary and for redaction."""
    config.addinivalue_line(
        "markers",
        "perf(dataset=None, max_queries=None, max_rows=None): the dataset and the budgets of a "
        "perf test",
    )
    redaction = Redaction()
    learn_passwords(config, redaction)
    config.pluginmanager.register(redaction, REDACTION_PLUGIN)
    if "PERFDATA_COMPARE" in os.environ:
        from perfdata.perf.compare.participant import PARTICIPANT_PLUGIN, take_part

        config.pluginmanager.register(take_part(), PARTICIPANT_PLUGIN)
    else:
        config.pluginmanager.register(Summary(config), SUMMARY_PLUGIN)
    if config.pluginmanager.hasplugin("asyncio"):
        config.pluginmanager.register(_asyncio_fixtures(), "perfdata-asyncio")


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Say that the application's variables lead nowhere, before an error that comes of it."""
    return [f"perfdata: {note}"] if (note := nowhere_note(config)) else []


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Check the markers of perf tests before any test runs; with --perf-only deselect the rest."""
    perf_tests = [item for item in items if _uses_fixtures(item)]
    for item in perf_tests:
        _marker(item)
    if config.getoption("--perf-only"):
        others = [item for item in items if not _uses_fixtures(item)]
        config.hook.pytest_deselected(items=others)
        items[:] = perf_tests


def _uses_fixtures(item: pytest.Item) -> bool:
    return bool(_FIXTURES.intersection(getattr(item, "fixturenames", ())))


def _marker(item: pytest.Item) -> Marker:
    try:
        marker = Marker.merged((mark.args, mark.kwargs) for mark in item.iter_markers("perf"))
        dataset = item.config.getoption("--perf-dataset")
        return marker.on_dataset(dataset) if dataset else marker
    except ConfigError as error:
        raise pytest.UsageError(f"{item.nodeid}: {error}") from error


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Fail a test that passed without anything being checked against its budgets.

    With freeze_time the clock stands while the test runs.
    """
    with _clock(item):
        result = yield
    limits = stated_limits(mark.kwargs for mark in item.iter_markers("perf"))
    _, results = item.stash.get(_results_key, (None, []))
    if limits and not results:
        pytest.fail(
            f"the marker perf sets {', '.join(limits)}, but nothing was measured in this test: "
            "only perf counts statements. Run a function or coroutine function with "
            "perf(scenario), or count a block: with perf.measure(): …, or "
            "async with perf.measure(of=perf_async_session): … "
            f"({limits[0]}=None removes the limit)",
            pytrace=False,
        )
    return result


def _clock(item: pytest.Item) -> AbstractContextManager[None]:
    dataset = getattr(item, "funcargs", {}).get("large_dataset")
    if dataset is None or not _marker(item).freeze_time:
        return nullcontext()
    from perfdata.pytest_plugin.clock import stopped_clock

    return stopped_clock(dataset.as_of)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Attach a test's results to its report, and shorten the tracebacks of perfdata's errors."""
    settings, results = item.stash.get(_results_key, (None, []))
    if call.when == "call":
        item.user_properties += junit_properties(results)
    report = yield
    attach_notes(report, item.config)
    if (results and call.when == "call") or (report.failed and _uses_fixtures(item)):
        attach(report, settings, results)
    option = item.config.getoption
    unchanged = option("tbstyle", "auto") != "auto" or option("fulltrace", default=False)
    if call.excinfo is not None and not unchanged:
        is_perf = _uses_fixtures(item)
        report.longrepr = shortened_error(call, call.excinfo, is_perf=is_perf) or report.longrepr
    return report


@pytest.fixture(scope="session")
def perfdata_settings(pytestconfig: pytest.Config) -> Settings:
    """The settings of the folder that pytest was started in, else of its rootdir."""
    return session_settings(pytestconfig)


@pytest.fixture(scope="session")
def _perf_databases(
    perfdata_settings: Settings, pytestconfig: pytest.Config
) -> Iterator[SessionDatabases]:
    from perfdata.pytest_plugin.databases import SessionDatabases

    announcer = Announcer(pytestconfig)
    if note := unset_note(pytestconfig, perfdata_settings):
        announcer.line(note)
    databases = SessionDatabases(perfdata_settings, announcer)
    yield databases
    databases.close()


@pytest.fixture(scope="session")
def perf_url(_perf_databases: SessionDatabases) -> str:
    """The database of the settings, as a SQLAlchemy URL; the embedded one is started."""
    return _perf_databases.own_url()


@pytest.fixture(scope="session")
def perf_async_driver(perfdata_settings: Settings) -> str:
    """The driver for coroutine functions: asyncpg if PERFDATA_DATABASE_URL names it."""
    asyncpg = "+asyncpg:" in (perfdata_settings.database_url or "")
    return "asyncpg" if asyncpg else "psycopg"


@pytest.fixture
def large_dataset(
    request: pytest.FixtureRequest, perf_url: str, _perf_databases: SessionDatabases
) -> Iterator[Dataset]:
    """The marker's dataset in a clone; it is built and saved if its snapshot is not current."""
    marker = _marker(request.node)
    if marker.freeze_time:
        from perfdata.pytest_plugin.clock import time_machine

        time_machine()  # before a dataset is built
    _perf_databases.use(perf_url)
    name = marker.dataset or only_dataset(_perf_databases.project)
    with _perf_databases.provided(name) as dataset:
        yield dataset


@pytest.fixture
def perf_clone_url(perf_url: str, large_dataset: Dataset, _perf_databases: SessionDatabases) -> str:  # noqa: ARG001
    """The test's own clone of the dataset, as a SQLAlchemy URL on psycopg."""
    return _perf_databases.current.url if _perf_databases.current else perf_url


@pytest.fixture
def perf_engine(perf_clone_url: str) -> Iterator[Engine]:
    """A SQLAlchemy engine on the clone, without prepared statements, JIT or parallel workers."""
    from perfdata.perf.capture.connections import make_engine

    engine = make_engine(perf_clone_url)
    yield engine
    engine.dispose()


@pytest.fixture
def perf_session(perfdata_settings: Settings, perf_engine: Engine) -> Iterator[Session]:
    """A Session in a transaction that is rolled back after the test, including its commits."""
    from perfdata.pytest_plugin.session_classes import session_class

    kind = session_class(perfdata_settings)
    with perf_engine.connect() as connection, connection.begin() as transaction:
        with kind(bind=connection, join_transaction_mode="create_savepoint") as session:
            yield session
        transaction.rollback()


@pytest.fixture
def perf_async_session() -> None:
    """An AsyncSession; this one raises an error without pytest-asyncio."""
    raise ConfigError("perf_async_session needs pytest-asyncio: pip install pytest-asyncio")


def _asyncio_fixtures() -> object:
    """Make the plugin with the fixtures that need pytest-asyncio's decorator."""
    import pytest_asyncio

    class AsyncioFixtures:
        @pytest_asyncio.fixture
        async def perf_async_session(
            self,
            perf_clone_url: str,
            perf_async_driver: str,
            perfdata_settings: Settings,
        ) -> AsyncIterator[AsyncSession]:
            """An AsyncSession in a transaction that is rolled back after the test."""
            from perfdata.perf.capture.connections import make_async_engine
            from perfdata.pytest_plugin.session_classes import async_session_class

            kind = async_session_class(perfdata_settings)
            engine = make_async_engine(perf_clone_url, perf_async_driver)
            async with engine.connect() as connection:
                transaction = await connection.begin()
                mode = "create_savepoint"
                async with kind(bind=connection, join_transaction_mode=mode) as session:
                    yield session
                await transaction.rollback()
            await engine.dispose()

    return AsyncioFixtures()


@pytest.fixture
def _perf_database(
    perfdata_settings: Settings,
    large_dataset: Dataset,
    perf_clone_url: str,
    perf_async_driver: str,
    _perf_databases: SessionDatabases,
) -> ScenarioDatabase:
    """The database that scenarios run on, and the source of further clones."""
    from perfdata.perf.scenario.recorder import ScenarioDatabase
    from perfdata.pytest_plugin.session_classes import async_session_class

    current = _perf_databases.current
    no_clones = current.no_clones if current else "the project overrides large_dataset"
    return ScenarioDatabase(
        perf_clone_url,
        perfdata_settings.root,
        None if no_clones else _perf_databases,
        no_clones,
        perf_async_driver,
        async_session_class(perfdata_settings),
        _perf_databases.data(large_dataset.name) if current else {},
    )


@pytest.fixture
def perf(
    request: pytest.FixtureRequest,
    perfdata_settings: Settings,
    large_dataset: Dataset,
    perf_session: Session,
    _perf_databases: SessionDatabases,
    _perf_database: ScenarioDatabase,
    benchmark: Any,
) -> Iterator[Perf]:
    """Run a scenario: ``perf(scenario, *args, **kwargs)``, or count a block: ``perf.measure()``."""
    from perfdata.perf.scenario.perf import Perf

    _, results = request.node.stash.setdefault(_results_key, (perfdata_settings, []))
    if _marker(request.node).freeze_time:
        from perfdata.pytest_plugin.clock import check_timer

        check_timer(benchmark)
    timer = _comparing(request, perfdata_settings, large_dataset) or benchmark
    others = _others(request, large_dataset, _perf_databases) if _perf_database.databases else ()
    options = _options(request, perfdata_settings, large_dataset, others)
    judge = _judge(request, perfdata_settings)
    perf_object = Perf(perf_session, timer, options, _perf_database, judge, results)
    yield perf_object
    perf_object.close()
    # pytest-benchmark warns about tests that time nothing: those that only count, or fail early.
    benchmark.skipped = True


def _comparing(
    request: pytest.FixtureRequest, settings: Settings, dataset: Dataset
) -> RoundTimer | None:
    """Return the timer of a comparison, if this run takes part in one."""
    from perfdata.perf.compare.participant import PARTICIPANT_PLUGIN
    from perfdata.snapshot.store import find_snapshot

    participant = request.config.pluginmanager.get_plugin(PARTICIPANT_PLUGIN)
    if participant is None:
        return None
    digest = find_snapshot(dataset.name, settings).manifest.body.sha256
    timer: RoundTimer = participant.timer(request.node.nodeid, digest)
    return timer


def _judge(request: pytest.FixtureRequest, settings: Settings) -> Judge:
    from perfdata.perf.gate.verdict import Judge

    # Without a terminal, as in xdist's workers, the width is COLUMNS, or 80.
    width = request.config.get_terminal_writer().fullwidth
    strict = request.config.getoption("--perf-strict")
    threshold = _marker(request.node).threshold
    # --perf-dataset has tests of different datasets measure one, with one baseline.
    one_dataset = request.config.getoption("--perf-dataset")
    measured = {} if one_dataset else request.config.stash.setdefault(_measured_key, {})
    return Judge(settings.root, request.path.parent, threshold, width, strict, measured)


def _others(
    request: pytest.FixtureRequest, dataset: Dataset, databases: SessionDatabases
) -> tuple[str, ...]:
    """Return the other datasets for the test's growth; none without max_growth."""
    from perfdata.perf.gate.growth import other_datasets

    marker = _marker(request.node)
    if marker.budgets.max_growth is None:
        return ()
    others = other_datasets(dataset, marker.growth, databases.project)
    for name in others if marker.freeze_time else ():
        databases.prepare(name)  # while the clock goes: templates are removed by their age
    return others


def _options(
    request: pytest.FixtureRequest, settings: Settings, dataset: Dataset, others: tuple[str, ...]
) -> ScenarioOptions:
    from perfdata.perf.scenario.recorder import ScenarioOptions

    item, marker = request.node, _marker(request.node)
    timing = item.get_closest_marker("benchmark")
    given = timing.kwargs if timing else {}
    default = request.config.getoption
    return ScenarioOptions(
        name=item.name.removeprefix("test_"),
        test=item.nodeid,
        dataset=dataset,
        budgets=marker.budgets,
        min_rounds=int(given.get("min_rounds") or default("benchmark_min_rounds")),
        max_time_s=float(given.get("max_time") or default("benchmark_max_time")),
        on=marker.on,
        keyword=marker.session,
        own_packages=(*settings.own_packages, *marker.own_packages),
        scenario=marker.name,
        parameters=item.callspec.id if hasattr(item, "callspec") else "",
        others=others,
    )

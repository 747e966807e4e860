"""Pytest fixtures and the marker ``perf`` over the library.

Each fixture may be overridden by a project's own conftest:

    perfdata_settings  (session)  the Settings that hold in the current folder
    perf_url           (session)  the database, as a SQLAlchemy URL on psycopg
    perf_engine        (session)  an engine on it whose plans stay the same from run to run
    large_dataset                 the marker's dataset, made present in that database
    perf_session                  a Session in a transaction that is rolled back after the test
    perf                          runs a scenario, counts and times it (perfdata.perf.room.Perf)

An own perf_session requests large_dataset (which must be loaded before a transaction locks its
tables) and perf_engine, and joins a connection's transaction with "create_savepoint".

``@pytest.mark.perf(dataset="100_offices", max_queries=…, max_rows=…)`` stands on tests, classes
and modules; the nearest counts. Nothing heavy is imported before a fixture needs it: every pytest
of an environment that has perfdata loads this module.
"""

from __future__ import annotations

import dataclasses
from contextlib import contextmanager
from datetime import date
from typing import TYPE_CHECKING, Any

import pytest

from perfdata.config import Settings
from perfdata.errors import BudgetExceededError, ConfigError, PerfdataError
from perfdata.perf.junit import properties
from perfdata.perf.marker import Marker
from perfdata.perf.summary import SUMMARY_PLUGIN, Announcer, Summary, attach, shown_path

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Generator, Iterator
    from pathlib import Path

    from sqlalchemy import Engine
    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import Session

    from perfdata.database.target import Target
    from perfdata.dataset import Dataset, TableRows
    from perfdata.perf.model import ScenarioResult
    from perfdata.perf.room import Perf, Task
    from perfdata.snapshot.provide import Built, Provided

_FIXTURES = {"large_dataset", "perf", "perf_async_session", "perf_session"}
# Where the results of a test go, and what they are.
_results_key = pytest.StashKey[tuple["Path", list["ScenarioResult"]]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options that say on which dataset perf tests run, and that only they run."""
    group = parser.getgroup("perfdata")
    group.addoption(
        "--perf-dataset",
        metavar="NAME",
        help="run perf tests on this dataset or snapshot, not on the one that their marker names",
    )
    group.addoption("--perf-only", action="store_true", help="run no test that is not a perf test")


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker, and what sums up the session."""
    config.addinivalue_line(
        "markers",
        'perf(dataset="100_offices", max_queries=None, max_rows=None): the dataset that a perf '
        "test runs on, and what its scenario may do at most",
    )
    config.pluginmanager.register(Summary(config), SUMMARY_PLUGIN)
    if config.pluginmanager.hasplugin("asyncio"):
        config.pluginmanager.register(_asyncio_fixtures(), "perfdata-asyncio")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Check the markers of perf tests before any test runs; leave the others out if asked to."""
    ours = [item for item in items if _uses_fixtures(item)]
    for item in ours:
        _marker(item)
    if config.getoption("--perf-only"):
        config.hook.pytest_deselected(items=[one for one in items if not _uses_fixtures(one)])
        items[:] = ours


def _uses_fixtures(item: pytest.Item) -> bool:
    return bool(_FIXTURES.intersection(getattr(item, "fixturenames", ())))


def _marker(item: pytest.Item) -> Marker:
    try:
        marker = Marker.merged((one.args, one.kwargs) for one in item.iter_markers("perf"))
        dataset = item.config.getoption("--perf-dataset")
        return dataclasses.replace(marker, dataset=dataset) if dataset else marker
    except ConfigError as error:
        raise pytest.UsageError(f"{item.nodeid}: {error}") from error


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Attach a test's results to its report, and show perfdata's errors without a traceback."""
    home, results = item.stash.get(_results_key, (None, []))
    if call.when == "call":
        item.user_properties += properties(results)
    report = yield
    if (results and call.when == "call") or (report.failed and _uses_fixtures(item)):
        attach(report, home, results)
    traceback_style = item.config.getoption("tbstyle", "auto")
    if call.excinfo is not None and traceback_style == "auto" and _speaks_for_itself(call):
        report.longrepr = call.excinfo.getrepr(style="value")
    return report


def _speaks_for_itself(call: pytest.CallInfo[None]) -> bool:
    """Tell whether an error's message is all that there is to know: no line of code is to blame."""
    error = call.excinfo.value if call.excinfo else None
    return isinstance(error, PerfdataError if call.when == "setup" else BudgetExceededError)


@pytest.fixture(scope="session")
def perfdata_settings() -> Settings:
    """The settings that hold in the current folder."""
    return Settings.load()


@pytest.fixture(scope="session")
def _perf_datasets(perfdata_settings: Settings, pytestconfig: pytest.Config) -> _Datasets:
    return _Datasets(perfdata_settings, Announcer(pytestconfig))


@pytest.fixture(scope="session")
def perf_url(_perf_datasets: _Datasets) -> str:
    """The database of the settings, as a SQLAlchemy URL; the embedded one is started."""
    return _perf_datasets.own_url()


@pytest.fixture(scope="session")
def perf_engine(perf_url: str) -> Iterator[Engine]:
    """A SQLAlchemy engine on perf_url, with no prepared statements, JIT or parallel workers."""
    from perfdata.perf.engine import make_engine

    engine = make_engine(perf_url)
    yield engine
    engine.dispose()


@pytest.fixture
def large_dataset(
    request: pytest.FixtureRequest, perf_url: str, _perf_datasets: _Datasets
) -> Iterator[Dataset]:
    """The marker's dataset, restored when its snapshot is current, else built and saved."""
    _perf_datasets.use(perf_url)
    with _perf_datasets.provided(_marker(request.node).dataset) as dataset:
        yield dataset


@pytest.fixture
def perf_session(
    perf_engine: Engine,
    large_dataset: Dataset,  # noqa: ARG001  loaded before the transaction locks a table
) -> Iterator[Session]:
    """A Session in a transaction that is rolled back after the test, whatever it commits."""
    from sqlalchemy.orm import Session

    with perf_engine.connect() as connection, connection.begin() as transaction:
        with Session(connection, join_transaction_mode="create_savepoint") as session:
            yield session
        transaction.rollback()


@pytest.fixture
def perf_async_session() -> None:
    """An AsyncSession; pytest-asyncio's presence puts the real one in the place of this."""
    raise ConfigError("perf_async_session needs pytest-asyncio: pip install pytest-asyncio")


def _asyncio_fixtures() -> object:
    """Make the plugin with the fixtures that only pytest-asyncio's own decorator can make."""
    import pytest_asyncio

    class AsyncioFixtures:
        @pytest_asyncio.fixture
        async def perf_async_session(
            self,
            perf_url: str,
            large_dataset: Dataset,  # noqa: ARG002  loaded before the transaction locks a table
        ) -> AsyncIterator[AsyncSession]:
            """An AsyncSession in a transaction that is rolled back after the test."""
            from sqlalchemy.ext.asyncio import AsyncSession

            from perfdata.perf.engine import make_async_engine

            engine = make_async_engine(perf_url)
            async with engine.connect() as connection:
                transaction = await connection.begin()
                mode = "create_savepoint"
                async with AsyncSession(connection, join_transaction_mode=mode) as session:
                    yield session
                await transaction.rollback()
            await engine.dispose()

    return AsyncioFixtures()


@pytest.fixture
def perf(
    request: pytest.FixtureRequest,
    perfdata_settings: Settings,
    large_dataset: Dataset,
    perf_session: Session,
    benchmark: Any,
) -> Iterator[Perf]:
    """Runs a scenario: ``perf(scenario, *args, **kwargs)``; counts a block: ``perf.measure()``."""
    from perfdata.perf.room import Perf

    _, results = request.node.stash.setdefault(_results_key, (perfdata_settings.home, []))
    yield Perf(perf_session, benchmark, _task(request, large_dataset), results.append)
    # pytest-benchmark warns of tests that time nothing: those that only count, or failed before.
    benchmark.skipped = True


def _task(request: pytest.FixtureRequest, dataset: Dataset) -> Task:
    from perfdata.perf.room import Task

    item = request.node
    marker = item.get_closest_marker("benchmark")
    options = marker.kwargs if marker else {}
    default = request.config.getoption
    return Task(
        name=item.name.removeprefix("test_"),
        test=item.nodeid,
        dataset=dataset,
        budgets=_marker(item).budgets,
        min_rounds=int(options.get("min_rounds") or default("benchmark_min_rounds")),
        max_time_s=float(options.get("max_time") or default("benchmark_max_time")),
    )


class _SecretUrl(str):
    """A URL that a failing test's output shows without its password."""

    __slots__ = ()

    def __repr__(self) -> str:
        """Show the URL with stars in the place of the password."""
        from sqlalchemy import make_url

        return repr(make_url(str(self)).render_as_string(hide_password=True))


class _Datasets:
    """Keeps a database loaded with what the tests of a session ask for.

    It is loaded again for another dataset, and when anything was written since, by whomever: also
    a write that was rolled back leaves the tables laid out in another way.
    """

    def __init__(self, settings: Settings, announcer: Announcer) -> None:
        self._settings = settings
        self._announcer = announcer
        self._target: Target | None = None
        self._loaded: tuple[str, str] | None = None
        self._seen: set[str] = set()

    def own_url(self) -> str:
        """Make the database of the settings ready, and return its URL."""
        from perfdata.database.url import make_url

        return _SecretUrl(make_url(self._open(self._settings).conninfo, "psycopg"))

    def use(self, url: str) -> None:
        """Load datasets into the database of ``url`` from now on."""
        from perfdata.database.connection import normalise_url

        if self._target is None or normalise_url(self._target.conninfo) != normalise_url(url):
            self._open(dataclasses.replace(self._settings, database_url=url))

    @contextmanager
    def provided(self, name: str) -> Iterator[Dataset]:
        """Hold the database, with a dataset in it, against other perf tests of the same home."""
        target = self._target or self._open(self._settings)
        with self._alone():
            if self._loaded != (name, _last_write(target)):
                self._load(target, name)
                self._loaded = (name, _last_write(target))
            yield _definition(target, name)

    def _open(self, settings: Settings) -> Target:
        from perfdata.database.target import open_target

        self._loaded = None
        self._target = open_target(settings, self._announcer.report)
        return self._target

    def _load(self, target: Target, name: str) -> None:
        """Restore a dataset; one that was built too, to lie as it will in every later run."""
        from perfdata.snapshot.provide import provide_dataset

        provided = provide_dataset(target, name, report=self._announcer.report)
        if provided.built is not None:
            self._announcer.line(_built_line(provided.built, provided.reason))
            provided = provide_dataset(target, name, build=False, report=self._announcer.report)
        again = ", as something was written" if name in self._seen else ""
        self._announcer.line(_restored_line(provided) + again)
        self._seen.add(name)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        from filelock import FileLock, Timeout

        lock = FileLock(self._settings.make_home() / "perf.lock")
        try:
            lock.acquire(timeout=0.5)
        except Timeout:
            self._announcer.line(f"waiting for another perf test on {self._settings.home}")
            lock.acquire()
        try:
            yield
        finally:
            lock.release()


def _last_write(target: Target) -> str:
    """Return what changes whenever a transaction of the server that wrote something ends."""
    from perfdata.database.connection import open_link

    with open_link(target.conninfo) as link:
        return str(link.value("SELECT pg_snapshot_xmax(pg_current_snapshot())::text"))


def _definition(target: Target, name: str) -> Dataset:
    """Return a dataset; one for a snapshot that no dataset stands behind is made up.

    Its ``as_of`` is the day on which the snapshot was created.
    """
    from perfdata.dataset import Dataset
    from perfdata.snapshot.store import find_snapshot

    project = target.project
    if project is not None and (found := project.find_dataset(name)):
        return found

    def generate(dataset: Dataset) -> Iterator[TableRows]:
        raise ConfigError(f"{dataset.name} is a snapshot: no dataset makes its rows")

    manifest = find_snapshot(name, target.settings).manifest
    day = date.fromisoformat((manifest.as_of or manifest.created_at)[:10])
    return Dataset(name=name, generate=generate, as_of=day, description=manifest.description)


def _built_line(built: Built, reason: str) -> str:
    rows = f"{sum(built.rows.values()):,} rows in {built.duration_s:.2f} s"
    saved = f", saved {shown_path(built.snapshot.path)}" if built.snapshot else ""
    return f"built {built.name} ({reason}): {rows}{saved}"


def _restored_line(provided: Provided) -> str:
    restored = provided.restored
    if restored is None:
        return f"{provided.name} was not restored"
    rows = sum(restored.rows.values())
    return f"restored {provided.name}: {rows:,} rows in {restored.duration_s:.2f} s"

"""Perf tests of the engine's queries, on asyncpg."""

import pytest
from engine.queries import failed_runs, latest_run

pytestmark = pytest.mark.perf(dataset="200_flows")


@pytest.fixture(scope="session")
def perf_async_driver():
    return "asyncpg"


@pytest.mark.perf(max_queries=1)
def test_failed_runs(perf):
    async def scenario(session):
        return await failed_runs(session)

    assert len(perf(scenario)) == 20


@pytest.mark.perf(max_queries=1)
def test_latest_run(perf):
    async def scenario(session):
        return await latest_run(session, "flow 0007")

    assert perf(scenario) in {"done", "failed"}

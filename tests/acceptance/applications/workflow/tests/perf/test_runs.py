"""Perf tests of the engine's queries, on asyncpg."""

import pytest
from engine.queries import failed_runs, latest_run, states_of_flows

pytestmark = pytest.mark.perf(dataset="200_flows")


@pytest.fixture(scope="session")
def perf_async_driver():
    return "asyncpg"


@pytest.mark.perf(max_queries=1)
def test_failed_runs(perf):
    assert len(perf(failed_runs)) == 20


@pytest.mark.perf(max_queries=1)
def test_latest_run(perf):
    assert perf(latest_run, "flow 0007") in {"done", "failed"}


@pytest.mark.perf(max_queries=20)
def test_states(perf):
    assert len(perf(states_of_flows)) == 12

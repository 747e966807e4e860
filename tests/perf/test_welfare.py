"""The welfare scenarios on 100 offices, each with what it may do at most, and its baseline.

Budgets are round numbers above what is accepted: they stand for what a scenario is for, the
baselines in ``baselines`` for what it does.
"""

from __future__ import annotations

from datetime import UTC, datetime, time
from typing import TYPE_CHECKING

import pytest

from perfdata.welfare.scenarios import (
    deadline_alerts,
    office_dashboard,
    overdue_report,
    renew_cycle,
    search_recipients,
    staff_directory,
    withdraw_office,
)

if TYPE_CHECKING:
    import uuid

    from perfdata import Perf

pytestmark = pytest.mark.perf(dataset="100_offices")


# From 10_offices, whose offices are smaller too, recipients grow by 100 where all rows do by 78.
@pytest.mark.perf(max_queries=4, max_buffers=12_000, max_temp_blocks=0, max_growth=1.2)
def test_deadline_alerts(perf: Perf) -> None:
    assert perf(deadline_alerts, as_of=perf.dataset.as_of)


@pytest.mark.perf(dataset="500_offices", max_queries=4, max_memory_mb=50)
def test_deadline_alerts_at_500_offices(perf: Perf) -> None:
    """Four queries and 50 MB at five times the offices: the original took two an office."""
    assert perf(deadline_alerts, as_of=perf.dataset.as_of)


@pytest.mark.perf(max_queries=2, max_rows=25, max_buffers=1_200)
def test_office_dashboard(perf: Perf, office_id: uuid.UUID) -> None:
    page = perf(office_dashboard, office_id=office_id, as_of=perf.dataset.as_of)
    assert page.total == perf.dataset.parameters["recipients_per_office"]


@pytest.mark.perf(max_queries=1, max_rows=50, max_buffers=200)
def test_search_recipients(perf: Perf) -> None:
    assert perf(search_recipients, kana="さとう")


@pytest.mark.perf(max_queries=1, max_buffers=250, max_temp_blocks=0, max_growth=1.1)
def test_overdue_report(perf: Perf) -> None:
    assert perf(overdue_report, as_of=perf.dataset.as_of)


@pytest.mark.perf(max_queries=2, max_buffers=120)
def test_staff_directory(perf: Perf) -> None:
    assert 0 < len(perf(staff_directory)) <= 50


@pytest.mark.perf(max_queries=3, max_rows=3, max_buffers=100)
def test_renew_cycle(perf: Perf, cycle_id: int) -> None:
    renewal = perf(renew_cycle, cycle_id=cycle_id, as_of=perf.dataset.as_of)
    assert renewal.closed_id == cycle_id


@pytest.mark.perf(max_queries=2, max_buffers=400)
def test_withdraw_office(perf: Perf, office_id: uuid.UUID) -> None:
    at = datetime.combine(perf.dataset.as_of, time(12), UTC)
    assert perf(withdraw_office, office_id=office_id, at=at).office_id == office_id

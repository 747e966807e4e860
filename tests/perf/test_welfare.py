"""The welfare scenarios on 100 offices, each with the number of queries that it may send.

Reads come first: after a test that writes, the dataset is restored for the next.
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

    from perfdata.perf.room import Perf

pytestmark = pytest.mark.perf(dataset="100_offices")


@pytest.mark.perf(max_queries=4)
def test_deadline_alerts(perf: Perf) -> None:
    assert perf(deadline_alerts, as_of=perf.dataset.as_of)


@pytest.mark.perf(max_queries=2)
def test_office_dashboard(perf: Perf, office_id: uuid.UUID) -> None:
    page = perf(office_dashboard, office_id=office_id, as_of=perf.dataset.as_of)
    assert page.total == perf.dataset.parameters["recipients_per_office"]


@pytest.mark.perf(max_queries=1)
def test_search_recipients(perf: Perf) -> None:
    assert perf(search_recipients, kana="さとう")


@pytest.mark.perf(max_queries=1)
def test_overdue_report(perf: Perf) -> None:
    assert perf(overdue_report, as_of=perf.dataset.as_of)


@pytest.mark.perf(max_queries=2)
def test_staff_directory(perf: Perf) -> None:
    assert 0 < len(perf(staff_directory)) <= 50


@pytest.mark.perf(max_queries=3)
def test_renew_cycle(perf: Perf, cycle_id: int) -> None:
    renewal = perf(renew_cycle, cycle_id=cycle_id, as_of=perf.dataset.as_of)
    assert renewal.closed_id == cycle_id


@pytest.mark.perf(max_queries=2)
def test_withdraw_office(perf: Perf, office_id: uuid.UUID) -> None:
    at = datetime.combine(perf.dataset.as_of, time(12), UTC)
    assert perf(withdraw_office, office_id=office_id, at=at).office_id == office_id
